"""What nbval does not compare in the book's notebooks: progress bars, which depend on the machine.

Whatever else a cell writes to stderr fails the build: see tools/book/check_book.py.
"""

from __future__ import annotations

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Leave stderr out of every notebook's comparison; the way nbval's documentation gives."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
