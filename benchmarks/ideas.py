"""What ideas for a faster training step are worth: the step as it is, and with one thing changed.

The first three changes take back what the library does; the others are ideas that it does not use.

Run: ``python benchmarks/ideas.py [--recipe tiny] [--no-compile] [--json FILE]``, on an otherwise
idle machine with a C++ compiler; minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from measuring import command_line, report
from torch import Tensor, nn
from training import random_images

from destseg_lib import training
from destseg_lib.batches import PHASES, Batch, Phase, Targets, draw_batch
from destseg_lib.config import RECIPES, TrainingConfig
from destseg_lib.device import keep_freed_memory, resolve_precision
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.lighter import fold_batch_norm
from destseg_lib.teacher import load_teacher

CPU = torch.device("cpu")
AS_IT_IS = "as it is"
ASKED = "the teacher asked in every step"
WEIGHT_BY_WEIGHT = "an optimiser that goes weight by weight"
CHANNELS_FIRST = "channels first in memory"
FOLDED = "batch norm of frozen networks folded"
COMPILED = "compiled"
IDEAS = (AS_IT_IS, ASKED, WEIGHT_BY_WEIGHT, CHANNELS_FIRST, FOLDED, COMPILED)


def channels_first(*arguments: Any) -> Batch:
    return Batch(*(part.contiguous() for part in draw_batch(*arguments)))


class ChannelsFirst(Targets):
    """Targets in the student's memory order."""

    def of(self, step: int, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """As ``Targets`` gives them."""
        return tuple(level.contiguous() for level in super().of(step, compute))


@contextmanager
def changed(idea: str) -> Iterator[None]:
    """Training with this one idea changed, inside the block."""
    change = {
        ASKED: patch("destseg_lib.batches.MOST_REMEMBERED", 0),
        WEIGHT_BY_WEIGHT: patch.object(training, "FUSED", ()),
        CHANNELS_FIRST: patch.multiple(training, draw_batch=channels_first, Targets=ChannelsFirst),
    }.get(idea)
    if change is None:
        yield
        return
    with change:
        yield


def networks(idea: str, phase: Phase, config: TrainingConfig) -> DeSTSeg:
    """The model as this idea has it, ready for a phase."""
    model = DeSTSeg(load_teacher("random"), config.model).eval()
    if idea == CHANNELS_FIRST:
        return model
    frozen: list[nn.Module] = [model.teacher, *([model.student] if phase != "student" else [])]
    for network in frozen if idea == FOLDED else ():
        fold_batch_norm(network)
    return training.move_to_device(model, CPU, compile_networks=idea == COMPILED)


def step_seconds(idea: str, phase: Phase, config: TrainingConfig) -> tuple[float, list[float]]:
    """Seconds of the first two steps, and of each step after them."""
    images, model = random_images(config), networks(idea, phase, config)
    times = [time.perf_counter()]
    with changed(idea):
        state = training.start_phase(model, config, phase)
        for _ in training.train_phase(model, images, config, state):
            times.append(time.perf_counter())
    return times[2] - times[0], [b - a for a, b in pairwise(times[2:])]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="quick")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed in a round, after two more")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-compile", action="store_true", help="leave the compiler out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        # Else the compiled code of an earlier run is found.
        with patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
            record = measured(options)
        report(record, options.json)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Every idea in both phases, in turn."""
    config = RECIPES[options.recipe]()
    config = replace(
        training.with_steps(config, options.steps + 2, options.steps + 2),
        precision=resolve_precision(config.precision, CPU),
    )
    ideas = [idea for idea in IDEAS if not (options.no_compile and idea == COMPILED)]
    spent: dict[str, dict[str, list[float]]] = {phase: {} for phase in PHASES}
    first: dict[str, dict[str, float]] = {phase: {} for phase in PHASES}
    for _ in range(options.rounds):  # in turn, so that a slow minute meets all alike
        for phase in PHASES:
            for idea in ideas:
                begun, steps = step_seconds(idea, phase, config)
                first[phase].setdefault(idea, begun)
                spent[phase].setdefault(idea, []).extend(steps)
    seconds = {
        phase: {idea: statistics.median(steps) for idea, steps in found.items()}
        for phase, found in spent.items()
    }
    return {
        "what": f"a step of the {options.recipe} recipe ({config.image_size} pixels, batches "
        f"of {config.batch_size}) in {config.precision} with {options.threads} threads, random "
        f"images; medians of {options.rounds} rounds of {options.steps} steps, in turn",
        "seconds_a_step": seconds,
        "times_as_long": {
            phase: {idea: value / found[AS_IT_IS] for idea, value in found.items()}
            for phase, found in seconds.items()
        },
        "first_two_steps": first,
        "seconds_repeats": spent,
    }


if __name__ == "__main__":
    main()
