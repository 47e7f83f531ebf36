"""A place of an image compared with all others, at each level of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.widgets.element import Element, Values, fixed, packed, painted, pictures


class SimilarityProbe(Element):
    """Choose a place; see the cosine similarity of its features to those of all places.

    Features travel as whole numbers from -127 to 127, scaled by each place's largest.

    Attributes:
        row: of the chosen pixel.
        column: of the chosen pixel.
    """

    _esm = script("similarity")
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)

    def __init__(self, image: ArrayLike, features: Sequence[ArrayLike]) -> None:
        """Take an image (H, W, 3) of uint8 and its features, (C, h, w) of each level.

        Raises:
            DeSTSegError: the image or a level has another shape, or a value is not finite.
        """
        picture = pictures(np.asarray(image)[None], "image")[0]
        self._height, self._width = picture.shape[:2]
        self._levels = [whole_numbers(level, n) for n, level in enumerate(features, start=1)]
        colours, painting = painted(picture[None])
        data = {
            "label": "Similarity probe",
            "hint": "Bright places look to the teacher like the one you point at.",
            "colours": packed(colours),
            "image": packed(painting),
            "height": self._height,
            "width": self._width,
            "levels": [
                {
                    "vectors": packed(level),
                    "height": level.shape[0],
                    "width": level.shape[1],
                    "channels": level.shape[2],
                }
                for level in self._levels
            ],
        }
        places = ((0.5, 0.5), (0.1, 0.8), (0.9, 0.2), (0.3, 0.3), (0.99, 0.99))
        trials = [(int(y * self._height), int(x * self._width)) for y, x in places]
        super().__init__(data, trials, row=self._height // 2, column=self._width // 2)

    def displayed(self, row: Any, column: Any) -> Values:
        """The values shown for a place, as text."""
        shown: Values = {}
        for number, found in enumerate(self.similarities(row, column), start=1):
            shown[f"mean{number}"] = fixed(float(found.mean()), 3)
            shown[f"least{number}"] = fixed(float(found.min()), 3)
        return shown

    def similarities(self, row: int, column: int) -> list[NDArray[np.float64]]:
        """Cosine similarity (h, w) of every place to the chosen pixel's, one map per level."""
        found = []
        for level in self._levels:
            height, width = level.shape[:2]
            vectors = level.astype(np.int64)
            own = vectors[row * height // self._height, column * width // self._width]
            norms = np.sqrt((own @ own) * (vectors * vectors).sum(axis=2))
            found.append(
                np.divide(vectors @ own, norms, out=np.zeros(norms.shape), where=norms > 0)
            )
        return found


def whole_numbers(level: ArrayLike, number: int) -> NDArray[np.int8]:
    """Features (C, h, w) as (h, w, C) from -127 to 127; cosine similarity hardly notices."""
    values = np.asarray(level, dtype=np.float64)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise DeSTSegError(
            f"Level {number} of the features is {values.shape}; give finite values (C, h, w), "
            "without the batch."
        )
    largest = np.abs(values).max(axis=0)
    scaled = 127 * values / np.where(largest > 0, largest, 1)
    return np.rint(scaled).astype(np.int8).transpose(1, 2, 0)
