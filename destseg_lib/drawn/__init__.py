"""The drawn categories: four textures and four objects, each image drawn from a seed.

``CATEGORIES`` are those that the results range over. ``AVAILABLE`` adds gravel, whose stones are a
photograph's.
"""

from __future__ import annotations

from destseg_lib.drawn import (
    component,
    connector,
    fabric,
    gravel,
    metal,
    nut,
    tablet,
    terrazzo,
    wood,
)
from destseg_lib.drawn.category import DrawnCategory

CATEGORIES: tuple[DrawnCategory, ...] = (
    fabric.CATEGORY,
    wood.CATEGORY,
    metal.CATEGORY,
    terrazzo.CATEGORY,
    nut.CATEGORY,
    tablet.CATEGORY,
    connector.CATEGORY,
    component.CATEGORY,
)

AVAILABLE = (*CATEGORIES, gravel.CATEGORY)

__all__ = ["AVAILABLE", "CATEGORIES", "DrawnCategory"]
