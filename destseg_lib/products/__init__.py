"""The embedded world's products, each drawn from a seed: four textures and four objects."""

from __future__ import annotations

from destseg_lib.products import component, connector, fabric, metal, nut, tablet, terrazzo, wood
from destseg_lib.products.product import Product

PRODUCTS: tuple[Product, ...] = (
    fabric.PRODUCT,
    wood.PRODUCT,
    metal.PRODUCT,
    terrazzo.PRODUCT,
    nut.PRODUCT,
    tablet.PRODUCT,
    connector.PRODUCT,
    component.PRODUCT,
)

__all__ = ["PRODUCTS", "Product"]
