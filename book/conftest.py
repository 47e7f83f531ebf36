"""Have nbval not compare progress bars in the book's notebooks: they depend on the machine.

Anything else that a cell writes to stderr fails the build: see tools/book/check_book.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parents[1] / "results" / "chapters.json"


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Begin with the chapters that take longest, so that no core waits for one at the end."""
    measured = json.loads(RECORD.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -measured.get(item.path.stem, {"seconds": 0})["seconds"])


def pytest_collectstart(collector: Any) -> None:
    """Leave stderr out of every notebook's comparison; as nbval's documentation says."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
