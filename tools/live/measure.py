"""Measure how many painted strokes the live page finds, with the very files that it loads.

python -m tools.live.measure     after tools/live/build.py; writes results/live/strokes.json
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance
from tools.live.build import (
    CALIBRATION,
    CALIBRATION_SEED,
    CATEGORIES,
    FPR,
    RECORD,
    WEIGHTS,
    good_pictures,
    shipped_answer,
    thresholds,
)
from tools.live.strokes import PER_KIND, SEED, painted

STROKES_SEED = 7  # of the good examples that are painted on; no other pictures have it
NEAR = 6  # pixels of 128 between the map's peak and the stroke


def main() -> None:
    """Measure each category and write the record."""
    torch.set_num_threads(1)
    record = {
        "weights": WEIGHTS,
        "fpr": FPR,
        "calibration": {"pictures": CALIBRATION, "seed": CALIBRATION_SEED},
        "strokes": {"seed": SEED, "per_kind": PER_KIND, "examples_seed": STROKES_SEED},
        "categories": {name: measure(name, n) for n, name in enumerate(CATEGORIES)},
        "provenance": provenance(torch.device("cpu")),
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    write_json(RECORD, record)


def measure(name: str, number: int) -> dict[str, Any]:
    """Shares of strokes found at the threshold, per kind, and of peaks that lie on them."""
    answer = shipped_answer(name)
    limit = thresholds(name, answer)[0].value
    kinds: dict[str, list[tuple[bool, bool]]] = {}
    for stroke in painted(good_pictures(name, PER_KIND, STROKES_SEED), number):
        given = answer(stroke.picture)
        place = np.unravel_index(given.maps[0].argmax(), given.maps[0].shape)
        down, across = (int(at) // 2 for at in place)  # the map is twice as fine as the picture
        rows, columns = np.nonzero(stroke.changed)
        near = np.hypot(rows - down, columns - across).min() <= NEAR
        kinds.setdefault(stroke.kind, []).append((bool(given.scores[0] > limit), bool(near)))
    lines = [result for kind, results in kinds.items() if "line" in kind for result in results]
    return {
        "threshold": limit,
        "lines": shares(lines),
        "kinds": {kind: shares(results) for kind, results in kinds.items()},
    }


def shares(results: list[tuple[bool, bool]]) -> dict[str, float]:
    """How many there were, and which shares were found and had the peak on them."""
    found, near = np.mean(results, axis=0).tolist()
    return {"painted": len(results), "found": found, "peak_on_it": near}


if __name__ == "__main__":
    main()
