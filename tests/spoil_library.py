"""Run a chapter up to its last cell tagged ``agreement``, with one function of the library spoilt.

Arguments: a notebook, then functions and modules such as ``losses.focal_loss``. One line for each
run, the first with nothing spoilt: ``RESULT``, the function, and 0 if every agreement holds, 1 if
one does not, 2 after any other failure.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import numpy as np
import torch

# One import for all: a fork of this process costs a tenth of a new one.
import destseg_lib.model
import destseg_lib.runs.shipped
import destseg_lib.widgets  # noqa: F401


def spoilt(value: Any) -> Any:
    """Off by a little if it holds fractions; truth is inverted and whole numbers are off by one."""
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return {k: spoilt(v) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(spoilt, value))
    if isinstance(value, list | tuple):
        return type(value)(map(spoilt, value))
    if isinstance(value, np.ndarray) and value.dtype == bool:
        return ~value
    whole = isinstance(value, torch.Tensor) and not value.is_floating_point()
    whole |= isinstance(value, np.ndarray) and value.dtype.kind != "f"
    if whole or not isinstance(value, torch.Tensor | np.ndarray | np.floating | float):
        return value
    return value * 1.05 + 0.01


def spoil(target: str) -> None:
    """Have a function, or the ``forward`` of a module, return spoilt values."""
    module, _, name = target.rpartition(".")
    place: Any = importlib.import_module(f"destseg_lib.{module}")
    if isinstance(getattr(place, name), type):
        place, name = getattr(place, name), "forward"
    function = getattr(place, name)

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return spoilt(function(*arguments, **named))

    setattr(place, name, wrapper)


def run(cells: list[Any], target: str) -> None:
    """Run the cells in this process and end it with the result."""
    torch.set_num_threads(1)
    if target:
        spoil(target)
    space = {"__name__": "__main__", "get_ipython": lambda: None, "display": lambda *_: None}
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (this process ends soon)
    for cell in cells:
        try:
            exec(compile(cell.source, cell.id, "exec"), space)
        except Exception as error:
            agreement = "agreement" in cell.metadata.get("tags", [])
            if not (agreement and isinstance(error, AssertionError)):
                traceback.print_exc()
            print(target or "unspoilt", "stopped at", cell.id, file=sys.stderr)
            sys.exit(1 if agreement and isinstance(error, AssertionError) else 2)


def main() -> None:
    chapter, *targets = sys.argv[1:]
    matplotlib.use("agg")
    cells = [c for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == "code"]
    last = max(n for n, c in enumerate(cells) if "agreement" in c.metadata.get("tags", []))
    for target in ["", *targets]:
        child = get_context("fork").Process(target=run, args=(cells[: last + 1], target))
        child.start()
        child.join()
        print("RESULT", target or "unspoilt", child.exitcode, flush=True)


if __name__ == "__main__":
    main()
