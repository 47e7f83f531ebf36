"""Have nbval not compare progress bars in the book's notebooks: they depend on the machine.

Anything else that a cell writes to stderr fails the build: see tools/book/check_book.py.
"""

from __future__ import annotations

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Leave stderr out of every notebook's comparison; as nbval's documentation says."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
