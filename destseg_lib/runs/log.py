"""The log of a run: one JSON record per line, and the same records for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from destseg_lib.batches import PHASES, Phase
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import append_json_line, read_json_lines, write_whole
from destseg_lib.training import StepLog


@contextmanager
def open_log(path: Path, *, tensorboard: bool) -> Iterator[Callable[[StepLog], None]]:
    """Yield a function that adds a record to the log and, if wanted, to TensorBoard.

    Raises:
        DeSTSegError: the tensorboard package is not installed; from the function, a full disk.
    """
    writer = None
    if tensorboard:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise DeSTSegError(
                "--tensorboard needs the tensorboard package; pip install tensorboard"
            ) from None
        writer = SummaryWriter(path.parent / "tensorboard")

    def log(record: StepLog) -> None:
        append_json_line(path, record._asdict())
        if writer is not None:
            for name in ("loss", "learning_rate"):
                writer.add_scalar(f"{record.phase}/{name}", getattr(record, name), record.step)

    try:
        yield log
    finally:
        if writer is not None:
            writer.close()  # else its last records never reach the disk


def rewind_log(path: Path, phase: Phase, step: int) -> None:
    """Drop the records of steps that will be taken again."""
    kept = [
        record
        for record in read_json_lines(path)
        if (PHASES.index(record["phase"]), record["step"]) <= (PHASES.index(phase), step)
    ]
    if path.exists():
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_whole(path, lambda file: file.write(lines.encode()))
