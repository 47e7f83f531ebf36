"""Fit a recipe into a time budget, from steps measured on this machine."""

from __future__ import annotations

import copy
import time

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.training import phase_config, phases_of, start_phase, train_phase, with_steps


def seconds_per_step(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, steps: int = 3
) -> dict[Phase, float]:
    """Measure each phase on a copy of the model, after one step to warm up.

    These are the first steps, in which the teacher looks at photographs that it has not seen yet:
    the steps of later epochs may be faster.

    Args:
        model: on its device; not changed.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        steps: number of timed steps.
    """
    measured: dict[Phase, float] = {}
    for phase in phases_of(config):
        short = with_steps(config, steps + 1, steps + 1)
        copied = copy.deepcopy(model)
        times = []
        taken = train_phase(copied, images, short, start_phase(copied, short, phase))
        for step, loss in enumerate(taken):
            if step in (0, steps):
                loss.item()  # makes a GPU finish what it was given
                times.append(time.perf_counter())
        measured[phase] = (times[-1] - times[0]) / steps
    return measured


def recipe_seconds(config: TrainingConfig, measured: dict[Phase, float]) -> float:
    """Seconds of all steps of a recipe, from those of one step of each phase."""
    return sum(phase_config(config, p).steps * measured[p] for p in phases_of(config))


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
    whole = recipe_seconds(config, seconds)
    share = min(1.0, budget / whole) if whole else 1.0
    fitted = {phase: int(steps * share) for phase, steps in wanted.items()}
    if any(fitted[phase] < 1 <= steps for phase, steps in wanted.items()):
        raise DeSTSegError(
            f"a time budget of {budget / 60:.1f} minutes is too short to train on this machine, "
            f"where the recipe takes {whole / 60:.0f}; give more time, a smaller --image-size or "
            "a smaller --width"
        )
    return with_steps(config, *(fitted.get(phase, 0) for phase in PHASES))
