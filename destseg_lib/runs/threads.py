"""How many threads of a CPU a run computes with: chosen once, and kept by every resume.

On an idle machine all of them are faster. Beside another busy process they wait for one another,
and one thread is faster than all. Another number gives other roundings, so a run never changes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from destseg_lib.batches import Phase, TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.device import torch_threads
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.run import read_run
from destseg_lib.training import phase_config, phases_of

THREADS = "threads"  # among a run's inputs; None on a GPU
Threads = int | Literal["auto"] | None


def choose_threads(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, wanted: Threads
) -> tuple[int | None, dict[Phase, float] | None]:
    """The threads of a new run, and the seconds per step of each phase if they were measured.

    Args:
        model: on its device; not changed.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        wanted: a number; ``auto`` times one and all, and takes the faster; None takes as many as
            torch has.

    Returns:
        None as the number on a GPU, whose steps hardly depend on it.
    """
    if next(model.parameters()).device.type != "cpu":
        return None, None
    if wanted != "auto":
        return wanted or torch.get_num_threads(), None
    if torch.get_num_threads() == 1:
        return 1, None
    measured = {}
    for threads in (1, torch.get_num_threads()):
        with torch_threads(threads):
            measured[threads] = seconds_per_step(model, images, config, steps=2)
    chosen = fastest(measured, config)
    times = ", ".join(f"{n}: {sum(found.values()):.2f} s" for n, found in measured.items())
    print(f"threads {chosen}, the faster in a step of each phase ({times}); the run keeps it")
    return chosen, measured[chosen]


def fastest(measured: dict[int, dict[Phase, float]], config: TrainingConfig) -> int:
    """The number of threads with which all steps of a recipe take the shortest time."""
    steps = {phase: phase_config(config, phase).steps for phase in phases_of(config)}
    return min(measured, key=lambda n: sum(steps[p] * measured[n][p] for p in steps))


def kept_threads(out: Path, wanted: Threads) -> int | None:
    """The threads of a run that is continued: those that it began with.

    Raises:
        DeSTSegError: another number is asked for.
    """
    threads: int | None = read_run(out)["inputs"].get(THREADS)
    if threads is None:  # version 0.1 did not keep it
        return wanted if isinstance(wanted, int) else None
    if isinstance(wanted, int) and wanted != threads:
        raise DeSTSegError(
            f"the run in {out} was started with threads {threads}, not {wanted}; leave the option "
            "out to resume, or choose another --out"
        )
    if threads != torch.get_num_threads():
        print(f"threads {threads}, as the run began; torch would take {torch.get_num_threads()}")
    return threads
