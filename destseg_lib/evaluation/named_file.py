"""A single file that the user names, such as ``--json FILE``: replaced, or written through."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_whole
from destseg_lib.files.outputs import Outputs, identity, is_inside, outputs


@dataclass(frozen=True)
class NamedFile:
    """A single file that the user named; ``named_file`` makes it.

    Attributes:
        path: as the user named it; a link is followed.
        stream: it is no regular file but a pipe, a device or this process's own output: written
            through, once.
        listed: its folder's list, where the file is in a folder of data.
    """

    path: Path
    stream: bool
    listed: Outputs | None

    def write_json(self, values: object) -> None:
        """Write plain values as JSON.

        Raises:
            DeSTSegError: as ``write_whole``.
        """
        text = (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()
        target = Path(os.path.realpath(self.path))
        if self.listed is not None:
            self.listed.write(target.name, lambda file: file.write(text))
        elif not self.stream:
            write_whole(target, lambda file: file.write(text))
        else:
            _write_through(self.path, text)


def named_file(
    path: Path,
    read: Iterable[Path],
    data: Iterable[Path],
    *,
    by: str,
    option: str,
    overwrite: bool = False,
) -> NamedFile:
    """Check, before any work, that a file may be written that the user named.

    A regular file is replaced, unless the command reads it. In a folder of data the rules of
    ``Outputs`` hold.

    Args:
        path: of the file.
        read: every file that the command reads.
        data: folders of data.
        by: name of the command.
        option: that named the file, for messages.
        overwrite: replace a file in a folder of data.

    Raises:
        DeSTSegError: it may not, or cannot, be written.
    """
    place, target, read = identity(path), Path(os.path.realpath(path)), tuple(read)
    stream = place is not None and (not path.is_file() or _is_output(path) is not None)
    if path.is_dir() or not os.access(path if stream else target.parent, os.W_OK):
        raise DeSTSegError(
            f"{path} cannot be written; name a file in a folder that exists and may be written to"
        )
    if place is not None and place in map(identity, read):
        raise DeSTSegError(
            f"{path} is a file that this command reads, and is never written over; choose another "
            f"{option}"
        )
    listed = None
    if not stream and any(is_inside(target, folder) for folder in data):
        listed = outputs(
            target.parent, [target.name], read, by=by, option=option, overwrite=overwrite
        )
    return NamedFile(path, stream, listed)


def _write_through(path: Path, text: bytes) -> None:
    try:
        own = _is_output(path)
        if own is None:
            with path.open("wb") as file:
                file.write(text)
            return
        # Opened again, a file that output goes to would be written from its beginning.
        sys.stdout.flush()
        with os.fdopen(os.dup(own), "wb") as file:
            file.write(text)
    except OSError as error:
        raise DeSTSegError(f"{path} could not be written ({error}); choose another file") from None


def _is_output(path: Path) -> int | None:
    """The descriptor, 1 or 2, of this process that a path such as /dev/stdout leads to."""
    for descriptor in (1, 2):
        try:
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except OSError:
            continue
    return None
