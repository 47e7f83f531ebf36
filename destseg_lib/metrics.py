"""The paper's metrics, exact, from one sort of the pixel scores (section 4.1).

Lower a threshold from the highest score to the lowest and count anomalous pixels found, normal
pixels flagged, and the share of each defect covered. ROC, precision-recall, per-region overlap and
instance precision are four readings of those counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

from destseg_lib.checks import (
    as_array,
    check_labels,
    check_maps,
    check_masks,
    check_scores,
    check_share,
    metric_names,
    undefined,
)
from destseg_lib.errors import DeSTSegError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SortedPixels:
    """The counts at T thresholds: every distinct score of an anomalous pixel, highest first.

    Between two of them only normal pixels are passed, so nothing but the false positives change:
    no other threshold is needed to draw any of the curves.

    Attributes:
        thresholds: (T,) descending.
        true_positives: (T,) anomalous pixels at or above the threshold.
        false_positives: (T,) normal pixels at or above it.
        false_positives_above: (T,) normal pixels strictly above it; fewer where scores are tied.
        overlap: (T,) share of a region's pixels at or above it, mean over the regions.
        region_scores: (R,) descending; the score of a region of n pixels is the one at index
            floor(n/2) from high to low: the highest threshold that finds more than half of it.
        positives: anomalous pixels in all.
        negatives: normal pixels in all.
    """

    thresholds: NDArray[np.floating[Any]]
    true_positives: Integers
    false_positives: Integers
    false_positives_above: Integers
    overlap: Floats
    region_scores: NDArray[np.floating[Any]]
    positives: int
    negatives: int


def sort_pixels(maps: ArrayLike, masks: ArrayLike) -> SortedPixels:
    """Sort the scores of a test set once and count at every threshold that matters.

    Args:
        maps: (N, H, W) or (N, 1, H, W) anomaly maps, any finite real values.
        masks: the same shape, 0 or 1; a region is a set of 8-connected ones.

    Raises:
        DeSTSegError: for wrong shapes, non-finite scores or masks that are not 0 or 1.
    """
    stack = check_maps(maps)
    regions, count = label_regions(check_masks(masks, stack.shape))
    anomalous = regions > 0
    # Of the many normal pixels only the values matter; sorted without labels they cost a tenth.
    normal = np.sort(stack[~anomalous])

    order = np.argsort(-stack[anomalous])
    scores = stack[anomalous][order]
    region = regions[anomalous][order] - 1
    last_of_ties = np.flatnonzero(np.append(scores[1:] != scores[:-1], scores.size > 0))
    thresholds = scores[last_of_ties]

    sizes = np.bincount(region, minlength=count)
    # A stable sort by region leaves each region's pixels in order, from high to low.
    by_region = np.argsort(region, kind="stable")
    middle = by_region[np.cumsum(sizes) - sizes + sizes // 2]
    return SortedPixels(
        thresholds=thresholds,
        true_positives=last_of_ties + 1,
        false_positives=normal.size - np.searchsorted(normal, thresholds, side="left"),
        false_positives_above=normal.size - np.searchsorted(normal, thresholds, side="right"),
        overlap=np.cumsum(1 / (count * sizes[region]))[last_of_ties],
        region_scores=np.sort(scores[middle])[::-1],
        positives=scores.size,
        negatives=normal.size,
    )


def label_regions(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected regions of (N, H, W) masks from 1, background 0; and count them."""
    # No neighbours across images, so one call labels the whole stack.
    regions, count = label(masks, np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]))
    return regions, int(count)


def roc(curve: SortedPixels) -> tuple[Floats, Floats]:
    """Corners of the ROC, (2T+2,) false- and true-positive rates from (0, 0) to (1, 1)."""
    _require_both(curve.positives, curve.negatives, "pixels")
    return _corners(curve, curve.true_positives / curve.positives)


