"""The cosine loss and its reduction: what the secret decides, and the hidden tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """The guard against zero vectors, the hard share, weights of the levels and a reduction."""
    weights = (0.4 + rng.dirichlet(np.ones(3))).round(3).tolist()
    over_batch = str(rng.choice(["sum", "mean"]))
    return {
        "guard": round(float(rng.uniform(0.1, 0.6)), 3),
        "hard": round(float(rng.uniform(0.3, 0.8)), 3),
        "weights": weights,
        "over_batch": over_batch,
        "exponent": {"sum": 1, "mean": 0}[over_batch],
    }


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """The hidden tests."""

    def features(batch: int, channels: int, side: int) -> Any:
        return rng.normal(size=(batch, channels, side, side))

    zero = features(2, 6, 4)
    zero[:, :, 1, 2] = 0
    levels = [[features(3, c, s) for c, s in ((4, 8), (6, 6), (9, 3))] for _ in range(2)]
    batch = int(rng.integers(5, 30))
    return [
        ("distance", "random features", 2, ((features(2, 5, 4), features(2, 5, 4)),)),
        ("distance", "a position where the student is zero", 1, ((zero, features(2, 6, 4)),)),
        ("loss", "one image, one position per level", 1,
         (([features(1, 5, 1) for _ in range(3)], [features(1, 5, 1) for _ in range(3)]),)),
        ("loss", "a batch, levels of unequal size", 2, (tuple(levels),)),
        ("gradient", "with respect to the student", 3, ((features(2, 5, 3), features(2, 5, 3)),)),
        ("rate", "another batch", 1, ((0.4, 32, batch), (0.1, batch, 7))),
    ]  # fmt: skip
