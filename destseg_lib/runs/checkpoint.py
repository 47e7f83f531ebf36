"""Training that survives a kill at any moment, through checkpoints in the run's folder."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from destseg_lib.batches import TrainingImages
from destseg_lib.config import TrainingConfig, config_from_dict, config_to_dict
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import remove_partial_files, write_whole
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.log import open_log, rewind_log
from destseg_lib.runs.run import (
    CHECKPOINT,
    LOG,
    MODEL,
    load_trained_weights,
    save_weights,
    trained_weights,
)
from destseg_lib.teacher import read_weights_file
from destseg_lib.training import (
    NonFiniteLossError,
    TrainingState,
    finite_losses,
    phase_config,
    phases_of,
    start_phase,
    train_phase,
)

FORMAT = 1


class InterruptedRunError(Exception):
    """Training was stopped on request and saved; the message says at which step."""


def train_with_checkpoints(
    out: Path,
    model: DeSTSeg,
    images: TrainingImages,
    config: TrainingConfig,
    *,
    checkpoint_every: int = 250,
    tensorboard: bool = False,
    progress: bool = True,
) -> None:
    """Train a started run to its end, from its checkpoint if it has one.

    Args:
        out: the run's folder, from ``start_run``.
        model: on its device; its weights are changed.
        images: decoded at ``config.image_size``.
        config: the run's.
        checkpoint_every: steps between checkpoints; the end of a phase is always saved.
        tensorboard: write the log for TensorBoard, too.
        progress: show one bar per phase.

    Raises:
        InterruptedRunError: asked to stop (Ctrl-C, or termination); everything so far is saved.
        NonFiniteLossError: training diverged; the last checkpoint is from before.
        DeSTSegError: a checkpoint could not be written or read.
    """
    remove_partial_files(out)
    checkpoint = out / CHECKPOINT
    if (out / MODEL).exists():
        checkpoint.unlink(missing_ok=True)  # a kill came between the two
        return
    phases = phases_of(config)
    state = start_phase(model, config, phases[0])
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, model, config)
    rewind_log(out / LOG, state.phase, state.step)
    with open_log(out / LOG, tensorboard=tensorboard) as log, interrupts_wait() as stop:
        for phase in phases[phases.index(state.phase) :]:
            if state.phase != phase:
                state = start_phase(model, config, phase)
            steps = phase_config(config, phase).steps
            try:
                for _ in train_phase(model, images, config, state, log, progress=progress):
                    stopping = stop()  # asked once: it may change before the step is saved
                    if stopping or state.step % checkpoint_every == 0 or state.step == steps:
                        _save_if_finite(checkpoint, model, config, state)
                    if stopping:
                        raise InterruptedRunError(
                            f"stopped at {phase} step {state.step} of {steps}, saved in {out}; "
                            "to continue, give the same command with --resume"
                        )
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"{error}. {_last_good(checkpoint)}") from None
    save_weights(
        out / MODEL, trained_weights(model), {"config": json.dumps(config_to_dict(config))}
    )
    checkpoint.unlink(missing_ok=True)


def save_checkpoint(
    path: Path, model: DeSTSeg, config: TrainingConfig, state: TrainingState
) -> None:
    """Save everything that the remaining steps need, except the images and the teacher."""
    content = {
        "format": FORMAT,
        "config": json.dumps(config_to_dict(config)),
        "phase": state.phase,
        "step": state.step,
        "model": trained_weights(model),
        "optimiser": state.optimiser.state_dict(),
        "scaler": state.scaler.state_dict(),
    }
    write_whole(path, lambda file: torch.save(content, file))


def load_checkpoint(path: Path, model: DeSTSeg, config: TrainingConfig) -> TrainingState:
    """Give ``model`` the weights of a checkpoint, and return the state to continue from.

    Raises:
        DeSTSegError: the file is damaged, holds code, or belongs to another configuration.
    """
    try:
        content = read_weights_file(path)
    except DeSTSegError:
        raise DeSTSegError(
            f"{path} could not be read: it is damaged, or not a checkpoint. Restore it, or delete "
            "it and --resume will train this run from its beginning"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DeSTSegError(
            f"{path} is not a checkpoint of this version of destseg_lib; delete it and --resume "
            "will train this run from its beginning"
        )
    if config_from_dict(json.loads(content["config"])) != config:
        raise DeSTSegError(
            f"{path} was written under another configuration than this run's; give the options "
            "that it was started with, or another --out"
        )
    load_trained_weights(model, content["model"], path)
    state = start_phase(model, config, content["phase"])
    state.step = content["step"]
    state.optimiser.load_state_dict(content["optimiser"])
    state.scaler.load_state_dict(content["scaler"])
    return state


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Let the current step finish: yields a function that says whether to stop after it.

    Ctrl-C or a termination request is only noted, so that a half-taken step is never saved; a
    second one stops at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Python delivers signals to the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _save_if_finite(
    checkpoint: Path, model: DeSTSeg, config: TrainingConfig, state: TrainingState
) -> None:
    """A diverged state must not replace a good one; weights can overflow before a loss does."""
    finite_losses(state)
    if not all(bool(torch.isfinite(t).all()) for t in trained_weights(model).values()):
        raise NonFiniteLossError(
            f"a weight is infinite or not a number after {state.phase} step {state.step}; "
            "the learning rate is probably too high, or the precision too low (try fp32)"
        )
    save_checkpoint(checkpoint, model, config, state)


def _last_good(checkpoint: Path) -> str:
    if not checkpoint.exists():
        return "No checkpoint had been saved yet"
    content = read_weights_file(checkpoint)
    assert isinstance(content, dict)
    return f"The last good checkpoint is {checkpoint}, {content['phase']} step {content['step']}"
