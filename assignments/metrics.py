"""Metrics by hand: what the secret decides, and the hidden tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """How regions are joined and weighted, when one counts as found, where the area ends."""
    neighbours = int(rng.choice([4, 8]))
    return {
        "neighbours": neighbours,
        "structure": {4: "None", 8: "np.ones((3, 3))"}[neighbours],
        "exponent": round(float(rng.uniform(0.25, 0.75)), 3),
        "limit": round(float(rng.uniform(0.1, 0.25)), 3),
        "found": round(float(rng.uniform(0.55, 0.9)), 3),
        "below": round(float(rng.uniform(0.65, 0.9)), 4),
    }


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """The hidden tests: three images of 16 pixels with up to five regions."""

    def scene(*, regions: int, tied: bool = False) -> tuple[Any, ...]:
        masks = np.zeros((3, 16, 16))
        for k in range(regions):
            height, width = rng.integers(1, 6, 2)
            row, column = 8 * (k % 2) + 1, 8 * (k // 2 % 2) + 1
            masks[k // 4, row : row + height, column : column + width] = 1
        maps = rng.random(masks.shape) + rng.uniform(0.3, 0.6) * masks
        return (np.round(maps * 6) / 6 if tied else maps), masks

    corners = np.zeros((1, 12, 12))
    corners[0, 2:5, 2:5] = corners[0, 5:7, 5:7] = 1  # they touch at a corner
    touching = rng.random(corners.shape) + 0.4 * corners
    return [
        ("regions", "regions that touch at a corner", 1, ((corners,),)),
        ("aupro", "one region", 1, (scene(regions=1), scene(regions=1))),
        ("aupro", "regions of unequal size", 1, (scene(regions=5), scene(regions=4))),
        ("aupro", "tied scores", 1, (scene(regions=5, tied=True), scene(regions=1, tied=True))),
        ("iap", "one region", 1, (scene(regions=1), scene(regions=1))),
        ("iap", "several regions", 2, (scene(regions=5), scene(regions=6), (touching, corners))),
        ("flattered", "pixels that score low", 2,
         tuple((float(rng.uniform(0.6, 0.95)), 900, int(n)) for n in rng.integers(50, 5000, 3))),
        ("pixels_needed", "solved for the number of pixels", 1,
         ((0.55, 4000, 0.6), (float(rng.uniform(0.3, 0.45)), 1000, 0.5))),
    ]  # fmt: skip
