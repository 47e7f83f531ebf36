"""What a folder of drawn images says of itself: the settings that it was drawn with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import PARTIAL
from destseg_lib.files.outputs import own_lock

MANIFEST = "made.json"
UNFINISHED = "unfinished"  # a key of the manifest until every image is drawn


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The settings in a folder, with ``UNFINISHED`` if it was interrupted; None for none."""
    if not os.path.lexists(root / MANIFEST):
        return None
    try:
        regular = (root / MANIFEST).is_file()  # a pipe would be waited for
        there = json.loads((root / MANIFEST).read_text(encoding="utf-8")) if regular else None
        if isinstance(there, dict):
            return there
        problem = "it is no table of settings"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise DeSTSegError(
        f"{root / MANIFEST} does not say what {root.name} was drawn with ({problem}); remove "
        f"{root}, or choose another folder"
    )


def check_settings(root: Path, made: dict[str, Any]) -> None:
    """Refuse a folder that was drawn, or begun, with other settings."""
    there = read_manifest(root)
    if there is None or {**there, UNFINISHED: 0} == {**made, UNFINISHED: 0}:
        return
    what = "was begun to be drawn" if UNFINISHED in there else "was drawn"
    raise DeSTSegError(
        f"{root} {what} with other settings ({_differences(there, made)}); remove the folder, or "
        "choose another"
    )


def check_only(root: Path, files: list[str]) -> None:
    """Refuse a folder that holds anything that is not a file of the category."""
    for other in sorted(files_in(root) - {*files, MANIFEST}):
        raise DeSTSegError(
            f"{root} holds {other}, which is no file of the drawn category {root.name}; choose "
            "another folder"
        )


def files_in(root: Path) -> set[str]:
    """Every file and link below a folder, except hidden ones."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if (path.is_symlink() or not path.is_dir())
        and not path.name.startswith(".")
        and not path.name.endswith(PARTIAL)
    }


def drawing_lock(root: Path) -> FileLock:
    """A lock that lets one process at a time draw a category."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeSTSegError(
            f"{root} could not be written ({error}); free some space or choose another folder"
        ) from error
    return own_lock(root.parent / f".{root.name}.lock")


def _differences(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {there.get(key)} instead of {value}"
        for key, value in wanted.items()
        if there.get(key) != value
    )
