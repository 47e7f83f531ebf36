"""Decoded images in a file: resumed after an interruption, shared by runs, mapped into memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.decoding import Progress, Task, decode
from destseg_lib.images.read import read_image

_FORMAT = 1  # raise it when decoding changes, so that old files are not taken for new ones


class _Files(NamedTuple):
    """A store on disk: whole, in the making, how far it is, and the lock around making it."""

    whole: Path
    partial: Path
    note: Path
    lock: Path


def on_disk(task: Task, folder: Path) -> tuple[NDArray[np.uint8], Progress]:
    """Return the images as a read-only memory map of a file in ``folder``, decoding what lacks.

    Raises:
        DeSTSegError: as ``decode``; also when there is no room or no right to write.
    """
    key = _key(task)
    files = _Files(*(folder / f"{key}.{end}" for end in ("npy", "partial", "json", "lock")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(files.lock, task.bar):
            state = _resume(files, task)
            task.bar.update(state.done)
            if not files.whole.exists():
                state = _write(files, task, state)
                files.partial.replace(files.whole)
        pixels = np.load(files.whole, mmap_mode="r")[: state.written]
    except OSError as error:
        raise DeSTSegError(
            f"The decoded images cannot be kept in {folder}: {error}. Make room there or name "
            "another cache folder; what has been decoded stays and is resumed."
        ) from error
    return pixels, state


@contextmanager
def _locked(path: Path, bar: tqdm[None]) -> Iterator[None]:
    """Hold the lock: several runs over the same images decode them once."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        bar.set_postfix_str("waiting for another run that decodes the same images")
        lock.acquire()
        bar.set_postfix_str("")
    try:
        yield
    finally:
        lock.release()


def _resume(files: _Files, task: Task) -> Progress:
    """Return how far an earlier call came, and remove what does not fit that."""
    state = _load_note(files.note)
    header = len(_header(task))
    if files.whole.exists():
        held = files.whole.stat().st_size
        fits = held == header + len(task.paths) * task.row and state.done == len(task.paths)
    else:
        held = files.partial.stat().st_size if files.partial.exists() else 0
        fits = held >= header + state.written * task.row
    # Files that failed are tried again: a right to read, once given, changes no size or date.
    if fits and not any(_readable(task, index) for index, _ in state.failed):
        return state
    for path in (files.whole, files.note):
        path.unlink(missing_ok=True)
    return Progress()


def _readable(task: Task, index: int) -> bool:
    try:
        read_image(task.paths[index], task.size)
    except DeSTSegError:
        if not task.skip:
            raise
        return False
    return True


def _write(files: _Files, task: Task, state: Progress) -> Progress:
    """Append to the partial file from where ``state`` left it; note progress after the data."""
    # Plain writes, not a writable memory map: a full disk is then an error and not a crash.
    with files.partial.open("r+b" if state.done else "w+b") as file:
        file.write(_header(task))
        file.seek(state.written * task.row, io.SEEK_CUR)
        needed = (len(task.paths) - state.done) * task.row
        free = shutil.disk_usage(files.partial.parent).free
        if needed > free:
            raise DeSTSegError(
                f"The decoded images need {needed / 1e9:.1f} GB in {files.partial.parent}, which "
                f"has {free / 1e9:.1f} GB free. Make room or name another cache folder."
            )
        for images, now in decode(task, state):
            file.write(images.data)
            file.flush()
            os.fsync(file.fileno())
            _save_note(files.note, now)
            state = now
        # Files that were skipped leave empty rows at the end.
        file.truncate(len(_header(task)) + len(task.paths) * task.row)
    return state


def _header(task: Task) -> bytes:
    shape = (len(task.paths), task.size, task.size, 3)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def _key(task: Task) -> str:
    """Hash what decoding depends on: which files in which order, their size and date, ``size``."""
    digest = hashlib.sha256(f"{_FORMAT} {task.size}".encode())
    folders: dict[Path, Path] = {}  # resolving a folder once, not once for each of its files
    for path in task.paths:
        folder = folders.get(path.parent) or folders.setdefault(path.parent, path.parent.resolve())
        try:
            status = path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            stamp = "unreadable"  # decoding says why
        digest.update(f"\0{folder / path.name}\0{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _load_note(note: Path) -> Progress:
    try:
        saved = json.loads(note.read_text(encoding="utf-8"))
        return Progress(saved["done"], tuple((int(i), str(why)) for i, why in saved["failed"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Progress()


def _save_note(note: Path, state: Progress) -> None:
    """Replace the note in one step: an interruption leaves the old one or the new one."""
    draft = note.with_suffix(".json.new")
    draft.write_text(json.dumps(state._asdict()), encoding="utf-8")
    draft.replace(note)
