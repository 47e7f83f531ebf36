"""Fixtures that several test files share, and the guard against the network."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

OFFLINE = Path(__file__).resolve().parent / "offline"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material next to the project; the project itself needs none of it."""
    if not SHARED.is_dir():
        pytest.skip("the reference material is not at ../shared")
    return SHARED


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run a file on one thread: tiny tensors are slower on several, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# `make` puts the guard on PYTHONPATH, which child processes inherit; a bare `pytest` gets it here.
if "sitecustomize" not in sys.modules or not hasattr(sys.modules["sitecustomize"], "MARK"):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
    )
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))
