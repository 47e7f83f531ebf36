"""Runs ``destseg`` commands in forks of one process, each killed at an exact moment if asked.

Importing torch takes seconds and a fault test needs dozens of processes, so this one imports once
and forks before torch has started any thread. A line on standard input is a JSON object:
``arguments`` of the command, the file its output goes to (``log``), the ``moment`` of a fault, a
``file_limit`` in bytes beyond which the system refuses to let a file grow, as a full disk does, the
folder to work in (``place``), an ``archive`` that takes the place of the Describable Textures', the
``exported`` graphs and runtime of a page, which take seconds to make and write nothing, the
``threads`` that torch has where nothing states their number, and whether the ``guard`` of outputs
is off. The answer is the exit status, -9 for killed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch
import torch._dynamo  # the first optimiser imports it, for more than a second in every fork

from destseg_lib import cli, training
from destseg_lib.evaluation import browser
from destseg_lib.files import outputs
from destseg_lib.images import download
from destseg_lib.runs import checkpoint, web_runtime
from destseg_lib.runs.halves import Halves


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: dict[str, int]) -> None:
    """Arrange for a fault in this process, counted from its start.

    ``step``: at the start of this step comes SIGKILL, or ``signal``. ``save``: killed half-way
    through writing this checkpoint. ``sync``: killed as this file or folder is forced to the disk,
    a file just before it takes its place, the folder just after. ``event``: killed at this event;
    a file has up to seven: before it is made, half-way through its first write, as it is forced to
    the disk, and before and after it takes its place or its line is listed.
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
    if "event" in moment:
        arrange_event(moment["event"])


class HalfWritten:
    """An open file whose first write can end half-way."""

    def __init__(self, file: IO[bytes], event: Callable[[], bool]) -> None:
        self.file, self.event = file, event

    def write(self, content: bytes) -> int:
        half = memoryview(content).cast("B")[: len(content) // 2]
        if self.event():
            self.file.write(half)
            self.file.flush()
            die()
        self.write = self.file.write  # type: ignore[method-assign]
        return self.file.write(content)

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def arrange_event(number: int) -> None:
    """Kill this process at an event of its file system, counted over all threads."""
    calls = itertools.count(1)

    def event() -> bool:
        return next(calls) == number

    def around(name: str) -> None:
        call = getattr(os, name)

        def call_or_die(*arguments: Any, **options: Any) -> Any:
            if event():
                die()
            result = call(*arguments, **options)
            if event():
                die()
            return result

        setattr(os, name, call_or_die)

    def open_or_die(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set("wxa") & set(mode):
            return opened(path, mode, *arguments, **options)
        if event():
            die()
        return HalfWritten(opened(path, mode, *arguments, **options), event)

    opened = Path.open
    Path.open = open_or_die  # type: ignore[method-assign,assignment]
    for name in ("link", "replace", "rename", "fsync"):
        around(name)


def replace_dataset(archive: Path) -> None:
    """Let ``destseg download dtd`` fetch this archive."""
    dataset = replace(
        download.DATASETS["dtd"],
        url=archive.as_uri(),
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        size=archive.stat().st_size,
    )
    download.DATASETS["dtd"] = dataset


def replace_export(folder: Path) -> None:
    """Let ``destseg page`` find its graphs in a folder, and take the runtime there for its own."""
    graphs = Halves(*((folder / name).read_bytes() for name in ("teacher.onnx", "rest.onnx")))
    browser.export_halves = lambda *_: graphs
    for name in web_runtime.FILES:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        web_runtime.FILES[name] = digest


def status_of(arguments: list[str]) -> int:
    """The exit status of a command, as the interpreter would give it."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


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
            if job.get("archive"):
                replace_dataset(Path(job["archive"]))
            if job.get("exported"):
                replace_export(Path(job["exported"]))
            if job.get("guard") is False:
                outputs.Outputs.check = lambda *_: None  # type: ignore[method-assign]
            if job.get("threads"):  # nothing says how many, so the command may choose
                os.environ.pop("OMP_NUM_THREADS", None)
                torch.set_num_threads(job["threads"])
            os.chdir(job.get("place") or ".")
            os._exit(status_of(job["arguments"]))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)


if __name__ == "__main__":
    main()
