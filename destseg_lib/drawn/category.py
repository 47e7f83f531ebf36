"""What a product is: its name, its defects, and how one example of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from destseg_lib.config import Rotation
from destseg_lib.drawn.drawing import Field


class Draw(Protocol):
    """Draw one example of a product."""

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
            scene: decides pose, grain, colour: all that differs between good examples. It is asked
                for the same numbers in the same order whatever ``defect`` is, so that a defective
                example has a defect-free twin.
            defect: one of the product's, or None.
            fault: decides the defect: where it is, how large.

        Returns:
            (S, S, 3) in [0, 1].
        """
        ...


@dataclass(frozen=True)
class DrawnCategory:
    """A product of the embedded world.

    Attributes:
        name: also the name of its folder.
        kind: a texture fills the image; an object has a place in it.
        defects: the names of its defect types.
        rotation: how far training images may be turned without becoming strange.
        variation: how much the camera varies (``camera.draw_camera``).
    """

    name: str
    kind: Literal["texture", "object"]
    defects: tuple[str, ...]
    draw: Draw
    rotation: Rotation = "none"
    variation: float = 1.0
