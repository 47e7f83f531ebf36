"""Training and prediction beside one busy process: with one thread, with all, and as is chosen.

Run: ``python benchmarks/threads.py [--json FILE]``, on an otherwise idle machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measuring import command_line, report, timed
from training import random_images

from destseg_lib.config import quick_recipe
from destseg_lib.device import keep_freed_memory, resolve_precision, torch_threads
from destseg_lib.model import PREDICTION_BATCH, DeSTSeg
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.runs.threads import Pace, Threads, choose_threads
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device

CPU = torch.device("cpu")
ROUNDS, STEPS = 3, 3
# Without OMP_WAIT_POLICY, as a user starts it: threads that wait for one another spin.
BUSY = "while True: pass"


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy inside the block."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def prediction(every: int) -> dict[str, Any]:
    """Seconds per image of a shipped model; beside a busy process also as ``predict`` chooses."""
    run, images = load_pretrained("metal", CPU), ROUNDS * PREDICTION_BATCH
    side = run.config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)

    def image(wanted: Threads) -> float:
        pace = Pace(run, wanted, images)
        return statistics.median(timed(lambda: [*pace.maps(pixels)], times=ROUNDS)[0]) / images

    image(every)  # warms up
    found = {f"alone, {threads} threads": image(threads) for threads in (1, every)}
    with busy_process():
        found |= {f"beside, {threads} threads": image(threads) for threads in (1, every)}
        found["beside, as predict chooses"] = image("auto")
    alone = min(value for name, value in found.items() if name.startswith("alone"))
    return {
        "what": f"an image of {side} pixels by the model of metal that ships, in batches of "
        f"{PREDICTION_BATCH}; medians of {ROUNDS} rounds of {images}",
        "seconds": found,
        "ratio_chosen_beside_to_alone": found["beside, as predict chooses"] / alone,
        "ratio_all_beside_to_alone": found[f"beside, {every} threads"] / alone,
    }


def main() -> None:
    options = command_line(__doc__).parse_args()
    keep_freed_memory()
    every = os.cpu_count() or 1
    torch.set_num_threads(every)
    config = quick_recipe()
    config = replace(config, precision=resolve_precision(config.precision, CPU))
    images = random_images(config)
    model = move_to_device(DeSTSeg(load_teacher("random"), config.model), CPU)

    def step(threads: int) -> float:
        with torch_threads(threads):
            return sum(seconds_per_step(model, images, config, STEPS).values())

    spent: dict[str, list[float]] = {}
    chosen: list[int | None] = []
    for _ in range(ROUNDS):  # in turn, so that a slow minute meets all alike
        for threads in (1, every):
            spent.setdefault(f"alone, {threads} threads", []).append(step(threads))
        with busy_process():
            for threads in (1, every):
                spent.setdefault(f"beside, {threads} threads", []).append(step(threads))
            chosen.append(choose_threads(model, images, config, "auto")[0])
    seconds = {name: statistics.median(values) for name, values in spent.items()}
    taken = statistics.mode(chosen)
    alone = seconds["alone, 1 threads"]
    report(
        {
            "what": f"a step of each phase of the quick recipe ({config.image_size} pixels, "
            f"batches of {config.batch_size}), random images; medians of {ROUNDS} rounds of "
            f"{STEPS} steps, in turn, and a process that does nothing but loop",
            "seconds": seconds,
            "seconds_repeats": spent,
            "chosen_beside": chosen,
            "ratio_chosen_beside_to_one_alone": seconds[f"beside, {taken} threads"] / alone,
            "ratio_all_beside_to_one_alone": seconds[f"beside, {every} threads"] / alone,
            "prediction": prediction(every),
        },
        options.json,
    )


if __name__ == "__main__":
    main()
