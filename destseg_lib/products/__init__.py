"""The embedded world's products, each drawn from a seed: four textures and four objects."""

from __future__ import annotations

from destseg_lib.products import component, connector, metal, terrazzo
from destseg_lib.products.product import Product

PRODUCTS: tuple[Product, ...] = (
    metal.PRODUCT,
    terrazzo.PRODUCT,
    connector.PRODUCT,
    component.PRODUCT,
)

__all__ = ["PRODUCTS", "Product"]
