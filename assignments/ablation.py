"""The open ablation: what the secret decides. Its marks come from the handed-in study folder."""

from __future__ import annotations

from typing import Any

import numpy as np

CATEGORIES = ("component", "connector", "fabric", "metal", "nut", "tablet", "wood")


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """The seeds, the metric and the two categories of which a study uses at least one."""
    first = int(rng.integers(100, 1000))
    categories = sorted(rng.choice(CATEGORIES, 2, replace=False).tolist())
    return {
        "seeds": str([first, first + 1, first + 2]),
        "categories": " and ".join(categories),
        "category": categories[0],
        "metric": str(rng.choice(["image_auroc", "pixel_ap", "aupro", "iap"])),
    }


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Nothing is called: tools/assignments/study_folder.py reads the records."""
    return []
