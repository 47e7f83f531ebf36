"""Two things about the book's notebooks that nbval does not know by itself.

Progress bars are not compared: they depend on the machine. Anything else that a cell writes to
stderr fails the build: see tools/book/check_book.py.

``--executed DIR`` compares what ``make book`` has just run there instead of running it a second
time: the same cells, the same comparison, another kernel.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

BOOK = Path(__file__).resolve().parent
RECORD = BOOK.parent / "results" / "chapters.json"


class Executed:
    """Answers nbval as a running kernel does, from a notebook that has been executed."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; run 'make book' first")
        self._path = path
        cells = nbformat.read(path, as_version=4).cells
        self._cells = iter([cell for cell in cells if cell.cell_type == "code"])
        self._messages: list[dict[str, Any]] = []

    def execute_cell_input(self, source: str, **_: Any) -> str:
        """Turn to the cell of this source; nbval leaves out those that it is told to skip."""
        for cell in self._cells:
            if cell.source == source:
                break
        else:
            raise LookupError(f"{self._path} was executed without this cell; run 'make book' again")
        header = {"parent_header": {"msg_id": source}}
        idle = {"msg_type": "status", "content": {"execution_state": "idle"}}
        outputs = [{"msg_type": out["output_type"], "content": out} for out in cell.outputs]
        self._messages = [header | message for message in (*outputs, idle)]
        return source

    def get_message(self, *_: Any, **__: Any) -> dict[str, Any]:
        """What the cell gave, and that it is done."""
        return self._messages.pop(0)

    def is_alive(self) -> bool:
        """Nothing can die here."""
        return True

    def await_reply(self, *_: Any, **__: Any) -> None:
        """Nothing is waited for."""

    await_idle = stop = await_reply


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the executed notebooks are."""
    parser.addoption("--executed", type=Path, help="compare these instead of running them again")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Begin with the chapters that take longest, so that no core waits for one at the end."""
    measured = json.loads(RECORD.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -measured.get(item.path.stem, {"seconds": 0})["seconds"])


def pytest_collectstart(collector: Any) -> None:
    """Leave stderr out of every notebook's comparison, as nbval's documentation says."""
    if not hasattr(collector, "skip_compare"):
        return
    collector.skip_compare += ("stderr",)
    if folder := collector.config.getoption("executed"):
        path = folder.resolve() / collector.path.relative_to(BOOK.parent)
        collector.setup = lambda: setattr(collector, "kernel", Executed(path))
