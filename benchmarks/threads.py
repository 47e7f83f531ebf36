"""A training step beside one busy process: with one thread, with all, and with what train chooses.

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

import torch
from measuring import command_line, report
from training import random_images

from destseg_lib.config import quick_recipe
from destseg_lib.device import keep_freed_memory, resolve_precision, torch_threads
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.threads import choose_threads
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
        },
        options.json,
    )


if __name__ == "__main__":
    main()