def pro(curve: SortedPixels) -> tuple[Floats, Floats]:
    """Corners of the overlap curve, (2T+2,) false-positive rates and mean overlaps."""
    _require_both(curve.positives, curve.negatives, "pixels")
    return _corners(curve, curve.overlap)


def precision(curve: SortedPixels) -> Floats:
    """Share of the pixels at or above each threshold that are anomalous, (T,)."""
    _require_both(curve.positives, curve.negatives, "pixels")
    return curve.true_positives / (curve.true_positives + curve.false_positives)


def instance_precision(curve: SortedPixels) -> Floats:
    """Interpolated pixel precision where 1, 2, ... R regions are found, (R,)."""
    at = np.searchsorted(-curve.thresholds, -curve.region_scores)
    return interpolated(precision(curve)[at])


def pixel_auroc(curve: SortedPixels) -> float:
    """Chance that an anomalous pixel scores above a normal one, a tie counting half."""
    return area(*roc(curve), limit=1.0)


def pixel_ap(curve: SortedPixels) -> float:
    """Average precision: each gain in recall times the precision there."""
    gains = np.diff(curve.true_positives, prepend=0)
    # Not a dot product: BLAS rounds by its number of threads, and a metric must not depend on it.
    return float((gains * precision(curve)).sum()) / curve.positives


def aupro(curve: SortedPixels, limit: float = 0.3) -> float:
    """Area under the overlap curve up to a false-positive rate of ``limit``, divided by it.

    Every threshold counts; the authors' code resamples the curve and differs in the third decimal.
    """
    check_share(limit, "limit")
    return area(*pro(curve), limit=limit) / limit


def iap(curve: SortedPixels) -> float:
    """Instance average precision, the paper's own metric: every defect counts the same."""
    return float(instance_precision(curve).mean())


def iap_at(curve: SortedPixels, recall: float = 0.9) -> float:
    """IAP@k: the precision at the smallest instance recall of at least ``recall``, in (0, 1]."""
    check_share(recall, "recall")
    return float(instance_precision(curve)[recall_index(recall, curve.region_scores.size)])


