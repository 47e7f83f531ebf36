"""How long the whole of table 4 would take on 1, 8, 60 and 64 devices: simulated, not run.

600 runs (8 variants, MVTec AD's 15 categories, 5 seeds), of which 300 train a student and 300 a
segmentation network. Each is a job in the schedule that ``destseg study run --engine ray``
follows. Seconds per step were measured: on a CPU in batches of 16 and doubled for the paper's 32
(``results/benchmarks/training.json``), and on a GPU in bf16 (``results/gpu/speed.json``); they are
the same for every variant. Reading files, evaluation and transfers take no time here.

For any other device the makespan is also given in steps of the segmentation phase, which depends
only on how much longer such a step is than one of the student's: multiply it by your own device's
seconds for one.

Run: ``python benchmarks/simulate_reproduction.py [--json FILE]``; seconds.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from destseg_lib.cli.reproduce import duration
from destseg_lib.config import paper_recipe
from destseg_lib.runs.provenance import provenance
from destseg_lib.studies.paper_tables import CATEGORIES, SEEDS, paper_study
from destseg_lib.studies.ray_workers import next_trial
from destseg_lib.studies.study import read_study
from destseg_lib.studies.trial import Trial, trials

ROOT = Path(__file__).resolve().parent.parent
MEASURED = "results/benchmarks/training.json"
MEASURED_ON_A_GPU = "results/gpu/speed.json"
TIMED_BATCH = 16
DEVICES = (1, 8, 60, 64)  # 60: 300 long jobs in whole rounds of five, as 64 need too
RATIOS = (2.0, 4.0, 8.0)  # a segmentation step to a student step; others than the measured one
FORMULA = (
    "work = students x 1000 x s + segmentation networks x 4000 x g, with s and g the seconds of a "
    "step of each phase in batches of 32; efficiency = work / (devices x makespan); "
    "makespan in seconds = makespan_in_segmentation_steps x g"
)


class Schedule(NamedTuple):
    """Seconds until the last run ends, of work in all runs, and waited for students in training."""

    makespan: float
    work: float
    waited: float


def simulate(runs: Sequence[Trial], devices: int, student: float, segmentation: float) -> Schedule:
    """Run trials in order on equal devices as the Ray engine does, event by event.

    Args:
        runs: trials in order; the first of those that share a student trains it.
        devices: number of devices.
        student: seconds per step of the student phase.
        segmentation: seconds per step of the segmentation phase.
    """
    left = list(runs)
    ready: dict[str, float] = {}  # when each student is trained, also if that is still to come
    free = [0.0] * devices
    work = waited = 0.0
    while left:
        now = heapq.heappop(free)
        trial = left.pop(next_trial(left, {name for name, when in ready.items() if when > now}))
        training = 0.0 if trial.student in ready else trial.config.student.steps * student
        begin = max(now, ready.setdefault(trial.student, now + training))
        rest = trial.config.model.segmentation * trial.config.segmentation.steps * segmentation
        waited += begin - now - training
        work += training + rest
        heapq.heappush(free, begin + rest)
    return Schedule(max(free), work, waited)


def table_4() -> dict[str, tuple[Trial, ...]]:
    """The 600 runs in two orders: as table 4's file has them, and as ``destseg reproduce``."""
    in_file = replace(
        read_study(Path("table4")), categories=CATEGORIES, seeds=SEEDS, recipe="paper"
    )
    whole = trials(paper_study(CATEGORIES))
    longest_first = tuple(t for t in whole if t.variant in in_file.variants)
    return {"order of the file": trials(in_file), "order of reproduce": longest_first}


def outcome(runs: Sequence[Trial], devices: int, student: float, step: float) -> dict[str, Any]:
    """What a schedule takes, with the seconds per step of both phases given."""
    found = simulate(runs, devices, student, step)
    return {
        "makespan_seconds": found.makespan,
        "makespan": duration(found.makespan),
        "makespan_in_segmentation_steps": found.makespan / step,
        "efficiency": found.work / (devices * found.makespan),
        "waited_for_students_seconds": found.waited,
    }


def in_steps(runs: Sequence[Trial], ratio: float) -> dict[str, Any]:
    """The outcome in steps alone, where a segmentation step takes ``ratio`` student steps."""
    kept = ("makespan_in_segmentation_steps", "efficiency")
    found = {n: outcome(runs, n, 1.0, ratio) for n in DEVICES}
    return {str(n): {key: one[key] for key in kept} for n, one in found.items()}


def simulation() -> dict[str, Any]:
    """The whole record, without its provenance."""
    measured = json.loads((ROOT / MEASURED).read_text())
    batches = paper_recipe().batch_size / TIMED_BATCH
    student, segmentation = (
        measured[phase]["ours"]["seconds_a_step"] * batches for phase in ("student", "segmentation")
    )
    on_a_gpu = json.loads((ROOT / MEASURED_ON_A_GPU).read_text())
    of_gpu = {one["name"]: one.get("seconds_per_step") for one in on_a_gpu["results"]}
    gpu_student, gpu_segmentation = of_gpu["student, bf16"], of_gpu["segmentation, bf16"]
    orders = table_4()
    every = orders["order of reproduce"]
    return {
        "what": "SIMULATED: table 4 on MVTec AD by the paper's recipe, "
        "15 categories x 8 variants x 5 seeds",
        "formula": FORMULA,
        "runs": len(every),
        "students": len({trial.student for trial in every}),
        "segmentation_networks": sum(trial.config.model.segmentation for trial in every),
        "seconds_a_step_at_batch_32": {
            "student": student,
            "segmentation": segmentation,
            "from": f"{MEASURED}, {measured['provenance']['device']}, times {batches:g}",
        },
        "work_seconds": simulate(every, 1, student, segmentation).work,
        "orders": {
            name: {str(n): outcome(runs, n, student, segmentation) for n in DEVICES}
            for name, runs in orders.items()
        },
        "on_a_gpu": {
            "seconds_a_step_at_batch_32": {
                "student": gpu_student,
                "segmentation": gpu_segmentation,
                "from": f"{MEASURED_ON_A_GPU}, {on_a_gpu['provenance']['device']}, bf16",
            },
            **{str(n): outcome(every, n, gpu_student, gpu_segmentation) for n in DEVICES},
        },
        # The same in steps alone, for a device on which the phases compare otherwise.
        "by_ratio_of_steps": {
            f"{ratio:.3g}": in_steps(every, ratio) for ratio in (*RATIOS, segmentation / student)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    record = {**simulation(), "provenance": provenance(torch.device("cpu"))}
    print(record["what"])
    for name, of in record["orders"].items():
        for n, one in of.items():
            print(
                f"  {name}, {n:>2} devices: {one['makespan']:>10} "
                f"({one['makespan_in_segmentation_steps']:,.0f} segmentation steps), "
                f"efficiency {one['efficiency']:.1%}"
            )
    for n in DEVICES:
        print(f"  {record['on_a_gpu'][str(n)]['makespan']:>10} on {n:>2} of the GPUs measured")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
