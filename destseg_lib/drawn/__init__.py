"""The drawn categories: four textures and four objects, each image drawn from a seed."""

from __future__ import annotations

from destseg_lib.drawn import component, connector, fabric, metal, nut, tablet, terrazzo, wood
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

__all__ = ["CATEGORIES", "DrawnCategory"]
