"""Perlin corruption: what the secret decides, and the hidden tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """An ease curve, a scale, a share of damaged pixels and a way to blend."""
    return {
        "size": int(rng.integers(20, 36)) * 2,
        "power": round(float(rng.uniform(1.6, 3.4)), 3),
        "scale": round(float(rng.uniform(0.7, 2.6)), 3),
        "phase": round(float(rng.uniform(0.2, 1.4)), 3),
        "share": round(float(rng.uniform(0.03, 0.15)), 3),
        "gamma": round(float(rng.uniform(1.5, 3.0)), 3),
    }


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """The hidden tests; sizes are those of the text, values are the student's own."""
    size, share = spec["size"], spec["share"]

    def noise(rows: int, columns: int) -> tuple[Any, ...]:
        turns = rng.random((rows + 1, columns + 1))
        return turns, size

    image, texture = rng.random((size, size, 3)), rng.random((size, size, 3))
    mask = (rng.random((size, size)) < share).astype(float)
    return [
        ("ease", "values between 0 and 1", 2, ((rng.random(50),), (np.linspace(0, 1, 9),))),
        ("noise", "as many cells along y as along x", 2, (noise(1, 1), noise(4, 4))),
        ("noise", "different numbers of cells along y and x", 2, (noise(1, 5), noise(3, 2))),
        ("damage", "the share of the pixels", 1, ((rng.normal(size=(size, size)),),)),
        ("damage", "an image of any size", 1, ((rng.normal(size=(31, 17)),),)),
        ("blend", "full opacity", 1, ((image, texture, mask, 1.0),)),
        ("blend", "partial opacity", 1, ((image, texture, mask, float(rng.uniform(0.2, 0.7))),)),
    ]
