"""What a command may write: never over a file that it reads, nor over one that is not its own.

Each folder that a command writes to keeps a list of what was written, ``.destseg-files.jsonl``. A
line is a JSON object: ``file`` (its path from that folder), ``size`` in bytes, ``sha256``, and
``by``, the command. A line is added just before its file takes its place, so that a kill at any
moment leaves no file without its line. A file may be replaced if a line fits it. A user's file has
no line, and one that a user changed has none that fits.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock

from destseg_lib.errors import DeSTSegError
from destseg_lib.files.whole import json_bytes, remove_partial_files, write_whole

LIST = ".destseg-files.jsonl"


class Listed(NamedTuple):
    """One file that a command wrote, as its folder's list says it."""

    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Outputs:
    """The files that a command writes into one folder; ``outputs`` makes it.

    Attributes:
        folder: of the files.
        by: the command, as the list names it.
        read: device and number of every file that the command reads.
        option: that named the folder, for messages.
        overwrite: replace files that are not listed, too; None if the command cannot.
        listed: the folder's list, and the command that wrote each file.
    """

    folder: Path
    by: str
    read: frozenset[tuple[int, int]]
    option: str
    overwrite: bool | None
    listed: dict[Listed, str]

    def check(self, names: Iterable[str]) -> None:
        """Check that these files may be written; they are named by their paths from the folder.

        Raises:
            DeSTSegError: one is read by this command, or is there and is not listed.
        """
        for path in (self.folder / name for name in names):
            if not os.path.lexists(path):
                continue
            if path.is_dir():
                raise DeSTSegError(
                    f"{path} could not be written: it is a folder. Choose another {self.option}"
                )
            if identity(path) in self.read:
                raise DeSTSegError(
                    f"{path} is a file that this command reads, and is never written over; choose "
                    f"another {self.option}"
                )
            if not self.overwrite and not self._wrote(path):
                advice = "" if self.overwrite is None else ", or replace it with --overwrite"
                raise DeSTSegError(
                    f"{path} is there already, and {self.folder} does not list it as written by "
                    "destseg and unchanged since (version 0.1 kept no list); move it away or "
                    f"choose another {self.option}{advice}"
                )

    def prepare(self) -> None:
        """Make the folder, and tidy up what a killed command left.

        Raises:
            DeSTSegError: the folder cannot be made.
        """
        self._make(self.folder)
        remove_partial_files(self.folder)
        self._tidy_list()

    def write(self, name: str, write: Callable[[IO[bytes]], object], *, sync: bool = True) -> None:
        """Write, check and list a file; raises as ``check`` and ``write_whole``."""
        path = self.folder / name

        def ready(whole: Path) -> bool:
            self._add(name, whole, sync)
            there = os.path.lexists(path)
            self.check([name])  # again, because somebody else may have put a file there
            return there

        self._make(path.parent)
        write_whole(path, write, sync=sync, ready=ready)

    def write_json(self, name: str, values: object) -> None:
        """Write plain values as JSON; raises as ``write``."""
        content = json_bytes(values)
        self.write(name, lambda file: file.write(content))

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeSTSegError(
                f"{folder} could not be written ({error}). Free some space or choose another "
                f"{self.option}"
            ) from error

    def _tidy_list(self) -> None:
        """Drop a last line that was cut short, and lines of files that are no longer there."""
        file = self.folder / LIST
        if not file.exists():
            return
        grown = len(self.listed) > 2 * len({entry.file for entry in self.listed}) + 100
        if grown or not file.read_bytes().endswith(b"\n"):
            kept = {
                e: by for e, by in self.listed.items() if _entry(self.folder / e.file, e.file) == e
            }
            text = "".join(_line(entry, by) for entry, by in kept.items())
            write_whole(file, lambda opened: opened.write(text.encode()))
            self.listed.clear()
            self.listed.update(kept)

    def _wrote(self, path: Path) -> bool:
        entry = _entry(path, path.relative_to(self.folder).as_posix())
        if entry not in self.listed:
            self.listed.update(read_list(self.folder))  # another process may write here, too
        return entry in self.listed

    def _add(self, name: str, whole: Path, sync: bool) -> None:
        entry = _entry(whole, name)
        assert entry is not None
        if self.listed.get(entry) == self.by:
            return
        with (self.folder / LIST).open("ab") as file:
            file.write(_line(entry, self.by).encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())
        self.listed[entry] = self.by


def outputs(
    folder: Path,
    names: Iterable[str],
    read: Iterable[Path],
    *,
    by: str,
    option: str = "--out",
    overwrite: bool | None = None,
) -> Outputs:
    """Check, before any work, that a command may write these files; nothing is written yet.

    Args:
        folder: of the files; it need not exist.
        names: of the files that will be written.
        read: every file that the command reads.
        by: name of the command.
        option: that named the folder, for messages.
        overwrite: as in ``Outputs``.

    Raises:
        DeSTSegError: as ``Outputs.check``, or the folder's list is damaged.
    """
    inputs = frozenset(found for path in read if (found := identity(path)) is not None)
    if identity(folder / LIST) in inputs:
        raise DeSTSegError(f"{folder / LIST} is a file that this command reads; move it away")
    made = Outputs(folder, by, inputs, option, overwrite, read_list(folder))
    made.check(names)
    return made


def read_list(folder: Path) -> dict[Listed, str]:
    """The files that a folder's list names, each with the command that wrote it.

    Raises:
        DeSTSegError: the list is damaged, or something else has its name.
    """
    path = folder / LIST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("not a regular file")
        *lines, cut = path.read_bytes().split(b"\n")
        records = [json.loads(line) for line in lines]
        # A last line without its end was cut short by a kill; its file never took its place.
        if cut[:8] != b'{"file":'[: len(cut)]:
            raise ValueError("its last line is no entry")
        return {Listed(r["file"], r["size"], r["sha256"]): str(r["by"]) for r in records}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeSTSegError(
            f"{path} is not a list of files that destseg wrote ({error}); move it away, or choose "
            "another folder"
        ) from None


def written(paths: Iterable[Path]) -> dict[Path, str]:
    """Those of some files that are listed in their folder, each with the command that wrote it.

    Raises:
        DeSTSegError: as ``read_list``.
    """
    found = {}
    for folder, files in groupby(paths, lambda path: path.parent):
        listed = read_list(folder)
        names = {entry.file for entry in listed}
        for path in files:
            if path.name in names and (entry := _entry(path, path.name)) in listed:
                found[path] = listed[entry]
    return found


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, which need not exist, is the folder or below it, by whatever name."""
    place, real = identity(folder), Path(os.path.realpath(path))
    return place is not None and place in map(identity, (real, *real.parents))


def own_lock(path: Path, timeout: float = -1) -> FileLock:
    """A lock kept in a file that is empty; taking it would empty a user's file of this name.

    Raises:
        DeSTSegError: there is something else of this name.
    """
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.stat().st_size):
        raise DeSTSegError(
            f"{path} is not a lock of destseg; move it away, or choose another folder"
        )
    return FileLock(path, timeout=timeout)


def identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file that a path leads to, the same for all of its names.

    None if there is none.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entry(path: Path, name: str) -> Listed | None:
    """What a list says of a file; None if it is no regular file, or cannot be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Listed(name, file.tell(), digest)
    except OSError:
        return None


def _line(entry: Listed, by: str) -> str:
    return json.dumps({**entry._asdict(), "by": by}) + "\n"
