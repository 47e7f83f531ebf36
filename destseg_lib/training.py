"""Training in two phases (section 4.2): the student first, then the segmentation network.

The student is frozen in the second phase. Each phase computes only what its loss needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from destseg_lib.batches import (
    PHASES,
    Batch,
    Phase,
    Targets,
    TrainingImages,
    at_hand,
    draw_batch,
)
from destseg_lib.config import PhaseConfig, TrainingConfig
from destseg_lib.corruption import shrink_masks
from destseg_lib.device import autocast, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.losses import feature_loss, segmentation_loss
from destseg_lib.model import DeSTSeg, quarter

WARM_UP = 0.1  # share of a one-cycle schedule spent rising
# Losses of so many steps are read together: reading one makes a GPU wait.
LOG_EVERY = 10
Features = tuple[Tensor, ...]  # of the levels in use, (B, C_k, H_k, W_k) each
# Devices where the optimiser updates all weights in one call. Not in fp16: if its first step
# overflows and is skipped, torch's fused SGD goes on from a momentum that was never set.
FUSED = ("cpu", "cuda")


class NonFiniteLossError(DeSTSegError):
    """The loss became infinite or not a number; the message names the step."""


@dataclass
class TrainingState:
    """Where a phase is: ``step`` steps are done, and ``losses`` of the last ones are unread."""

    phase: Phase
    step: int
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    losses: list[Tensor] = field(default_factory=list)


class StepLog(NamedTuple):
    """A record of training: the mean loss of the steps since the record before.

    ``step`` counts from 1 in each phase; ``learning_rate`` is that of the phase's first parameter
    group at this step; ``seconds`` are counted from the start or the resumption of the phase.
    """

    phase: Phase
    step: int
    loss: float
    learning_rate: float
    seconds: float


def student_phase_loss(
    model: DeSTSeg, batch: Batch, config: TrainingConfig, target: Features | None = None
) -> Tensor:
    """Distance of the student's features to the teacher's features of the clean image, ().

    The student sees the corrupted image (equations 2 and 3). ``target`` is what the teacher says,
    where that is known already.
    """
    target = target or target_features(model, batch)
    seen = batch.corrupted if config.denoising else batch.clean
    return feature_loss(model.select(model.student(seen)), target)


@torch.no_grad()
def target_features(model: DeSTSeg, batch: Batch) -> Features:
    """The student's target: what the teacher says of the clean images, in the levels in use."""
    return model.select(model.teacher(batch.clean))


def segmentation_phase_loss(model: DeSTSeg, batch: Batch, config: TrainingConfig) -> Tensor:
    """Focal and L1 loss of the synthetic anomaly found from frozen student and teacher, ().

    Equation 7.
    """
    with torch.no_grad():
        teacher, student = model.features(batch.corrupted)
    logits = model.logits(teacher, student, quarter(batch.corrupted))
    return segmentation_loss(logits, shrink_masks(batch.masks), config.focal_gamma, config.l1)


