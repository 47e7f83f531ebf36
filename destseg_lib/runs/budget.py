"""How many steps fit into the time there is, from steps measured on the machine in hand."""

from __future__ import annotations

import copy
import time

import torch

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.training import phase_config, phases_of, start_phase, train_phase, with_steps


def seconds_a_step(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, steps: int = 3
) -> dict[Phase, float]:
    """Measure each phase on a copy of the model, after one step to warm up.

    Args:
        model: on its device; not changed.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        steps: how many are timed.
    """
    measured: dict[Phase, float] = {}
    for phase in phases_of(config):
        trial = with_steps(config, steps + 1, steps + 1)
        copied = copy.deepcopy(model)
        times = []
        for _ in train_phase(copied, images, trial, start_phase(copied, trial, phase)):
            _synchronise(next(copied.student.parameters()).device)
            times.append(time.perf_counter())
        measured[phase] = (times[-1] - times[0]) / steps
    return measured


def fit_to_budget(
    config: TrainingConfig, seconds_a_step: dict[Phase, float], seconds: float
) -> TrainingConfig:
    """Fewer steps of both phases, in the recipe's proportion, if the recipe would take too long.

    Args:
        config: the recipe.
        seconds_a_step: measured on this machine.
        seconds: what training may take.

    Raises:
        DeSTSegError: not even one step of each phase fits.
    """
    phases = phases_of(config)
    whole = sum(phase_config(config, p).steps * seconds_a_step[p] for p in phases)
    share = min(1.0, seconds / whole) if whole else 1.0
    student, segmentation = (
        int(phase_config(config, phase).steps * share) if phase in phases else 0 for phase in PHASES
    )
    wanted = (config.student.steps, config.segmentation.steps if len(phases) > 1 else 0)
    if any(got < 1 <= want for got, want in zip((student, segmentation), wanted, strict=True)):
        raise DeSTSegError(
            f"a time budget of {seconds / 60:.1f} minutes fits no training here, where the recipe "
            f"takes {whole / 60:.0f}; give more time, a smaller --image-size or a smaller --width"
        )
    return with_steps(config, student, segmentation)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
