"""Over-generalisation and the choice of level: what the secret decides, and the hidden tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

STUDIES = Path(__file__).resolve().parents[1] / "results" / "studies"
# A student that was taught some levels only, on a drawn category: records that are committed.
CATEGORIES = ("component", "metal")
TRANSISTOR = "levels_plain_transistor"  # the paper's own case, where somebody has run it
METRICS = ("pixel_ap", "aupro", "iap")


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """A category and a metric of the records, and how to decide."""
    category = str(rng.choice(CATEGORIES))
    folders = {category: f"levels_{category}"}
    if (STUDIES / TRANSISTOR / "records.jsonl").exists():
        folders["transistor"] = TRANSISTOR
    metric = str(rng.choice(METRICS))
    return {
        "categories": " and ".join(folders),
        "metric": metric,
        "records": json.dumps({name: table(folder, metric) for name, folder in folders.items()}),
        "quantile": round(float(rng.uniform(0.85, 0.97)), 4),
        "coverage": round(float(rng.uniform(0.7, 0.9)), 4),
        "margin": round(float(rng.uniform(0.005, 0.03)), 5),
        "caution": round(float(rng.uniform(0.5, 2.0)), 3),
    }


def table(folder: str, metric: str) -> dict[str, list[float]]:
    """By variant the metric of each seed, in the order of the seeds."""
    lines = (STUDIES / folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = sorted(map(json.loads, lines), key=lambda r: r["seed"])
    found: dict[str, list[float]] = {}
    for record in records:
        if record["status"] == "done":
            found.setdefault(record["variant"], []).append(round(record[metric], 4))
    return found


def parts(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """The hidden tests."""
    margin = spec["margin"]
    normal, defect = rng.gamma(2, 0.1, (2, 500))
    few = rng.normal(0.02, 0.03, 12)
    resamples = rng.integers(0, 12, (1000, 12))
    close = 0.9 + rng.normal(0, 0.004, 3)
    values = [close, close + 0.01 + np.array([-0.1, 0, 0.1]), close - 0.2]
    return [
        ("overgeneralised", "what the student repairs too well", 2, ((normal, defect + 0.1),)),
        ("overgeneralised", "a level that sees nothing", 1, ((normal, defect),)),
        ("interval", "the given resamples", 4, ((few, resamples),)),
        ("verdict", "clearly better or worse", 1,
         ((2 * margin, 3 * margin), (-3 * margin, -2 * margin), (-1, 1))),
        ("verdict", "a difference that does not matter", 1,
         ((margin / 4, margin / 2), (-margin / 2, -margin / 4), (margin / 2, 2 * margin),
          (-1.2 * margin, -1.05 * margin))),
        ("choose", "seeds that agree, and a better mean with a wide spread", 1,
         (([close, close - 0.2, close + 0.3],), (values,))),
    ]  # fmt: skip
