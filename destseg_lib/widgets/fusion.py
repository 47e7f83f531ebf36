"""Fusion by hand: weigh or switch the levels, sum or multiply, and compare with the learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from numpy.typing import ArrayLike, NDArray

from destseg_lib.checks import check_maps, check_masks
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.fusion import distance_map
from destseg_lib.metrics import pixel_ap, pixel_auroc, sort_pixels
from destseg_lib.model import DeSTSeg, quarter, to_tensor
from destseg_lib.teacher import normalise
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

MOST = 4  # the largest weight


class FusionByHand(Element):
    """Fuse the maps of three levels by hand; AUROC and AP follow.

    Each photograph is next to its fused map; a blue line goes around the true defect in both.

    Attributes:
        rule: ``sum``, ``product`` or ``learned``.
        weight1: of level 1, 0 to 4; in a product 0 leaves the level out.
        weight2: of level 2.
        weight3: of level 3.
    """

    _esm = script("fusion")
    rule = traitlets.Enum(["sum", "product", "learned"], "sum").tag(sync=True)
    weight1 = traitlets.Int(1, min=0, max=MOST).tag(sync=True)
    weight2 = traitlets.Int(1, min=0, max=MOST).tag(sync=True)
    weight3 = traitlets.Int(1, min=0, max=MOST).tag(sync=True)

    def __init__(
        self,
        images: ArrayLike,
        levels: Sequence[ArrayLike],
        masks: ArrayLike,
        learned: ArrayLike | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Take N images, three stacks of maps (N, h, w), masks and learned maps.

        Maps and masks are of one size, say a quarter of the photographs', where the method fuses;
        images are (N, h, w, 3) or finer by a whole number: (N, 2h, 2w, 3), for example.

        Raises:
            DeSTSegError: there are not three levels, shapes or names disagree, or the masks
                are all of one kind.
        """
        stack = pictures(images, "images")
        count, (height, width) = len(stack), (1, 1, *np.shape(masks))[-2:]
        fine = max(1, stack.shape[1] // max(1, height))
        if stack.shape[1:3] != (fine * height, fine * width):
            raise DeSTSegError(
                f"The images are {stack.shape} and the masks {np.shape(masks)}; give images of the "
                "masks' size, or two, three, ... times as large."
            )
        truth = check_masks(masks, (count, height, width))
        maps = [check_maps(level) for level in [*levels, *([] if learned is None else [learned])]]
        if len(levels) != 3 or any(level.shape != truth.shape for level in maps):
            raise DeSTSegError(
                f"There are {len(levels)} levels, of shapes {[m.shape for m in maps]}; give three, "
                f"each {truth.shape} like the masks, scaled to one size first."
            )
        if not truth.any() or truth.all():
            raise DeSTSegError("The masks are all of one kind, so there is nothing to rank.")
        quantised = [levels_of(level)[0] for level in maps]
        self._levels, self._truth = quantised[:3], truth
        self._learned = quantised[3] if learned is not None else None
        colours, shown = painted(stack)
        data = {
            "label": "Fusion by hand",
            "hint": "Left the photograph, right the fused map. Blue lines: the true defects.",
            "height": height,
            "width": width,
            "fine": fine,
            "colours": packed(colours),
            "images": [packed(image) for image in shown],
            "masks": runs(truth.astype(np.uint8)),
            "levels": [packed(level) for level in self._levels],
            "learned": "" if self._learned is None else packed(self._learned),
            "names": titles(names, len(stack)),
        }
        last = ("sum", 2, 0, 3) if learned is None else ("learned", 1, 1, 1)
        trials = [("sum", 1, 1, 1), ("product", 1, 1, 1), ("sum", 4, 0, 1), ("product", 0, 1, 1)]
        super().__init__(data, [*trials, last])

    @classmethod
    def of_model(
        cls,
        model: DeSTSeg,
        images: ArrayLike,
        masks: ArrayLike,
        names: Sequence[str] | None = None,
    ) -> FusionByHand:
        """Fuse a trained model's distances of three levels; its final map is the learned one.

        Args:
            model: on the CPU; put into eval mode.
            images: (N, S, S, 3) of uint8, at the size the model was trained at.
            masks: (N, H, W), at least a quarter of that size; a place of the maps is faulty where
                at least half of it is.
            names: one for each image.
        """
        stack = pictures(images, "images")
        inputs = normalise(to_tensor(stack))
        size = quarter(inputs)
        with torch.no_grad():
            teacher, student = model.eval().features(inputs)
            pairs = zip(teacher, student, strict=True)
            levels = [distance_map((t,), (s,), "sum", size)[:, 0].numpy() for t, s in pairs]
            final = model.maps(teacher, student, size).final[:, 0].numpy()
        whole = torch.from_numpy(np.asarray(masks, np.float32))[:, None]
        truth = F.interpolate(whole, size, mode="area")[:, 0] >= 0.5
        return cls(stack, levels, truth.numpy(), final, names)

    def displayed(self, rule: Any, weight1: Any, weight2: Any, weight3: Any) -> Values:
        """The values shown for a setting, as text."""
        curve = sort_pixels(self.fused(rule, (weight1, weight2, weight3)), self._truth)
        return {"auroc": fixed(pixel_auroc(curve), 3), "ap": fixed(pixel_ap(curve), 3)}

    def fused(self, rule: str, weights: tuple[int, int, int]) -> NDArray[np.float64]:
        """The fused maps (N, h, w), whole numbers.

        Raises:
            DeSTSegError: the learned maps are asked for and were not given.
        """
        if rule == "learned":
            if self._learned is None:
                raise DeSTSegError("No learned maps were given; choose sum or product.")
            return self._learned.astype(np.float64)
        parts = zip(weights, (level.astype(np.float64) for level in self._levels), strict=True)
        if rule == "sum":
            return np.asarray(sum(w * level for w, level in parts))
        kept = [level if w else np.ones_like(level) for w, level in parts]
        return np.asarray(np.prod(kept, axis=0))