def image_scores(maps: ArrayLike, top: int = 100) -> Floats:
    """Mean of the ``top`` largest values of each (N, H, W) map (of all, if it has fewer): (N,)."""
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise DeSTSegError(f"An image score is a mean of at least 1 value, but top is {top!r}.")
    stack = check_maps(maps)
    flat = stack.reshape(len(stack), -1)
    first = max(flat.shape[1] - top, 0)
    largest = np.partition(flat, first, axis=1)[:, first:]
    # Sorted, so that equal values give equal sums to the last bit.
    return np.asarray(np.sort(largest, axis=1).mean(axis=1, dtype=np.float64))


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that an anomalous image outscores a normal one: (N,) scores, (N,) labels 0 or 1."""
    values = as_array(scores, "image scores")
    truth = check_labels(labels, None, values.size)
    values = check_scores(values, truth.size)
    _require_both(int(truth.sum()), int((~truth).sum()), "images")
    # To the sort, an image score is a map of one pixel.
    return pixel_auroc(sort_pixels(values[:, None, None], truth[:, None, None]))


def anomaly_metrics(
    maps: ArrayLike,
    masks: ArrayLike | None,
    image_scores: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    fpr_limit: float = 0.3,
    recall: float = 0.9,
    top: int = 100,
) -> dict[str, Any]:
    """Measure a test set at image, pixel and instance level.

    Args:
        maps: (N, H, W) or (N, 1, H, W) anomaly maps, any finite real values.
        masks: the same shape, 0 or 1; None if the set has none, and then ``labels`` are needed.
        image_scores: (N,), or None for the mean of the ``top`` largest values of each map.
        labels: (N,), 1 for an anomalous image; None to take every image with a masked pixel.
        fpr_limit: where AUPRO stops, in (0, 1].
        recall: the instance recall of IAP@k, in (0, 1]; 0.9 gives the key ``iap90``.
        top: how many of a map's values make its image score.

    Returns:
        ``image_auroc``, ``pixel_auroc``, ``pixel_ap``, ``aupro``, ``iap`` and ``iap90``, each in
        [0, 1] or None; ``regions``, their number; ``reasons``, by metric why it is None.

    Raises:
        DeSTSegError: for wrong shapes, non-finite scores, masks or labels that are not 0 or 1, or
            a normal label on an image whose mask shows a defect.

    Example:
        >>> masks = np.zeros((2, 8, 8))
        >>> masks[1, 2:4, 2:4] = 1  # the second image has a defect of four pixels
        >>> maps = np.zeros((2, 8, 8))
        >>> maps[1, 2:4, 2:5] = 0.9  # and the map marks it, with two pixels too many
        >>> found = anomaly_metrics(maps, masks)
        >>> found["image_auroc"], round(found["pixel_ap"], 3), found["regions"]
        (1.0, 0.667, 1)
    """
    names = metric_names(fpr_limit, recall)
    stack = check_maps(maps)
    mask_stack = None if masks is None else check_masks(masks, stack.shape)
    truth = check_labels(labels, mask_stack, len(stack))
    scores = check_scores(_given_or_top(image_scores, stack, top), len(stack))

    found: dict[str, Any] = dict.fromkeys(names)
    reasons: dict[str, str] = {}
    if why := undefined(int(truth.sum()), int((~truth).sum()), "images"):
        reasons["image_auroc"] = why
    else:
        found["image_auroc"] = image_auroc(scores, truth)

    if mask_stack is None:
        reasons |= dict.fromkeys(names[1:], "the set has no masks")
        return {**found, "regions": 0, "reasons": reasons}
    curve = sort_pixels(stack, mask_stack)
    if why := undefined(curve.positives, curve.negatives, "pixels"):
        reasons |= dict.fromkeys(names[1:], why)
    else:
        values = (pixel_auroc(curve), pixel_ap(curve), aupro(curve, fpr_limit), iap(curve))
        found |= dict(zip(names[1:], (*values, iap_at(curve, recall)), strict=True))
    return {**found, "regions": curve.region_scores.size, "reasons": reasons}


def area(x: Floats, y: Floats, limit: float) -> float:
    """Area under the polyline (x, y) in the unit square, x rising from 0 to 1, up to ``limit``."""
    inside = int(np.searchsorted(x, limit, side="right"))
    y = np.append(y[:inside], np.interp(limit, x, y))
    x = np.append(x[:inside], limit)
    # Rounding must not make a perfect map better than perfect.
    return min(float((np.diff(x) * (y[1:] + y[:-1])).sum()) / 2, limit)


def interpolated(precisions: Floats) -> Floats:
    """The best precision at each recall or any higher one; (R,) by rising recall."""
    return np.maximum.accumulate(precisions[::-1])[::-1]


def recall_index(recall: float, regions: int) -> int:
    """Index of the region, by falling score, that first brings the recall to ``recall``."""
    # 0.28 of 25 regions is 7, but 0.28 * 25 is a little more in floating point.
    return max(math.ceil(recall * regions - 1e-9) - 1, 0)


def _corners(curve: SortedPixels, heights: Floats) -> tuple[Floats, Floats]:
    """Two corners per threshold, before its ties and after them, with a straight line between."""
    flagged = np.stack([curve.false_positives_above, curve.false_positives], axis=1).ravel()
    x = np.concatenate([[0.0], flagged / curve.negatives, [1.0]])
    return x, np.concatenate([[0.0, 0.0], np.repeat(heights, 2)])


def _require_both(positives: int, negatives: int, what: str) -> None:
    if why := undefined(positives, negatives, what):
        raise DeSTSegError(f"The metric is undefined: {why}.")


def _given_or_top(scores: ArrayLike | None, stack: ArrayLike, top: int) -> ArrayLike:
    return image_scores(stack, top) if scores is None else scores
