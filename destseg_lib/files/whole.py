"""Files that survive a kill at any moment: whole files, and files of JSON lines.

A whole file is written next to its final place, forced to the disk and then renamed over it. At any
moment a reader finds the old file or the new one, never a part, even if the writer is killed.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from destseg_lib.errors import DeSTSegError

PARTIAL = ".destseg.partial"  # a browser has files of its own whose names end in .partial


def write_whole(
    path: Path,
    write: Callable[[IO[bytes]], object],
    *,
    sync: bool = True,
    ready: Callable[[Path], bool] | None = None,
) -> None:
    """Give ``path`` the bytes that ``write`` writes, all of them or none.

    Args:
        path: of the file. If it is a link, the link is replaced.
        write: called with the open file.
        sync: force the file to the disk, so that it survives a power cut, too.
        ready: called with the path of the whole file just before it takes its place; whether it may
            replace what is at ``path``. If not, and something comes there meanwhile, it is called
            again.

    Raises:
        DeSTSegError: the disk is full or the folder may not be written; the file that was at
            ``path`` before is still there.
    """
    # A name of its own: another process may be writing the same file. A name has 255 bytes at most.
    start = os.fsencode(path.name)[:200].decode(errors="ignore")
    temporary = path.with_name(f"{start}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        placed = False
        while not placed:
            if ready is None or ready(temporary):
                temporary.replace(path)
                placed = True
            else:
                placed = _put_if_free(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        kept = "the previous file is kept" if path.exists() else "nothing was kept"
        raise _not_written(path, error, kept) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: object) -> None:
    """Write plain values as JSON, whole or not at all; raises as ``write_whole``."""
    content = json_bytes(values)
    write_whole(path, lambda file: file.write(content))


def json_bytes(values: object) -> bytes:
    """Plain values as the JSON of every file that people may read."""
    return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a file that ``write_json`` wrote.

    Raises:
        DeSTSegError: the file is missing or not JSON.
    """
    try:
        if not path.is_dir() and path.exists() and not path.is_file():
            raise OSError("it is a pipe or a device")  # reading it would wait for ever
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeSTSegError(
            f"{path} could not be read ({error}); is {path.parent} a folder that "
            "'destseg train --out' wrote?"
        ) from None


def append_json_line(path: Path, record: object) -> None:
    """Add a record to a file with one JSON value per line; it is on the disk when this returns.

    A line that a kill cut short is removed first.

    Raises:
        DeSTSegError: the disk is full or the file may not be written.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    try:
        # Closed each time: an error of the disk must appear here, not at a later close.
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _not_written(path, error, "earlier records are kept") from error


def read_json_lines(path: Path) -> list[Any]:
    """Read what ``append_json_line`` wrote; without a file there are no records.

    A last line without its end was cut short by a kill and is dropped.

    Raises:
        DeSTSegError: another line is not JSON; the message gives its number.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise DeSTSegError(
                f"{path}, line {number} is not a record; remove the line and give the command again"
            ) from None
    return records


def remove_partial_files(folder: Path) -> None:
    """Remove the files that ``write_whole`` was writing in ``folder`` when it was killed."""
    for leftover in folder.glob(f"*{PARTIAL}"):
        leftover.unlink()


def _put_if_free(whole: Path, path: Path) -> bool:
    """Put a file in its place unless there is one; renaming would replace what has just come."""
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        whole.replace(path)
    return True


def _not_written(path: Path, error: Exception, kept: str) -> DeSTSegError:
    return DeSTSegError(
        f"{path} could not be written ({error}); {kept}. Free some space or choose another "
        "folder, and give the command again (a training run continues with --resume)"
    )


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
