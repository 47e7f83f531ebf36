"""The score above which a photograph is called anomalous, from good ones not trained on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from destseg_lib.errors import DeSTSegError

DEFAULT_FPR = 0.01
SURPRISE = 0.01  # a promise is called broken if it would look so bad less often than this


@dataclass(frozen=True)
class Threshold:
    """A score strictly above ``value`` is anomalous; at most ``fpr`` of good images have one."""

    value: float
    fpr: float
    calibrated_on: int


@dataclass(frozen=True)
class AppliedThreshold:
    """A ``Threshold``, and the shares of good and of defective test images that exceed it."""

    value: float
    fpr: float
    calibrated_on: int
    achieved_fpr: float | None
    good_images: int
    detected: float | None


def threshold_at(scores: ArrayLike, fpr: float | None) -> Threshold | None:
    """The threshold that good images exceed with a probability of at most ``fpr``.

    It is the k-th largest of n scores, k = floor(fpr (n + 1)). If a new good image is exchangeable
    with the n, its place among the n + 1 is uniform. So it is among the first k, which means that
    it exceeds the threshold, with probability k / (n + 1) <= fpr (less where scores are tied): on
    average over calibrations, for any distribution of scores.

    Args:
        scores: (n,) of good images that were not trained on.
        fpr: in (0, 1); None means 0.01, or 1 / (n + 1) if that is more.

    Returns:
        None if there are no scores and no rate was given.

    Raises:
        DeSTSegError: the rate is out of range, or too small for n scores to resolve.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if fpr is None:
        if ordered.size == 0:
            return None
        fpr = max(DEFAULT_FPR, 1 / (ordered.size + 1))
    place = place_of(fpr, ordered.size)
    return Threshold(float(ordered[-place]), fpr, ordered.size)


def place_of(fpr: float, count: int) -> int:
    """The place of the threshold for a rate among ``count`` scores, 1 for the largest.

    Raises:
        DeSTSegError: the rate is out of range, or too small for so few scores to resolve.
    """
    if not 0 < fpr < 1:
        raise DeSTSegError(
            f"The false-positive rate is {fpr:g}, expected a share between 0 and 1, such as 0.01."
        )
    # 0.29 of 100 is 29, but 0.29 * 100 is a little less in floating point.
    place = math.floor(fpr * (count + 1) + 1e-9)
    if place < 1:
        needed = math.ceil(1 / fpr - 1e-9) - 1
        raise DeSTSegError(
            f"A false-positive rate of {fpr:g} needs at least {needed} good images that were not "
            f"trained on, but there are {count}. Hold out more in training (--holdout), name more "
            "for prediction (--good DIR), or choose a larger rate (--fpr)."
        )
    return min(place, count)


def apply_threshold(
    threshold: Threshold, scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> AppliedThreshold:
    """Compare (N,) image scores with a threshold; ``labels`` (N,) are True for defective images."""
    exceeds = scores > threshold.value
    good, defective = exceeds[~labels], exceeds[labels]
    return AppliedThreshold(
        **asdict(threshold),
        achieved_fpr=float(good.mean()) if good.size else None,
        good_images=good.size,
        detected=float(defective.mean()) if defective.size else None,
    )


def describe_threshold(threshold: Threshold | None) -> str:
    """One line for the user about the threshold and its calibration."""
    if threshold is None:
        return (
            "no threshold: the run held no good image out; name some with --good DIR, "
            "or train with --holdout 0.1"
        )
    return (
        f"threshold {threshold.value:.4g}: for a false-positive rate of {threshold.fpr:.2%}, "
        f"calibrated on {threshold.calibrated_on} good images"
    )


def broken_promise(threshold: Threshold, above: int, images: int, what: str) -> str | None:
    """What to say if more images exceed the threshold than its promise and chance allow.

    If new good images are exchangeable with the n calibrated on, each exceeds the k-th largest of
    their scores with a probability that is itself beta-distributed, with parameters k and
    n + 1 - k. So the number of those that do is beta-binomial.

    Args:
        threshold: calibrated.
        above: number of images that exceed it.
        images: of so many.
        what: they are called, in the plural.

    Returns:
        None if so many are exceeded at least once in a hundred such sets.
    """
    count = threshold.calibrated_on
    place = place_of(threshold.fpr, count)
    chance = float(betabinom(images, place, count + 1 - place).sf(above - 1))
    if chance >= SURPRISE:
        return None
    return (
        f"warning: {above} of {images} {what} are above the threshold, which promised "
        f"{threshold.fpr:.1%} of good ones (chance gives so many in {chance:.1g} of cases). If "
        "these are good, they differ from the training images (light, focus, camera): calibrate "
        "with predict --good DIR on good photographs taken like them, or train on such"
    )


def describe_held_out(count: int) -> str | None:
    """What to say after training if the held-out images allow no promise of 1 % false alarms."""
    best = 1 / (count + 1)
    if best <= DEFAULT_FPR:
        return None
    needed = math.ceil(1 / DEFAULT_FPR) - 1
    return (
        f"number of good images held out: {count}. They can promise {best:.1%} of false alarms at "
        f"best; {DEFAULT_FPR:.0%} needs {needed} (--holdout, or --good DIR when predicting)"
    )
