"""How long each chapter takes to read and to run, and how much memory: measured, never typed.

    python tools/book/chapters.py            measure every chapter, update record and prose
    python tools/book/chapters.py FILE ...   only these; the rest of the record stays
    python tools/book/chapters.py --mend     run nothing; count the words, update the prose

A record holds a fingerprint of the chapter's code, so that the tests notice when the code has
changed since it was timed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import torch
from nbclient import NotebookClient
from numbers_in_prose import ANCHOR, BEFORE, prose, recorded, rounded

from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
RECORD = "results/chapters.json"
# A text with figures and code is read more slowly than a novel.
WORDS_A_MINUTE, SECONDS_A_CODE_LINE, SECONDS_A_FIGURE = 180, 3, 20


def reading_minutes(path: Path) -> int:
    """Words, lines of open code and figures, at a student's pace; solutions do not count."""
    seconds = 0.0
    for cell in nbformat.read(path, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            text = re.sub(r"<!--.*?-->|<details>.*?</details>", "", cell.source, flags=re.S)
            seconds += 60 * len(text.split()) / WORDS_A_MINUTE
        elif not {"hide-input", "hide-cell"} & set(tags):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            seconds += SECONDS_A_CODE_LINE * len(lines)
        if "figure" in cell.metadata.get("mystnb", {}):
            seconds += SECONDS_A_FIGURE
    return max(1, round(seconds / 60))


def fingerprint(path: Path) -> str:
    """Of a chapter's code, lines of comment apart; its setup cell is the same everywhere."""
    cells = nbformat.read(path, as_version=4).cells
    sources = (c.source for c in cells if c.cell_type == "code" and c.id != "setup")
    code = [re.sub(r"^\s*#.*\n?", "", source, flags=re.M) for source in sources]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()[:16]


def measure(path: Path) -> dict[str, Any]:
    """Run a chapter from a fresh kernel; its wall time, kernel start included, and peak memory."""
    notebook = nbformat.read(path, as_version=4)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            memory = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    memory += process.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, memory)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.perf_counter()
    NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "reading_minutes": reading_minutes(path),
        "seconds": round(seconds, 1),
        "gib": round(peak / 2**30, 2),
        "code": fingerprint(path),
        "cores": os.cpu_count(),
        "provenance": provenance(torch.device("cpu")),
    }


def mended(text: str, root: Path = ROOT) -> str:
    """The text with every number that a record anchors as the record says, rounded as before."""
    result, place = "", 0
    for hit in re.finditer(r"<!--\s*results/.*?-->", text):
        before = text[place : hit.start()]
        anchor, number = ANCHOR.fullmatch(hit[0]), BEFORE.search(before)
        if anchor and number:
            exact = recorded(anchor[1], anchor[2] or "", root)
            value = rounded(number[1], exact, int(anchor[3] or 1))
            comma = "," if "," in number[1] else ""
            start, end = number.span(1)
            before = f"{before[:start]}{value:{comma}f}{before[end:]}"
        result += before + hit[0]
        place = hit.end()
    return result + text[place:]


def mend(path: Path, root: Path = ROOT) -> None:
    """Bring the anchored numbers of a file up to date."""
    if path.suffix == ".md":
        path.write_text(mended(path.read_text(encoding="utf-8"), root), encoding="utf-8")
        return
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mended(cell.source, root)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description="Measure the chapters and mend their prose.")
    parser.add_argument("--mend", action="store_true", help="measure nothing")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    path = ROOT / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files = sorted((ROOT / "book").glob("*.ipynb"))
    if not given.mend:
        for file in given.files or files:
            record[file.stem] = found = measure(file)
            print(
                f"{file.stem}: {found['seconds']} s, {found['gib']} GiB, "
                f"{found['reading_minutes']} minutes to read",
                flush=True,
            )
            write_json(path, dict(sorted(record.items())))
    for file in files:
        if file.stem in record:
            record[file.stem]["reading_minutes"] = reading_minutes(file)
    write_json(path, dict(sorted(record.items())))
    for file in prose(ROOT):
        mend(file)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
