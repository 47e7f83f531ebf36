"""How long the whole of table 4 would take on 1, 8, 60 and 64 devices: simulated, not run.

600 runs (8 variants, MVTec AD's 15 categories, 5 seeds), of which 300 train a student and 300 a
segmentation network. Each is a job in the schedule that ``destseg study run --engine ray``
follows. Seconds a step are those of ``results/benchmarks/training.json``, measured on a CPU in
batches of 16 and doubled for the paper's 32, the same for every variant. Reading files, evaluation
and transfers take no time here.

No GPU was measured. The makespan is therefore also given in steps of the segmentation phase, which
depends only on how much longer such a step is than one of the student's: multiply it by your own
device's seconds for one.

Run: ``python benchmarks/simulate_reproduction.py [--json FILE]``; seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from destseg_lib.config import paper_recipe
from destseg_lib.runs.provenance import provenance
from destseg_lib.studies.costs import Costs
from destseg_lib.studies.paper_tables import CATEGORIES, SEEDS, duration, paper_study
from destseg_lib.studies.schedule import Job, simulate
from destseg_lib.studies.study import Trial, read_study, trials

ROOT = Path(__file__).resolve().parent.parent
MEASURED = "results/benchmarks/training.json"
TIMED_BATCH = 16
DEVICES = (1, 8, 60, 64)  # 60: 300 long jobs in whole rounds of five, as 64 need too
RATIOS = (2.0, 4.0, 8.0)  # a segmentation step to a student step; others than the measured one
FORMULA = (
    "work = students x 1000 x s + segmentation networks x 4000 x g, with s and g the seconds of a "
    "step of each phase in batches of 32; efficiency = work / (devices x makespan); "
    "makespan in seconds = makespan_in_segmentation_steps x g"
)


def costs_of(student: float, segmentation: float) -> Costs:
    """Every kind of network at the same seconds a step, in batches of 16 of 256x256."""
    kinds = ("encoder-decoder", "plain")
    return Costs(
        student=dict.fromkeys(kinds, student),
        segmentation=dict.fromkeys((f"{kind}, product" for kind in kinds), segmentation),
        evaluation=0.0,
        setup=0.0,
        pixels=TIMED_BATCH * 256**2,
        image_size=256,
        widths=(1.0, 1.0),
        source=MEASURED,
    )


def table_4() -> dict[str, tuple[Trial, ...]]:
    """The 600 runs in two orders: as table 4's file has them, and as ``destseg reproduce``."""
    in_file = replace(
        read_study(Path("table4")), categories=CATEGORIES, seeds=SEEDS, recipe="paper"
    )
    whole = trials(paper_study(CATEGORIES))
    longest_first = tuple(t for t in whole if t.variant in in_file.variants)
    return {"order of the file": trials(in_file), "order of reproduce": longest_first}


def outcome(jobs: Sequence[Job], devices: int, step: float) -> dict[str, Any]:
    found = simulate(jobs, devices)
    return {
        "makespan_seconds": found.makespan,
        "makespan": duration(found.makespan),
        "makespan_in_segmentation_steps": found.makespan / step,
        "efficiency": found.efficiency,
        "waited_for_students_seconds": found.waited,
    }


def in_steps(runs: Sequence[Trial], ratio: float, batches: float) -> dict[str, Any]:
    """The outcome in steps alone, where a segmentation step takes ``ratio`` student steps."""
    jobs = costs_of(1 / batches, ratio / batches).jobs(runs, dict.fromkeys(CATEGORIES, 0))
    kept = ("makespan_in_segmentation_steps", "efficiency")
    found = {n: outcome(jobs, n, ratio) for n in DEVICES}
    return {str(n): {key: one[key] for key in kept} for n, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    measured = json.loads((ROOT / MEASURED).read_text())
    student, segmentation = (
        measured[phase]["ours"]["seconds_a_step"] for phase in ("student", "segmentation")
    )
    orders = table_4()
    images = dict.fromkeys(CATEGORIES, 0)
    jobs = {name: costs_of(student, segmentation).jobs(of, images) for name, of in orders.items()}
    batches = paper_recipe().batch_size / TIMED_BATCH
    every = next(iter(jobs.values()))
    record: dict[str, Any] = {
        "what": "SIMULATED: table 4 on MVTec AD by the paper's recipe, "
        "15 categories x 8 variants x 5 seeds; no GPU was measured",
        "formula": FORMULA,
        "runs": len(every),
        "students": len({job.student for job in every}),
        "segmentation_networks": sum(job.rest > 0 for job in every),
        "seconds_a_step_at_batch_32": {
            "student": student * batches,
            "segmentation": segmentation * batches,
            "from": f"{MEASURED}, {measured['provenance']['device']}, times {batches:g}",
        },
        "work_seconds": simulate(every, 1).work,
        "orders": {
            name: {str(n): outcome(of, n, segmentation * batches) for n in DEVICES}
            for name, of in jobs.items()
        },
        # The same in steps alone, for a device on which the phases compare otherwise.
        "by_ratio_of_steps": {
            f"{ratio:.3g}": in_steps(orders["order of reproduce"], ratio, batches)
            for ratio in (*RATIOS, segmentation / student)
        },
        "provenance": provenance(torch.device("cpu")),
    }
    print(record["what"])
    for name, of in record["orders"].items():
        for n, one in of.items():
            print(
                f"  {name}, {n:>2} devices: {one['makespan']:>10} "
                f"({one['makespan_in_segmentation_steps']:,.0f} segmentation steps), "
                f"efficiency {one['efficiency']:.1%}"
            )
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
