"""How long each chapter takes to read and to run, and how much memory: measured, never typed.

    python tools/book/chapters.py             measure every chapter, update record and prose
    python tools/book/chapters.py FILE ...    only these; the rest of the record stays
    python tools/book/chapters.py --update    run nothing; count the words, update the prose
    python tools/book/chapters.py --renamed   run nothing; the code differs by names alone

A record holds a fingerprint of the chapter's code, so that the tests notice when the code has
changed since it was timed. A change of names alone takes no other time: ``--renamed`` notes the
new fingerprint as ``code`` and keeps times and provenance, with the fingerprint of what was really
timed as ``timed_code``, until the chapter is measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbclient import NotebookClient
from notebooks import ROOT, notebooks
from numbers_in_prose import prose, updated

from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance

RECORD = "results/chapters.json"
# A text with pictures and code is read more slowly than a novel.
WORDS_PER_MINUTE, SECONDS_PER_CODE_LINE, SECONDS_PER_PICTURE = 180, 3, 20


def reading_minutes(path: Path) -> int:
    """Minutes for words, lines of open code and pictures, at a student's pace, no solutions."""
    seconds = 0.0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"<!--.*?-->|<details>.*?</details>", "", cell.source, flags=re.S)
            seconds += 60 * len(text.split()) / WORDS_PER_MINUTE
        elif not {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            seconds += SECONDS_PER_CODE_LINE * len(lines)
        seconds += SECONDS_PER_PICTURE * ("figure" in cell.metadata.get("mystnb", {}))
    return max(1, round(seconds / 60))


def fingerprint(path: Path) -> str:
    """A hash of a chapter's code without comment lines and without the common setup cell."""
    cells = nbformat.read(path, as_version=4).cells
    sources = (c.source for c in cells if c.cell_type == "code" and c.id != "setup")
    code = [re.sub(r"^\s*#.*\n?", "", source, flags=re.M) for source in sources]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()[:16]


def run(path: Path) -> tuple[float, int]:
    """Seconds that a chapter takes from kernel start to end, and the kernel's peak of memory."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # KiB on Linux


def measure(path: Path) -> dict[str, Any]:
    """A chapter's record: time and memory of a run in a new kernel, and what was run."""
    # In a process of its own, the kernel is the largest child.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        seconds, peak = pool.submit(run, path).result()
    return {
        "reading_minutes": reading_minutes(path),
        "seconds": round(seconds, 1),
        "gib": round(peak / 2**30, 2),
        "code": fingerprint(path),
        "cores": os.cpu_count(),
        "provenance": provenance(torch.device("cpu")),
    }


def renamed(measured: dict[str, Any], path: Path) -> dict[str, Any]:
    """A chapter's record for code that differs from the timed code by names alone."""
    timed, now = measured.get("timed_code", measured["code"]), fingerprint(path)
    kept = {key: value for key, value in measured.items() if key != "timed_code"}
    return {**kept, "code": now, **({"timed_code": timed} if timed != now else {})}


def update(path: Path, root: Path = ROOT) -> None:
    """Bring the anchored numbers of a file up to date."""
    if path.suffix == ".md":
        path.write_text(updated(path.read_text(encoding="utf-8"), root), encoding="utf-8")
        return
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = updated(cell.source, root)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description="Measure the chapters, update record and prose.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--update", action="store_true", help="measure nothing")
    how.add_argument("--renamed", action="store_true", help="measure nothing: only names differ")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    path = ROOT / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for file in given.files or notebooks():
        if not (given.update or given.renamed):
            record[file.stem] = found = measure(file)
            print(
                f"{file.stem}: {found['seconds']} s, {found['gib']} GiB, "
                f"{found['reading_minutes']} minutes to read",
                flush=True,
            )
        elif file.stem in record:
            record[file.stem]["reading_minutes"] = reading_minutes(file)
            if given.renamed:
                record[file.stem] = renamed(record[file.stem], file)
        write_json(path, dict(sorted(record.items())))
    for file in prose(ROOT):
        update(file)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
