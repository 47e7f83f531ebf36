"""Files that are either whole or not there.

A file is written next to its final place, forced to the disk and then renamed over it. At any
moment a reader finds the old file or the new one, never a part, even if the writer is killed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from destseg_lib.errors import DeSTSegError

PARTIAL = ".partial"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Give ``path`` the bytes that ``write`` writes, all of them or none.

    Raises:
        DeSTSegError: the disk is full or the folder may not be written; what stood at ``path``
            before is still there.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=path.name, suffix=PARTIAL, delete=False
        ) as file:
            temporary = Path(file.name)
            write(file)
            temporary.chmod(0o666 & ~_umask())  # temporary files are for their owner alone
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        kept = "the previous file is kept" if path.exists() else "nothing was kept"
        raise DeSTSegError(
            f"{path} could not be written ({error}); {kept}. Free some space or choose another "
            "folder, and give the command again (a training run goes on with --resume)"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, values: object) -> None:
    """Write plain values as JSON, whole or not at all."""
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote.

    Raises:
        DeSTSegError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DeSTSegError(
            f"{path} could not be read ({error}); is {path.parent} a folder that "
            "'destseg train --out' wrote?"
        ) from None


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed run was in the middle of writing."""
    for leftover in folder.glob(f"*{PARTIAL}"):
        leftover.unlink()


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
