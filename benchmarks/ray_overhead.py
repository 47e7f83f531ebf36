"""What Ray costs: a study of 24 short runs on two local workers against two plain processes.

Both sides run ``destseg study run`` as a user does, each run with one thread, from the start of
Python to its end. The plain side is two processes at once, each with half of the seeds; the other
is one command with ``--engine ray --workers 2``, Ray's start included. The sides take turns. On a
quiet machine the clock counts; on a busy one processor time says more, so both are recorded.

Run: ``python benchmarks/ray_overhead.py [--rounds N] [--steps N] [--json FILE]``. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.runs.provenance import provenance

SEEDS = (0, 1, 2, 3)
STUDY = """
name = "24 short runs"
reference = "whole"
categories = ["{folder}/metal", "{folder}/wood"]
seeds = [0, 1, 2, 3]

[settings]
image_size = 64
batch_size = 8
"model.width" = 0.25
"model.segmentation_width" = 0.125
"student.steps" = {steps}
"segmentation.steps" = {steps}
precision = "fp32"
teacher = "random"

[variants.whole]

[variants."without L1"]
l1 = false

[variants."cosine distances"]
"model.segmentation_input" = "cosine"
"""
EVERY = 2.0  # seconds between looks at the processes; looking takes time from them


def command(study: Path, out: Path, *options: str) -> list[str]:
    base = [sys.executable, "-m", "destseg_lib.cli", "study", "run", str(study), "--out", str(out)]
    return [*base, "--threads", "1", "--device", "cpu", *options]


def watch(commands: list[list[str]], folder: Path) -> dict[str, Any]:
    """Run commands at once; seconds by the clock, and of processors in all their processes."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"OMP_NUM_THREADS": "1"}
    said = (folder / "said").open("w+")
    began = time.perf_counter()
    running = [
        subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        for one in commands
    ]
    spent: dict[psutil.Process, float] = {}
    while any(process.poll() is None for process in running):
        for driver in (psutil.Process(process.pid) for process in running):
            with contextlib.suppress(psutil.Error):
                for process in (driver, *driver.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        spent[process] = sum(process.cpu_times()[:2])
        time.sleep(EVERY)
    seconds = time.perf_counter() - began
    said.seek(0)
    text = said.read()
    if any(process.returncode for process in running):
        raise SystemExit(text)
    ready = re.search(r"ready after ([\d.]+) s", text)
    return {
        "seconds": seconds,
        "processor_total": sum(spent.values()),
        "ray_ready_after": float(ready[1]) if ready else None,
    }


def plain(study: Path, folder: Path) -> dict[str, Any]:
    halves = (SEEDS[:2], SEEDS[2:])
    return watch(
        [
            command(study, folder / f"plain{n}", "--quiet", "--seeds", *map(str, half))
            for n, half in enumerate(halves)
        ],
        folder,
    )


def on_ray(study: Path, folder: Path) -> dict[str, Any]:
    return watch([command(study, folder / "ray", "--engine", "ray", "--workers", "2")], folder)


def metrics(*outs: Path) -> dict[tuple[Any, ...], float]:
    lines = [line for out in outs for line in (out / "records.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in lines]
    return {(r["variant"], r["category"], r["seed"]): r["pixel_ap"] for r in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of each phase of each run")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for the provenance
    rounds: dict[str, list[dict[str, Any]]] = {"plain": [], "ray": []}
    load = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("metal", "wood"):
            write_category(name, folder, 64, ImageCounts(40, 20, 5), progress=False)
        study = folder / "study.toml"
        study.write_text(STUDY.format(folder=folder, steps=options.steps))
        for n in range(options.rounds):
            place = folder / str(n)
            place.mkdir()
            order = ((plain, "plain"), (on_ray, "ray"))
            for side, key in order if n % 2 == 0 else order[::-1]:
                load.append(os.getloadavg()[0])
                rounds[key].append(side(study, place))
                print(n, key, json.dumps(rounds[key][-1]), f"load {load[-1]:.1f}", flush=True)
            same = metrics(place / "plain0", place / "plain1") == metrics(place / "ray")
            if not same or len(metrics(place / "ray")) != 24:
                raise SystemExit("the two sides gave different records")
            record = summary(rounds, load, options.steps)
            if options.json:
                options.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({key: record[key] for key in ("clock", "processor")}, indent=2))


def summary(
    rounds: dict[str, list[dict[str, Any]]], load: list[float], steps: int
) -> dict[str, Any]:
    def compared(of: str) -> dict[str, Any]:
        one, other = ([r[of] for r in rounds[side]] for side in ("plain", "ray"))
        ratios = [b / a - 1 for a, b in zip(one, other, strict=True)]
        return {
            "plain": statistics.median(one),
            "ray": statistics.median(other),
            "overhead": statistics.median(other) / statistics.median(one) - 1,
            "overhead_by_round": ratios,
        }

    return {
        "what": f"24 runs of {steps} + {steps} steps, two at once, 1 thread each; identical "
        f"metrics; median of {len(rounds['ray'])} rounds in turn",
        "clock": compared("seconds"),
        "processor": compared("processor_total"),
        "start_up": statistics.median(r["ray_ready_after"] for r in rounds["ray"]),
        "load_before": load,
        "cores": os.cpu_count(),
        "rounds": rounds,
        "provenance": provenance(torch.device("cpu")),
    }


if __name__ == "__main__":
    main()
