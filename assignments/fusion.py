"""Fusion: what the secret decides, and the hidden tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Exponents of the product, the strength of the ridge, and the weight of damaged pixels."""
    return {
        "exponents": (0.3 + 1.5 * rng.dirichlet(np.ones(3))).round(3).tolist(),
        "ridge": round(float(rng.uniform(0.5, 5)), 3),
        "weight": round(float(rng.uniform(2, 12)), 3),
        "floor": round(float(rng.uniform(0.005, 0.05)), 4),
    }


def distances(rng: np.random.Generator, signal: list[float], noise: list[float]) -> Any:
    """(600, 3) distances of pixels, a tenth of them damaged, and (600,) labels.

    A damaged pixel's distance at level k is larger by the factor exp(signal[k]).
    """
    labels = (rng.permutation(600) < 60).astype(float)
    logs = -1.5 + rng.normal(size=(600, 3)) * noise + labels[:, None] * signal
    return np.clip(np.exp(logs), 1e-4, 2), labels


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """The hidden tests."""
    usual = [*distances(rng, [1, 1, 1], [0.3, 0.3, 0.3])]
    noisy = [*distances(rng, [1, 1, 0], [0.5, 0.5, 2])]
    also_noisy = [*distances(rng, [1, 1, 0], [0.5, 0.5, 2])]
    seen = [*distances(rng, [2, 0, 0], [0.5, 0.5, 0.5])]
    unseen = [*distances(rng, [0, 0, 2], [0.5, 0.5, 0.5])]
    tied = np.round(rng.random(80), 1), (rng.random(80) < 0.2).astype(float)
    return [
        ("product", "distances of three levels", 2, ((usual[0],), (usual[0][:7],))),
        ("product", "a level without any distance", 1, ((usual[0] * [1, 0, 1],),)),
        ("fit", "the weights", 3, (tuple(usual), tuple(noisy))),
        ("average_precision", "distinct scores", 1,
         ((rng.random(300), (rng.random(300) < 0.1).astype(float)),)),
        ("average_precision", "tied scores", 1, (tied,)),
        ("gain", "one level is noise", 1, ((*noisy, *also_noisy),)),
        ("gain", "a defect of another kind than in training", 1, ((*seen, *unseen),)),
    ]  # fmt: skip
