"""Fixtures that several test files share, and the guard against the network."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forks import Fork, forking
from tiny import TINY, tiny_model

from destseg_lib.runs.run import Run

OFFLINE = Path(__file__).resolve().parent / "offline"
SHARED = Path(__file__).resolve().parents[2] / "shared"
# Files whose tests take minutes, the longest first.
LONGEST = (
    "test_fuzz", "test_kills", "test_agreement", "test_live", "test_ray", "test_export",
    "test_faults",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no core waits for one of them at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material next to the project; the project itself needs none of it."""
    if not SHARED.is_dir():
        pytest.skip("the reference material is not at ../shared")
    return SHARED


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder everybody may enter; pytest's own is for its owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run a file on one thread: tiny tensors are slower on several, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def fork() -> Iterator[Fork]:
    """A function that runs a command in a fork of a process that has imported the library."""
    with forking() as run:
        yield run


@pytest.fixture(scope="module")
def untrained_run() -> Run:
    """A tiny model that was never trained, without calibration scores."""
    return Run(tiny_model().eval(), TINY, "random", ())


# `make` puts the guard on PYTHONPATH, which child processes inherit; a bare `pytest` gets it here.
if "sitecustomize" not in sys.modules or not hasattr(sys.modules["sitecustomize"], "MARK"):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
    )
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))
