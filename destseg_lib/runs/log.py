"""The log of a run, a JSON record a line, and the same for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from destseg_lib.batches import PHASES, Phase
from destseg_lib.files import write_whole
from destseg_lib.errors import DeSTSegError
from destseg_lib.training import StepLog


def append_record(path: Path, record: StepLog) -> None:
    """Add a record to the log.

    Raises:
        DeSTSegError: the disk is full or the file may not be written.
    """
    try:
        # Closed each time: what a full disk refuses must be refused here, not at a later close.
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record._asdict()) + "\n")
    except OSError as error:
        raise DeSTSegError(
            f"{path} could not be written ({error}); the last checkpoint is kept. Free some space "
            "and give the same command with --resume"
        ) from error


def rewind_log(path: Path, phase: Phase, step: int) -> None:
    """Drop records of steps that will be taken again, and a line a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            place = (PHASES.index(record["phase"]), record["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if place <= (PHASES.index(phase), step):
            kept.append(line + "\n")
    write_whole(path, lambda file: file.write("".join(kept).encode()))


@contextmanager
def tensorboard_writer(folder: Path, wanted: bool) -> Iterator[Any]:
    """A TensorBoard writer, closed at the end so that its last records reach the disk, or None.

    Raises:
        DeSTSegError: the tensorboard package is not installed.
    """
    if not wanted:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise DeSTSegError(
            "--tensorboard needs the tensorboard package; pip install tensorboard"
        ) from None
    with SummaryWriter(folder) as writer:
        yield writer


def add_scalars(writer: Any, record: StepLog) -> None:
    """Show a record in TensorBoard; nothing happens without a writer."""
    if writer is not None:
        writer.add_scalar(f"{record.phase}/loss", record.loss, record.step)
        writer.add_scalar(f"{record.phase}/learning_rate", record.learning_rate, record.step)
