"""Runs ``destseg`` commands in forks of one process, each killed at an exact moment if asked.

Importing torch takes seconds and a fault test needs dozens of processes, so this one imports once
and forks before torch has started any thread. A line on standard input is a JSON object:
``arguments`` of the command, the file its output goes to (``log``), the ``moment`` of a fault and a
``file_limit`` in bytes beyond which the system refuses to let a file grow, as a full disk does. The
answer is the exit status, -9 for killed.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

import torch

from destseg_lib import cli, training
from destseg_lib.runs import checkpoint


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: dict[str, int]) -> None:
    """Arrange for a fault in this process, counted from its start.

    ``step``: at the start of this step comes SIGKILL, or ``signal``. ``save``: killed half-way
    through writing this checkpoint. ``sync``: killed as this file or folder is forced to the disk,
    a file just before it takes its place, the folder just after.
    """
    calls = itertools.count(1)
    if "step" in moment:
        draw = training.draw_batch

        def draw_or_die(*arguments: Any) -> Any:
            if next(calls) == moment["step"]:
                os.kill(os.getpid(), moment.get("signal", signal.SIGKILL))
            return draw(*arguments)

        training.draw_batch = draw_or_die
    if "save" in moment:
        save = torch.save

        def save_or_die(content: Any, file: IO[bytes]) -> None:
            if next(calls) == moment["save"]:
                whole = io.BytesIO()
                save(content, whole)
                file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                file.flush()
                die()
            save(content, file)

        checkpoint.torch.save = save_or_die  # type: ignore[attr-defined]
    if "sync" in moment:
        sync = os.fsync

        def sync_or_die(descriptor: int) -> None:
            if next(calls) == moment["sync"]:
                die()
            sync(descriptor)

        os.fsync = sync_or_die


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(Path(job["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            arrange(job["moment"])
            if job["file_limit"] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], job["file_limit"]))
            os._exit(cli.main(job["arguments"]))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)


if __name__ == "__main__":
    main()
