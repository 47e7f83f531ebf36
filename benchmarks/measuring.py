"""What the benchmarks share: the clock, the memory of a process, and the record they write."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from destseg_lib.runs.provenance import provenance


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    return parser


def timed(work: Callable[..., Any], *arguments: Any, times: int = 1) -> tuple[list[float], Any]:
    """Seconds of each repeat, and the last result."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        result = work(*arguments)
        spent.append(time.perf_counter() - start)
    return spent, result


def memory_mib(field: str) -> float:
    """MiB that this process holds now (VmRSS), or the most it has held (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``work`` in a new interpreter, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def runtimes() -> dict[str, str | None]:
    """The versions of what runs exported files; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def report(record: dict[str, Any], file: Path | None) -> None:
    """Show a record, without the single repeats, and write all of it if there is a file."""
    record["provenance"] = provenance(torch.device("cpu"))
    if file is not None:
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: shown(v) for k, v in value.items() if not k.endswith("_repeats")}
        return float(f"{value:.4g}") if isinstance(value, float) else value

    print(json.dumps(shown(record), indent=2))
