"""Training in two phases: the student first, then, on the frozen student, the segmentation network.

Section 4.2. Each phase computes only what its loss needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from destseg_lib.batches import PHASES, Batch, Phase, TrainingImages, draw_batch
from destseg_lib.config import PhaseConfig, TrainingConfig
from destseg_lib.corruption import shrink_masks
from destseg_lib.device import autocast, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.losses import feature_loss, segmentation_loss
from destseg_lib.model import DeSTSeg, quarter

WARM_UP = 0.1  # share of a one-cycle schedule spent rising
# Steps whose losses are read together: reading one makes a GPU wait.
LOG_EVERY = 10


class NonFiniteLossError(DeSTSegError):
    """The loss became infinite or not a number; the message names the step."""


@dataclass
class TrainingState:
    """Where a run is: ``step`` steps of ``phase`` are done; ``losses`` are not yet looked at."""

    phase: Phase
    step: int
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    losses: list[Tensor] = field(default_factory=list)


class StepLog(NamedTuple):
    """The mean loss over the steps since the last record."""

    phase: Phase
    step: int
    loss: float
    learning_rate: float
    seconds: float


def student_phase_loss(model: DeSTSeg, batch: Batch, config: TrainingConfig) -> Tensor:
    """Corrupted in, the teacher's features of the clean image out (equations 2 and 3)."""
    with torch.no_grad():
        target = model.select(model.teacher(batch.clean))
    seen = batch.corrupted if config.denoising else batch.clean
    return feature_loss(model.select(model.student(seen)), target)


def segmentation_phase_loss(model: DeSTSeg, batch: Batch, config: TrainingConfig) -> Tensor:
    """Find the synthetic anomaly from where frozen student and teacher disagree."""
    with torch.no_grad():
        teacher, student = model.features(batch.corrupted)
    logits = model.logits(teacher, student, quarter(batch.corrupted))
    return segmentation_loss(logits, shrink_masks(batch.masks), config.focal_gamma, config.l1)


LOSSES: dict[Phase, Callable[[DeSTSeg, Batch, TrainingConfig], Tensor]] = {
    "student": student_phase_loss,
    "segmentation": segmentation_phase_loss,
}


def phase_config(config: TrainingConfig, phase: Phase) -> PhaseConfig:
    """The optimisation of one phase."""
    return config.student if phase == "student" else config.segmentation


def with_steps(config: TrainingConfig, student: int, segmentation: int) -> TrainingConfig:
    """The same configuration with other numbers of steps."""
    return replace(
        config,
        student=replace(config.student, steps=student),
        segmentation=replace(config.segmentation, steps=segmentation),
    )


def phases_of(config: TrainingConfig) -> tuple[Phase, ...]:
    """The phases a configuration trains; without segmentation network only the first."""
    return PHASES if config.model.segmentation else PHASES[:1]


def learning_rate_factor(phase: PhaseConfig, step: int) -> float:
    """What a step's learning rates are multiplied by, in (0, 1].

    ``one_cycle`` rises over the first tenth and falls along a cosine to nearly nothing.
    """
    if phase.schedule == "constant":
        return 1.0
    rise = max(1, round(WARM_UP * phase.steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, phase.steps - rise)
    return max(1e-3, (1 + math.cos(math.pi * done)) / 2)


def start_phase(model: DeSTSeg, config: TrainingConfig, phase: Phase) -> TrainingState:
    """A fresh optimiser for one phase, at step 0."""
    options = phase_config(config, phase)
    groups: list[dict[str, object]]
    if phase == "student":
        groups = [{"params": list(model.student.parameters()), "peak": options.lr}]
    else:
        assert model.segmentation is not None
        head_lr = options.lr if options.head_lr is None else options.head_lr
        groups = [
            {"params": list(model.segmentation.residual.parameters()), "peak": options.lr},
            {"params": list(model.segmentation.head.parameters()), "peak": head_lr},
        ]
    optimiser: torch.optim.Optimizer
    if options.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            groups, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
    else:
        optimiser = torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)
    device = next(model.student.parameters()).device
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    return TrainingState(phase, 0, optimiser, scaler)


def train_phase(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, state: TrainingState
) -> Iterator[StepLog | None]:
    """Take the remaining steps of one phase, a step an iteration.

    Between two iterations model and state are whole and may be saved; stop by stopping to iterate.

    Args:
        model: on its device; changed in place.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        state: from ``start_phase`` or a checkpoint; changed in place.

    Yields:
        a record every ten steps and at the end, None after the other steps.

    Raises:
        NonFiniteLossError: the loss is infinite or NaN.
    """
    phase, options = state.phase, phase_config(config, state.phase)
    device = next(model.student.parameters()).device
    trained = set_mode(model, phase)
    started = time.perf_counter()
    while state.step < options.steps:
        batch = draw_batch(images, config, phase, state.step, device)
        factor = learning_rate_factor(options, state.step)
        for group in state.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        with autocast(device, config.precision):
            loss = LOSSES[phase](model, batch, config)
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.step += 1
        state.losses.append(loss.detach())
        if state.step % LOG_EVERY == 0 or state.step == options.steps:
            mean = float(np.mean(finite_losses(state)))
            state.losses.clear()
            seconds = time.perf_counter() - started
            yield StepLog(phase, state.step, mean, options.lr * factor, seconds)
        else:
            yield None
        trained.train()  # whoever iterates may have looked at the model in eval mode


def finite_losses(state: TrainingState) -> list[float]:
    """The losses since the last record; call it before trusting a state's weights.

    Raises:
        NonFiniteLossError: one of them is infinite or NaN.
    """
    values: list[float] = torch.stack(state.losses).tolist() if state.losses else []
    for number, value in enumerate(values, start=state.step - len(values) + 1):
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the loss is {value} at {state.phase} step {number}; "
                "the learning rate is probably too high, or the precision too low (try fp32)"
            )
    return values


def set_mode(model: DeSTSeg, phase: Phase) -> nn.Module:
    """Put only the network of this phase in train mode, with gradients; return it."""
    model.eval().requires_grad_(False)
    network = model.student if phase == "student" else model.segmentation
    assert network is not None
    return network.train().requires_grad_(True)


def prepare(model: DeSTSeg, device: torch.device, *, compile_networks: bool = False) -> DeSTSeg:
    """Move a model to its device in the memory order its convolutions run fastest in."""
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile_networks:
        for network in (model.teacher, model.student, model.segmentation):
            if network is not None:
                network.compile()
    return model


def train(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, *, progress: bool = True
) -> list[StepLog]:
    """Both phases in one call, for a notebook; ``destseg_lib.runs.run`` adds checkpoints.

    Args:
        model: changed in place and left in eval mode.
        images: decoded at ``config.image_size``.
        config: ``precision`` may be ``auto``.
        progress: show a bar a phase.

    Returns:
        the records of both phases.
    """
    device = next(model.student.parameters()).device
    config = replace(config, precision=resolve_precision(config.precision, device))
    records = []
    for phase in phases_of(config):
        steps = phase_config(config, phase).steps
        with tqdm(total=steps, desc=phase, disable=not progress) as bar:
            for record in train_phase(model, images, config, start_phase(model, config, phase)):
                bar.update()
                if record is not None:
                    bar.set_postfix(loss=f"{record.loss:.4g}")
                    records.append(record)
    model.eval()
    return records