LOSSES: dict[Phase, Callable[..., Tensor]] = {
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
    """The phases that a configuration trains; without a segmentation network only the first."""
    return PHASES if config.model.segmentation else PHASES[:1]


def learning_rate_factor(phase: PhaseConfig, step: int) -> float:
    """Factor in (0, 1] by which a step's learning rates are multiplied; ``step`` counts from 0.

    ``one_cycle`` rises over the first tenth and falls along a cosine to nearly nothing.
    """
    if phase.schedule == "constant":
        return 1.0
    rise = max(1, round(WARM_UP * phase.steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, phase.steps - rise)
    return max(1e-3, (1 + math.cos(math.pi * done)) / 2)


def learning_rates(config: TrainingConfig, phase: Phase, step: int) -> tuple[float, ...]:
    """Learning rate of each parameter group of ``start_phase``; ``step`` counts from 0.

    The student is one group; the segmentation network's residual blocks and head are two.
    """
    options = phase_config(config, phase)
    factor = learning_rate_factor(options, step)
    if phase == "student":
        return (options.lr * factor,)
    head_lr = options.lr if options.head_lr is None else options.head_lr
    return options.lr * factor, head_lr * factor


def start_phase(model: DeSTSeg, config: TrainingConfig, phase: Phase) -> TrainingState:
    """A fresh optimiser for one phase, at step 0."""
    options = phase_config(config, phase)
    device = next(model.student.parameters()).device
    networks: list[nn.Module] = [model.student]
    if phase == "segmentation":
        assert model.segmentation is not None
        networks = [model.segmentation.residual, model.segmentation.head]
    groups = [{"params": list(network.parameters())} for network in networks]
    fused = (device.type in FUSED and config.precision != "fp16") or None  # None: torch's choice
    shared: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    optimiser: torch.optim.Optimizer
    if options.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, momentum=options.momentum, fused=fused, **shared)
    else:
        optimiser = torch.optim.AdamW(groups, fused=fused, **shared)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    return TrainingState(phase, 0, optimiser, scaler)


def train_phase(
    model: DeSTSeg,
    images: TrainingImages,
    config: TrainingConfig,
    state: TrainingState,
    log: Callable[[StepLog], object] = lambda record: None,
    *,
    progress: bool = False,
) -> Iterator[Tensor]:
    """Take the remaining steps of one phase, one step per iteration.

    Between two iterations model and state can be saved. Stop iterating to stop training.

    Args:
        model: on its device; its weights are changed by every step.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        state: from ``start_phase`` or a checkpoint; every step changes it with its optimiser.
        log: is given a record every ten steps and at the end.
        progress: show a bar.

    Yields:
        the loss of the step, (); reading it makes a GPU finish first.

    Raises:
        NonFiniteLossError: the loss is infinite or NaN.
    """
    phase, steps = state.phase, phase_config(config, state.phase).steps
    device = next(model.student.parameters()).device
    network = train_only(model, phase)
    images = at_hand(images, device)
    targets = Targets(len(images.good), config)
    started = time.perf_counter()
    with tqdm(total=steps, initial=state.step, desc=phase, leave=None, disable=not progress) as bar:
        while state.step < steps:
            network.train()  # the caller may have called model.eval() between steps
            rates = learning_rates(config, phase, state.step)
            for group, rate in zip(state.optimiser.param_groups, rates, strict=True):
                group["lr"] = rate
            batch = draw_batch(images, config, phase, state.step, device)
            with autocast(device, config.precision):
                target = partial(target_features, model, batch)
                known = [targets.of(state.step, target)] if phase == "student" else []
                loss = LOSSES[phase](model, batch, config, *known)
            state.optimiser.zero_grad(set_to_none=True)
            state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            state.scaler.step(state.optimiser)
            state.scaler.update()
            state.step += 1
            state.losses.append(loss.detach())
            bar.update()
            if state.step % LOG_EVERY == 0 or state.step == steps:
                mean = float(np.mean(finite_losses(state)))
                state.losses.clear()
                bar.set_postfix(loss=f"{mean:.4g}")
                log(StepLog(phase, state.step, mean, rates[0], time.perf_counter() - started))
            yield loss.detach()


def finite_losses(state: TrainingState) -> list[float]:
    """Read the losses since the last record; call it before a state's weights are kept.

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


def train_only(model: DeSTSeg, phase: Phase) -> nn.Module:
    """Put only the network of this phase in train mode, with gradients; return it."""
    model.eval().requires_grad_(False)
    network = model.student if phase == "student" else model.segmentation
    assert network is not None
    return network.train().requires_grad_(True)


def move_to_device(
    model: DeSTSeg, device: torch.device, *, compile_networks: bool = False
) -> DeSTSeg:
    """Move a model to its device, in the memory order in which its convolutions run fastest."""
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile_networks:
        for network in (model.teacher, model.student, model.segmentation):
            if network is not None:
                network.compile()
    return model


def train(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, *, progress: bool = True
) -> list[StepLog]:
    """Both phases in one call, for a notebook; ``destseg_lib.runs.checkpoint`` adds checkpoints.

    Args:
        model: changed in place and left in eval mode.
        images: decoded at ``config.image_size``.
        config: ``precision`` may be ``auto``.
        progress: show one bar per phase.

    Returns:
        the records of both phases.

    Raises:
        NonFiniteLossError: the loss is infinite or NaN.
    """
    device = next(model.student.parameters()).device
    config = replace(config, precision=resolve_precision(config.precision, device))
    records: list[StepLog] = []
    for phase in phases_of(config):
        state = start_phase(model, config, phase)
        for _ in train_phase(model, images, config, state, records.append, progress=progress):
            pass
    model.eval()
    return records
