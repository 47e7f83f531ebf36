"""A laboratory for synthetic anomalies: noise, its cells and rotation, threshold, texture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import traitlets
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from destseg_lib.corruption import fade
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.widgets.element import Element, Values, fixed, packed, pictures

LINES = 33  # lattice lines along an axis: up to 32 cells, as in the paper
DIGITS = 6  # of an angle in the page


class CorruptionLab(Element):
    """Turn every knob of a synthetic anomaly, from the same noise each time (section 3.1).

    Attributes:
        down: log2 of the cells from top to bottom, 0 to 5.
        across: log2 of the cells from left to right, 0 to 5.
        rotation: degrees.
        threshold: hundredths; a pixel is masked where the noise is above it.
        opacity: per cent, the texture's share inside the mask.
        texture: the name of one of the textures.
        turn: degrees by which the gradient in the middle of the lattice is turned, a multiple of 5;
            its arrow can be dragged in the picture of the noise.
    """

    _esm = script("corruption")
    down = traitlets.Int(2, min=0, max=5).tag(sync=True)
    across = traitlets.Int(2, min=0, max=5).tag(sync=True)
    rotation = traitlets.Int(0, min=-90, max=90).tag(sync=True)
    threshold = traitlets.Int(50, min=-20, max=100).tag(sync=True)
    opacity = traitlets.Int(60, min=0, max=100).tag(sync=True)
    texture = traitlets.Unicode().tag(sync=True)
    turn = traitlets.Int(0, min=-180, max=180).tag(sync=True)

    def __init__(
        self,
        image: NDArray[np.uint8],
        textures: Mapping[str, NDArray[np.uint8]],
        generator: np.random.Generator,
    ) -> None:
        """Take an image and textures by name, (S, S, 3) of uint8 each; gradients are drawn here.

        Raises:
            DeSTSegError: the image is not square, or a texture is missing or of another shape.
        """
        stack = pictures(np.asarray(image)[None], "image")
        size = stack.shape[1]
        if stack.shape[2] != size or not textures:
            raise DeSTSegError(
                f"The image is {stack.shape[1]} x {stack.shape[2]} and there are {len(textures)} "
                "textures; give a square image and at least one texture."
            )
        for name, filling in textures.items():
            if pictures(np.asarray(filling)[None], f"texture {name!r}").shape != stack.shape:
                raise DeSTSegError(
                    f"The texture {name!r} is {filling.shape} and the image {stack.shape[1:]}; "
                    "cut or scale it to the image's size."
                )
        self._image = stack[0].astype(np.float64)
        self._textures = {name: np.asarray(t, np.float64) for name, t in textures.items()}
        self._angles = generator.uniform(0, 2 * math.pi, (LINES, LINES)).round(DIGITS)
        names = list(textures)
        data = {
            "label": "Corruption laboratory",
            "hint": "Drag the tip of the orange arrow in the noise, or move a slider.",
            "size": size,
            "lines": LINES,
            "angles": self._angles.ravel().tolist(),
            "image": packed(stack[0]),
            "names": names,
            "textures": [packed(np.asarray(filling)) for filling in textures.values()],
        }
        trials = [(2, 2, 0, 50, 60), (0, 5, 0, 20, 100), (5, 3, 45, 35, 30), (1, 1, -90, 0, 85),
                  (3, 4, 10, 95, 0)]  # fmt: skip
        turns = (0, 90, -45, 180, 5)
        filled = [
            (*trial, names[n % len(names)], turn)
            for n, (trial, turn) in enumerate(zip(trials, turns, strict=True))
        ]
        super().__init__(data, filled, texture=names[0])

    def displayed(
        self,
        down: Any,
        across: Any,
        rotation: Any,
        threshold: Any,
        opacity: Any,
        texture: Any,
        turn: Any = 0,
    ) -> Values:
        """The values shown for a setting, as text."""
        inside = self.noise(down, across, rotation, turn) > threshold / 100
        change = np.abs(self._textures[texture] - self._image)[inside].sum()
        return {
            "pixels": str(int(inside.sum())),
            "share": f"{fixed(100 * float(inside.sum()) / inside.size, 1)} %",
            "change": fixed(float(change) * (opacity / 100 / (3 * inside.size)), 2),
        }

    def noise(
        self, down: int, across: int, rotation: float, turn: float = 0
    ) -> NDArray[np.float64]:
        """The noise (S, S) in double precision, so that page and Python cut it alike."""
        size = len(self._image)
        angles = self._angles.copy()
        angles[2**down // 2, 2**across // 2] += math.radians(turn)
        v, u = (np.arange(size) / size * 2**cells for cells in (down, across))
        total = np.zeros((size, size))
        for dy in (0, 1):
            for dx in (0, 1):
                row, column = np.floor(v).astype(int) + dy, np.floor(u).astype(int) + dx
                angle = angles[np.ix_(row, column)]
                y, x = (v - row)[:, None], (u - column)[None, :]
                weight = _fade(1 - abs(y)) * _fade(1 - abs(x))
                total += weight * (x * np.cos(angle) + y * np.sin(angle))
        total *= math.sqrt(2)
        if rotation == 0:
            return total
        s, c = math.sin(math.radians(rotation)), math.cos(math.radians(rotation))
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        source = [s * x + c * y + (size - 1) / 2, c * x - s * y + (size - 1) / 2]
        padded = np.pad(total, 1)  # bilinear up to one pixel outside, as the library turns it
        moved = [axis + 1 for axis in source]
        return np.asarray(map_coordinates(padded, moved, order=1, mode="constant", cval=0.0))


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(fade(torch.from_numpy(t)))
