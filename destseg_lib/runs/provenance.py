"""Where a number came from: versions, machine and commit, written next to every result."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from destseg_lib.device import describe_device

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, device, commit and time of day, as plain JSON values; no paths, no host name."""
    return {
        "destseg_lib": _version("destseg_lib"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": describe_device(device),
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """The commit that this library is at, with ``+changes`` if the library differs from it.

    None outside a checkout of this project.
    """
    package = Path(__file__).resolve().parent.parent
    top = _git(package, "rev-parse", "--show-toplevel")
    # An installed copy may be inside another repository, whose commit says nothing.
    if not top or Path(top).resolve() != package.parent:
        return None
    head = _git(package, "rev-parse", "HEAD")
    if not head:
        return None
    return head + ("+changes" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
