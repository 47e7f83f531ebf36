"""A drawn category: its name, its defects, and the function that draws one example of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from destseg_lib.config import Rotation
from destseg_lib.drawn.drawing import Field


class Draw(Protocol):
    """Draw one example of a category."""

    def __call__(
        self,
        size: int,
        scene: np.random.Generator,
        defect: str | None,
        fault: np.random.Generator,
    ) -> Field:
        """Draw the scene in linear light.

        Args:
            size: S, the side in pixels.
            scene: decides pose, grain and colour: everything that differs between good examples.
                It must give the same numbers in the same order for every ``defect``, so that each
                defective example has a defect-free twin.
            defect: one of the category's, or None.
            fault: decides the defect: its place, size and shape.

        Returns:
            (S, S, 3) float32 in [0, 1].
        """
        ...


@dataclass(frozen=True)
class DrawnCategory:
    """A drawn category.

    Attributes:
        name: also the name of its folder.
        kind: a texture fills the image; an object has a place in it.
        defects: the names of its defect types.
        draw: draws one example.
        rotation: how far training images may be turned and still look like the category.
        variation: how much the camera varies (``camera.draw_camera``).
        draw_test: draws test images, where they must come from other material; None is ``draw``.
    """

    name: str
    kind: Literal["texture", "object"]
    defects: tuple[str, ...]
    draw: Draw
    rotation: Rotation = "none"
    variation: float = 1.0
    draw_test: Draw | None = None
