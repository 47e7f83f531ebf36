"""One threshold moved over a test set: outlines, counts, and a point on ROC, PR and PRO curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike

from destseg_lib.checks import check_maps, check_masks
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.metrics import label_regions
from destseg_lib.widgets.element import (
    Element,
    Values,
    fixed,
    levels_of,
    packed,
    painted,
    pictures,
    runs,
    titles,
)

TOP = 256  # one above the highest level: nothing is flagged


class ThresholdExplorer(Element):
    """Move the threshold; see outlines, counts and the place on three curves.

    Anomaly maps are kept at 256 levels, which a page of this size can carry.

    Attributes:
        level: 0 to 256; a pixel is flagged where its level is at least this.
    """

    _esm = script("threshold")
    level = traitlets.Int(128, min=0, max=TOP).tag(sync=True)

    def __init__(
        self,
        images: ArrayLike,
        maps: ArrayLike,
        masks: ArrayLike,
        names: Sequence[str] | None = None,
        level: int = 128,
        *,
        folded: bool = False,
    ) -> None:
        """Take N images (N, H, W, 3) of uint8, their maps and their masks, (N, H, W) each.

        Folded, the curves and counts are shown once the reader asks for them.

        Raises:
            DeSTSegError: shapes or names disagree, values are not finite, or there are no faulty
                pixels, no normal ones, or more than 255 regions.
        """
        stack = pictures(images, "images")
        scores = check_maps(maps)
        if scores.shape != stack.shape[:3]:
            raise DeSTSegError(
                f"The maps are {scores.shape} and the images {stack.shape[:3]}; an image and its "
                "map must be of the same size."
            )
        regions, count = label_regions(check_masks(masks, scores.shape))
        if not 1 <= count <= 255 or not (regions == 0).any():
            raise DeSTSegError(
                f"The masks show {count} regions; there must be 1 to 255 of them and other, normal "
                "pixels, or there is nothing to explore."
            )
        self._levels, self._low, self._high = levels_of(scores)
        self._regions = regions
        self._sizes = np.bincount(regions.ravel())
        colours, painting = painted(stack)
        data = {
            "label": "Threshold explorer",
            "hint": "Move the threshold. Orange is what it flags, blue what is truly faulty.",
            "colours": packed(colours),
            "images": [packed(image) for image in painting],
            "scores": packed(self._levels),
            "regions": runs(regions),
            "height": stack.shape[1],
            "width": stack.shape[2],
            "low": self._low,
            "high": self._high,
            "names": titles(names, len(stack)),
            "folded": folded,
        }
        super().__init__(data, [(t,) for t in (0, 60, 128, 201, TOP)], level=level)

    def displayed(self, level: Any) -> Values:
        """The values shown at a level, as text."""
        return self.values_at(self._low + (level / 255) * (self._high - self._low), level)

    def values_at(self, threshold: float, level: int | None = None) -> Values:
        """The four counts and five metrics at a score, rounded to one of the levels."""
        if level is None:
            share = (threshold - self._low) / (self._high - self._low or 1.0)
            level = int(np.clip(np.rint(255 * share), 0, TOP))
        flagged = self._levels >= level
        found = np.bincount(self._regions[flagged], minlength=len(self._sizes))
        fp, tp = int(found[0]), int(found[1:].sum())
        negatives, positives = int(self._sizes[0]), int(self._sizes[1:].sum())
        # In the page's order of summation, so that not even the last bit differs.
        overlap = 0.0
        for seen, size in zip(found[1:], self._sizes[1:], strict=True):
            overlap += float(seen) / float(size)
        overlap /= len(self._sizes) - 1
        precision = tp / (tp + fp) if tp + fp else float("nan")
        return {
            "threshold": "above all" if level == TOP else fixed(threshold, 3),
            "tp": str(tp),
            "fp": str(fp),
            "fn": str(positives - tp),
            "tn": str(negatives - fp),
            "recall": fixed(tp / positives, 3),
            "fpr": fixed(fp / negatives, 3),
            "precision": fixed(precision, 3),
            "overlap": fixed(overlap, 3),
        }
