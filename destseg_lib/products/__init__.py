"""The embedded world's products, each drawn from a seed: four textures and four objects."""

from __future__ import annotations

from destseg_lib.products import metal, terrazzo
from destseg_lib.products.product import Product

PRODUCTS: tuple[Product, ...] = (metal.PRODUCT, terrazzo.PRODUCT)

__all__ = ["PRODUCTS", "Product"]
