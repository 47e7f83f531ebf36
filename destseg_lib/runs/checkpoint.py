"""Files that are either whole or not there, and the checkpoint of a run in progress.

A file is written beside its final place, forced to the disk and then renamed over it, so whoever
looks (or is killed) at any moment finds the old file or the new one, never a part.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from destseg_lib.batches import PHASES
from destseg_lib.config import TrainingConfig, config_to_dict
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_whole
from destseg_lib.model import DeSTSeg
from destseg_lib.teacher import read_weights_file
from destseg_lib.training import TrainingState, start_phase

FORMAT = 1


def save_checkpoint(
    path: Path, model: DeSTSeg, config: TrainingConfig, state: TrainingState
) -> None:
    """Save everything the remaining steps depend on, but for the images and the teacher."""
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
    """Bring ``model`` to where a checkpoint left it.

    Raises:
        DeSTSegError: the file is damaged, holds code, or belongs to another configuration.
    """
    try:
        content = read_weights_file(path)
    except DeSTSegError:
        raise DeSTSegError(
            f"{path} could not be read: it is damaged, or no checkpoint. Restore it, or delete it "
            "and --resume will train this run from its beginning"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DeSTSegError(f"{path} is not a checkpoint of this version of destseg_lib")
    if json.loads(content["config"]) != json.loads(json.dumps(config_to_dict(config))):
        raise DeSTSegError(
            f"{path} was written under another configuration than this run's; give the options it "
            "was started with, or another --out"
        )
    load_trained_weights(model, content["model"], path)
    state = start_phase(model, config, content["phase"])
    state.step = content["step"]
    state.optimiser.load_state_dict(content["optimiser"])
    state.scaler.load_state_dict(content["scaler"])
    return state


def trained_weights(model: DeSTSeg) -> dict[str, torch.Tensor]:
    """Everything training changes: weights and statistics of student and segmentation network."""
    return {k: v for k, v in model.state_dict().items() if k.startswith(PHASES)}


def load_trained_weights(model: DeSTSeg, weights: dict[str, torch.Tensor], source: Path) -> None:
    """Put ``trained_weights`` back.

    Raises:
        DeSTSegError: they are another architecture's.
    """
    own = trained_weights(model)
    wrong = sorted(set(own) ^ set(weights)) or sorted(
        k for k in own if own[k].shape != weights[k].shape
    )
    if wrong:
        found = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "absent"
        expected = tuple(own[wrong[0]].shape) if wrong[0] in own else "absent"
        raise DeSTSegError(
            f"{source} holds another architecture: {wrong[0]} is {found} there and {expected} in "
            "this model; use the configuration it was trained with"
        )
    model.load_state_dict(weights, strict=False)


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Let the step in hand finish: yields a function that says whether to stop after it.

    Ctrl-C or a termination request is only noted, so that no half-taken step is ever saved; the
    same a second time stops at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Python delivers signals to the main thread alone
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
