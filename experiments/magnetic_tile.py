"""Train on real photographs, then measure on a test set cut into two fixed halves.

Every other test image, in the order of ``find_category``, belongs to the half that recipes are
chosen on (``selection``); the other half is reported and never used for a choice (``report``). Both
are written, so that the difference can be seen, with the loss curves, the time and the provenance.

Run: ``python experiments/magnetic_tile.py --data DIR --out RUN --record FILE`` and any option of
``destseg train``, such as ``--textures DIR --teacher PATH --recipe quick --seed 0``. A run that
exists is continued, a finished one is only measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from destseg_lib import cli
from destseg_lib.device import resolve_device
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.files import write_json
from destseg_lib.images.folders import Category, find_category
from destseg_lib.runs.run import LOG, load_run, read_run

HALVES = ("selection", "report")
COLOURS = {"student": "#0072B2", "segmentation": "#D55E00"}  # Okabe and Ito, safe for all


def half(category: Category, name: str) -> Category:
    """Every other test image, starting with the first for ``selection``."""
    return replace(category, test=category.test[HALVES.index(name) :: 2])


def curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draw each phase's loss over its steps."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, phase in zip(figure.subplots(1, 2), COLOURS, strict=True):
        points = [(r["step"], r["loss"]) for r in records if r["phase"] == phase]
        if points:
            axes.plot(*zip(*points, strict=True), color=COLOURS[phase], linewidth=1)
        axes.set(title=f"{phase} phase", xlabel="step", ylabel="loss")
        axes.set_yscale("log")
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], add_help=False)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="JSON; a PNG goes next to it")
    options, training = parser.parse_known_args()
    started = time.perf_counter()
    status = cli.main(
        ["train", "--data", str(options.data), "--out", str(options.out), "--resume", *training]
    )
    if status:
        return status
    seconds = time.perf_counter() - started
    category = find_category(options.data)
    run = load_run(options.out, resolve_device())
    records = [json.loads(line) for line in (options.out / LOG).read_text().splitlines()]
    described = read_run(options.out)
    results = {
        "inputs": described["inputs"],
        "seconds_in_this_call": round(seconds, 1),
        "training_seconds": {
            phase: max((r["seconds"] for r in records if r["phase"] == phase), default=0)
            for phase in COLOURS
        },
        **{name: evaluate_category(run, half(category, name)).to_dict() for name in HALVES},
        "curve": records,
    }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.record, results)
    curves(records, options.record.with_suffix(".png"))
    for name in HALVES:
        final, product = results[name], results[name]["cosine_product"]
        print(name, *(f"{key} {final[key]:.4f} ({product[key]:.4f})" for key in product))
    return 0


if __name__ == "__main__":
    sys.exit(main())
