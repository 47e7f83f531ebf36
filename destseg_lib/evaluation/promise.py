"""Whether a threshold's promise is kept: the false alarms that it allows, and those that come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, betabinom

from destseg_lib.config import TOP_PIXELS
from destseg_lib.errors import DeSTSegError
from destseg_lib.metrics import image_scores
from destseg_lib.model import PredictedMaps
from destseg_lib.threshold import place_of, threshold_at

LEVEL = 0.95
SCORES = ("final", "product", "both")  # what an image score may be made of


@dataclass(frozen=True)
class PromiseKept:
    """A false-alarm rate that was promised, and the one that new good images gave.

    Attributes:
        promised: the rate.
        calibrated_on: so many good images.
        above: number of new good images that exceed the threshold.
        images: of so many.
        low: lower end of the Clopper-Pearson interval of the achieved rate.
        high: its upper end.
        contained_by_chance: how often such an interval contains the promise if new images are
            exchangeable with those calibrated on. It is less than the interval's level, as the
            threshold itself is drawn.
    """

    promised: float
    calibrated_on: int
    above: int
    images: int
    low: float
    high: float
    contained_by_chance: float

    @property
    def achieved(self) -> float:
        """The rate of false alarms on the new images."""
        return self.above / self.images

    @property
    def contained(self) -> bool:
        """Whether the interval contains the promise."""
        return self.low <= self.promised <= self.high


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share: it covers the true one at least so often.

    Raises:
        DeSTSegError: there is no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or not trials:
        raise DeSTSegError(f"{successes} of {trials} is no share; give one trial or more")
    rest = (1 - level) / 2
    low = beta.ppf(rest, successes, trials - successes + 1) if successes else 0.0
    high = beta.isf(rest, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def check_promise(
    held_out: ArrayLike, new: ArrayLike, fpr: float | None = None, level: float = LEVEL
) -> PromiseKept:
    """Hold a promise against new good images.

    Args:
        held_out: (H,) scores of good images, to calibrate on.
        new: (N,) scores of good images of a test set.
        fpr: the promise; None is the best that ``threshold_at`` makes.
        level: of the interval.

    Raises:
        DeSTSegError: there are no scores, or too few to resolve the rate.
    """
    threshold, scores = threshold_at(held_out, fpr), np.asarray(new, dtype=np.float64)
    if threshold is None or not scores.size:
        raise DeSTSegError(
            "a promise needs scores of held-out and of new good images; one is empty"
        )
    above, images, count = (
        int((scores > threshold.value).sum()),
        scores.size,
        threshold.calibrated_on,
    )
    place = place_of(threshold.fpr, count)
    low, high = zip(*(binomial_interval(a, images, level) for a in range(images + 1)), strict=True)
    contain = (np.array(low) <= threshold.fpr) & (threshold.fpr <= np.array(high))
    chances = betabinom(images, place, count + 1 - place).pmf(np.arange(images + 1))
    return PromiseKept(
        threshold.fpr, count, above, images, low[above], high[above], float(chances[contain].sum())
    )


def scores_of_maps(batches: Iterable[PredictedMaps]) -> dict[str, NDArray[np.float64]]:
    """Three image scores (N,) of N images, which come in batches of both maps.

    ``final`` and ``product`` are the mean of a map's largest values; ``both`` is their geometric
    mean, which orders images the same whatever the maps' scales are.
    """
    pairs = [
        (image_scores(maps.final, TOP_PIXELS), image_scores(maps.student, TOP_PIXELS))
        for maps in batches
    ]
    final, product = (np.concatenate([np.empty(0), *scores]) for scores in zip(*pairs, strict=True))
    return dict(zip(SCORES, (final, product, np.sqrt(final * product)), strict=True))
