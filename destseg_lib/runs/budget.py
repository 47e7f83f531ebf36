"""Fit a recipe into a time budget, from steps measured on this machine."""

from __future__ import annotations

import copy
import time

import numpy as np

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.training import phase_config, phases_of, start_phase, train_phase, with_steps


def seconds_per_step(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, steps: int = 3
) -> dict[Phase, float]:
    """Measure each phase on a copy of the model, after one step to warm up.

    One batch of good images, again and again: after the first step the teacher's features of all
    are known, as they are for most of a whole phase.

    Args:
        model: on its device; not changed.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        steps: number of timed steps.
    """
    measured: dict[Phase, float] = {}
    good = images.good[np.arange(min(config.batch_size, len(images.good)))]
    images = TrainingImages(np.asarray(good), images.textures)
    for phase in phases_of(config):
        short = with_steps(config, steps + 1, steps + 1)
        copied = copy.deepcopy(model)
        times = []
        for loss in train_phase(copied, images, short, start_phase(copied, short, phase)):
            loss.item()  # makes a GPU finish the step
            times.append(time.perf_counter())
        measured[phase] = (times[-1] - times[0]) / steps
    return measured


def fit_to_budget(
    config: TrainingConfig, seconds: dict[Phase, float], budget: float
) -> TrainingConfig:
    """Take fewer steps of both phases, in the recipe's proportion, if the recipe takes too long.

    Args:
        config: the recipe.
        seconds: per step of each phase, measured on this machine.
        budget: seconds that training may take.

    Raises:
        DeSTSegError: the budget is shorter than one step of each phase.
    """
    wanted = {phase: phase_config(config, phase).steps for phase in phases_of(config)}
    whole = sum(steps * seconds[phase] for phase, steps in wanted.items())
    share = min(1.0, budget / whole) if whole else 1.0
    fitted = {phase: int(steps * share) for phase, steps in wanted.items()}
    if any(fitted[phase] < 1 <= steps for phase, steps in wanted.items()):
        raise DeSTSegError(
            f"a time budget of {budget / 60:.1f} minutes is too short to train on this machine, "
            f"where the recipe takes {whole / 60:.0f}; give more time, a smaller --image-size or "
            "a smaller --width"
        )
    return with_steps(config, *(fitted.get(phase, 0) for phase in PHASES))
