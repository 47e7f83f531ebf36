"""The threshold: which score it is, and how often a good image exceeds it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from destseg_lib import DeSTSegError
from destseg_lib.threshold import broken_promise, describe_held_out, threshold_at


@pytest.mark.parametrize(
    ("fpr", "count", "largest"),
    [(0.01, 99, 1), (0.01, 198, 1), (0.01, 199, 2), (0.1, 9, 1), (0.5, 3, 2), (0.29, 99, 29)],
)
def test_it_is_the_kth_largest_score(fpr: float, count: int, largest: int) -> None:
    scores = np.random.default_rng(0).permutation(count) / 7
    threshold = threshold_at(scores, fpr)
    assert threshold is not None
    assert threshold.value == sorted(scores, reverse=True)[largest - 1]
    assert (threshold.fpr, threshold.calibrated_on) == (fpr, count)


@pytest.mark.parametrize(("fpr", "count"), [(0.05, 39), (0.2, 7), (0.01, 150)])
def test_new_good_images_exceed_it_as_often_as_promised_and_no_more(fpr: float, count: int) -> None:
    # Scores of a known distribution: the chance to exceed a threshold t is exp(-t).
    rng = np.random.default_rng(1)
    thresholds = [threshold_at(rng.exponential(size=count), fpr) for _ in range(3000)]
    chances = [math.exp(-threshold.value) for threshold in thresholds if threshold]
    expected = math.floor(fpr * (count + 1) + 1e-9) / (count + 1)
    error = 4 * np.std(chances) / math.sqrt(3000)
    assert np.mean(chances) == pytest.approx(expected, abs=error)
    assert expected <= fpr + 1e-12


@pytest.mark.parametrize(
    ("fpr", "count", "needed"), [(0.01, 98, 99), (0.01, 0, 99), (0.1, 8, 9), (0.03, 5, 33)]
)
def test_a_rate_too_small_for_the_images_is_refused_with_the_number_needed(
    fpr: float, count: int, needed: int
) -> None:
    with pytest.raises(DeSTSegError) as refused:
        threshold_at(np.arange(count), fpr)
    message = str(refused.value)
    assert f"rate of {fpr:g} needs at least {needed} good images" in message
    assert f"but there are {count}." in message
    assert all(option in message for option in ("--holdout", "--good DIR", "--fpr"))
    assert threshold_at(np.arange(needed), fpr) is not None
    with pytest.raises(DeSTSegError):
        threshold_at(np.arange(needed - 1), fpr)


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_a_rate_that_is_not_a_share_is_refused(fpr: float) -> None:
    with pytest.raises(DeSTSegError, match="expected a share between 0 and 1"):
        threshold_at(np.arange(1000), fpr)


def test_without_a_rate_it_is_a_hundredth_or_the_smallest_possible() -> None:
    many, few = threshold_at(np.arange(500), None), threshold_at([3.0, 1.0, 2.0], None)
    assert many is not None and few is not None
    assert many.fpr == 0.01
    assert (few.value, few.fpr) == (3.0, 0.25)
    assert threshold_at([], None) is None


def test_the_number_above_is_as_likely_as_the_warning_says():
    """Brute force: calibrations and good images from one distribution, many times."""
    rng = np.random.default_rng(0)
    threshold, images, warned = threshold_at(np.arange(9), 0.1), 38, 0
    counts = []
    for _ in range(4000):
        scores = rng.random(9 + images)
        counts.append(int((scores[9:] > scores[:9].max()).sum()))
        warned += broken_promise(threshold, counts[-1], images, "images") is not None
    assert warned / 4000 < 0.02  # once in a hundred, or less often as counts are whole
    assert max(counts) > 10  # with nine held-out images so many are no surprise


@pytest.mark.parametrize(
    ("above", "images", "held_out", "fpr", "broken"),
    [
        (33, 38, 9, 0.1, True),  # composite panels of another day
        (72, 100, 9, 0.1, True),
        (2, 38, 9, 0.1, False),
        (0, 38, 9, 0.1, False),
        (0, 0, 9, 0.1, False),
        (12, 100, 99, 0.01, True),
        (1, 100, 99, 0.01, False),
    ],
)
def test_a_promise_that_does_not_hold_is_said(above, images, held_out, fpr, broken):
    threshold = threshold_at(np.arange(held_out), fpr)
    said = broken_promise(threshold, above, images, "photographs")
    assert (said is not None) == broken
    if said is not None:
        assert f"{above} of {images} photographs are above" in said and "--good DIR" in said


@pytest.mark.parametrize(
    ("count", "says"), [(9, "10.0% of false alarms"), (98, "1.0%"), (99, None)]
)
def test_too_few_held_out_images_are_said(count, says):
    assert says is None or says in describe_held_out(count)
    assert (describe_held_out(count) is None) == (says is None)
