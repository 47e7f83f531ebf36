"""The same metrics fed one image at a time: exact, or in bounded memory with a proven error bound.

In bounded memory, scores are counted by the leading bits of their float32 form, which rise with the
value. Bins are in order among themselves; only inside one is the order unknown. Each metric is
therefore computed twice, for the worst and for the best order that the counts allow. The middle of
the two is reported and half their distance bounds the error, for any maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from destseg_lib.checks import (
    as_array,
    check_labels,
    check_maps,
    check_masks,
    check_scores,
    metric_names,
    undefined,
)
from destseg_lib.errors import DeSTSegError
from destseg_lib.metrics import (
    Floats,
    anomaly_metrics,
    area,
    image_auroc,
    image_scores,
    interpolated,
    label_regions,
    recall_index,
    sort_pixels,
)

Range = tuple[float, float]


class ExactMetrics:
    """``anomaly_metrics`` fed one image at a time; keeps every map and mask."""

    def __init__(self) -> None:
        self._images: list[tuple[NDArray[Any], NDArray[Any] | None, float, bool]] = []

    def update(
        self, anomaly_map: NDArray[Any], mask: NDArray[Any] | None, image_score: float, label: bool
    ) -> None:
        """Add one image, (H, W) like all others; ``mask`` is None for all of them or for none."""
        # Without masks only the image scores matter.
        kept = anomaly_map[:1, :1].copy() if mask is None else anomaly_map
        self._images.append((kept, mask, image_score, label))

    def compute(self) -> dict[str, Any]:
        """Return what ``anomaly_metrics`` returns."""
        maps, masks, scores, labels = zip(*self._images, strict=True)
        stacked = None if masks[0] is None else np.stack(masks)
        return anomaly_metrics(np.stack(maps), stacked, scores, labels=labels)


class StreamingMetrics:
    """``anomaly_metrics`` fed one image at a time; keeps counts of scores.

    Memory: 35 MB of bins at 20 bits, for any number of images. It grows by one score per region and
    by a score and a label per image; they are kept exactly.

    A bin of 20 bits spans a relative width of 2^-11. Its pixels count as unordered only if they
    differ: a bin that has seen a single value is a tie, whose order is known, so maps that were
    computed in half precision are measured exactly.

    Args:
        bits: leading bits of the score that choose its bin, 10 to 24; one more doubles the memory
            and halves the bound.
        fpr_limit: where AUPRO stops, in (0, 1].
        recall: the instance recall of IAP@k, in (0, 1].
        top: how many of a map's values make its image score.
    """

    def __init__(
        self, *, bits: int = 20, fpr_limit: float = 0.3, recall: float = 0.9, top: int = 100
    ) -> None:
        self._names = metric_names(fpr_limit, recall)
        if not 10 <= bits <= 24:
            raise DeSTSegError(f"bits must be between 10 and 24, not {bits}.")
        if top < 1:
            raise DeSTSegError(f"An image score is a mean of at least 1 value, but top is {top}.")
        self._bits, self._limit, self._recall, self._top = bits, fpr_limit, recall, top
        self._negatives = np.zeros(2**bits, np.int64)
        self._positives = np.zeros(2**bits, np.int64)
        self._overlap = np.zeros(2**bits)
        self._first = np.full(2**bits, np.nan)
        self._mixed = np.zeros(2**bits, bool)
        self._region_scores: list[float] = []
        self._scores: list[float] = []
        self._labels: list[bool] = []
        self._maskless: int | None = None

    def update(
        self,
        anomaly_map: ArrayLike,
        mask: ArrayLike | None,
        image_score: float | None = None,
        label: bool | int | None = None,
    ) -> None:
        """Add one image; nothing is added if it is refused.

        Args:
            anomaly_map: (H, W) or (1, H, W), any finite real values; sizes may differ.
            mask: the same shape, 0 or 1; None if there is none, and then ``label`` is needed and
                the pixel-level metrics stay undefined.
            image_score: None for the mean of the ``top`` largest values of the map.
            label: 1 for an anomalous image; None to ask the mask.

        Raises:
            DeSTSegError: as ``anomaly_metrics``; it names the image by its place, from 0.
        """
        index = len(self._scores)
        try:
            stack = check_maps(as_array(anomaly_map, "anomaly map")[None])
            masks = None if mask is None else check_masks(as_array(mask, "mask")[None], stack.shape)
            truth = check_labels(None if label is None else [label], masks, 1)
            given = image_scores(stack, self._top) if image_score is None else [image_score]
            score = check_scores(given, 1)
        except DeSTSegError as error:
            raise DeSTSegError(f"Image {index}, counted from 0: {error}") from error
        self._scores.append(float(score[0]))
        self._labels.append(bool(truth[0]))
        if masks is None:
            self._maskless = index if self._maskless is None else self._maskless
        else:
            self._count(stack, masks)

    def compute(self) -> dict[str, Any]:
        """Return what ``anomaly_metrics`` returns, and how far it can be off.

        Returns:
            the same keys, and ``error_bound``: by name, the largest possible absolute difference
            to the exact metric, from the counts alone (None where the metric is None). It is 0 for
            ``image_auroc``.

        Raises:
            DeSTSegError: if no image was added.
        """
        if not self._scores:
            raise DeSTSegError("No image was added, so there is nothing to measure.")
        found: dict[str, Any] = dict.fromkeys(self._names)
        bounds: dict[str, float | None] = dict.fromkeys(self._names)
        reasons: dict[str, str] = {}
        truth = np.array(self._labels)
        if why := undefined(int(truth.sum()), int((~truth).sum()), "images"):
            reasons["image_auroc"] = why
        else:
            found["image_auroc"] = image_auroc(self._scores, truth)
            bounds["image_auroc"] = 0.0

        positives, negatives = int(self._positives.sum()), int(self._negatives.sum())
        why = undefined(positives, negatives, "pixels")
        if self._maskless is not None:
            why = f"image {self._maskless} has no mask"
        if why is None:
            bins = np.flatnonzero(self._negatives + self._positives)[::-1]
            # Both this and the exact sums can lose this much to float64.
            rounding = 4 * float(np.finfo(np.float64).eps) * (positives + bins.size)
            for name, (low, high) in zip(self._names[1:], self._ranges(bins), strict=True):
                found[name] = (low + high) / 2
                bounds[name] = (high - low) / 2 + rounding
        else:
            reasons |= dict.fromkeys(self._names[1:], why)
        regions = 0 if self._maskless is not None else len(self._region_scores)
        return {**found, "regions": regions, "reasons": reasons, "error_bound": bounds}

    def _count(self, scores: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> None:
        regions, count = label_regions(mask)
        bins = self._bins(scores)
        np.add.at(self._negatives, bins[~mask], 1)
        if count:
            sizes = np.bincount(regions[mask])
            np.add.at(self._positives, bins[mask], 1)
            np.add.at(self._overlap, bins[mask], 1 / sizes[regions[mask]])
            self._region_scores.extend(sort_pixels(scores, mask).region_scores.tolist())
        fresh = np.isnan(self._first[bins])
        self._first[bins[fresh]] = scores[fresh]
        self._mixed[bins[self._first[bins] != scores]] = True

    def _bins(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Number of the bin: rises with the score, for float64 too, as rounding keeps the order."""
        with np.errstate(over="ignore"):
            # Adding zero makes -0 the 0 that it equals.
            bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)
        negative = bits >> 31 == 1
        return (np.where(negative, ~bits, bits | 2**31) >> (32 - self._bits)).astype(np.int64)

    def _ranges(self, bins: NDArray[np.int64]) -> tuple[Range, Range, Range, Range, Range]:
        """Lowest and highest value that the counts allow: AUROC, AP, AUPRO, IAP, IAP@k.

        ``bins`` are those in use, from the highest scores down. A metric's curve is known where
        one bin ends and the next begins; both curves rise, so inside a bin it stays in the box
        between the two ends. In a tie it is the box's diagonal.
        """
        tied = ~self._mixed[bins]
        fp = np.cumsum(self._negatives[bins])
        tp = np.cumsum(self._positives[bins])
        overlap = np.cumsum(self._overlap[bins]) / len(self._region_scores)
        fp_before, tp_before = _before(fp), _before(tp)

        rate, share = fp / fp[-1], tp / tp[-1]
        auroc = _area_range(rate, share, tied, 1.0)
        pro = _area_range(rate, overlap, tied, self._limit)

        # At any threshold inside the bin: from one more anomalous pixel and all its normal ones,
        # to all its anomalous pixels and no more normal ones.
        found = np.flatnonzero(tp > tp_before)
        first = (tp_before[found] + 1) / (tp_before[found] + 1 + fp[found])
        last = tp[found] / (tp[found] + fp[found])
        best = np.where(tied[found], last, tp[found] / (tp[found] + fp_before[found]))
        worst = np.where(tied[found], last, first)
        # Precision is concave in the number found, so at worst it averages at least this.
        average = np.where(tied[found], last, (first + last) / 2)
        gains = np.diff(share, prepend=0)[found]
        ap = float((gains * average).sum()), float((gains * best).sum())

        scores = np.sort(self._region_scores)[::-1]
        at = np.searchsorted(-bins[found], -self._bins(scores))
        low, high = interpolated(worst[at]), interpolated(best[at])
        k = recall_index(self._recall, scores.size)
        iap = float(low.mean()), float(high.mean())
        return auroc, ap, pro, iap, (float(low[k]), float(high[k]))


def _before(totals: NDArray[Any]) -> NDArray[Any]:
    """Running totals before each bin."""
    return np.append(np.zeros(1, totals.dtype), totals[:-1])


def _area_range(x: Floats, y: Floats, tied: NDArray[np.bool_], limit: float) -> Range:
    """Mean height of the lowest and the highest curve through the corners (x, y) up to ``limit``.

    Args:
        x: (B,) false-positive rate at the end of each bin.
        y: (B,) height there.
        tied: (B,) whether the bin holds a single value, which makes the curve a straight line.
        limit: where to stop, in (0, 1].
    """
    x0, y0 = _before(x), _before(y)
    corners = np.stack([x0, x], axis=1).ravel()
    low = np.stack([y0, np.where(tied, y, y0)], axis=1).ravel()
    high = np.stack([np.where(tied, y0, y), y], axis=1).ravel()
    return area(corners, low, limit) / limit, area(corners, high, limit) / limit
