"""Run the book's notebooks beside each other, each on one thread, for the build that comes next.

Two threads on one notebook gain far less than two notebooks on one thread each. What they print
goes into the cache that Jupyter Book reads, which begins empty: no page shows what the library of
another day printed. Pages from the cache leave no executed notebooks behind, so they are kept here
too, for slides, handouts and checks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from check_book import EXECUTED, pages
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "_build" / ".jupyter_cache"
TIMES = ROOT / "results" / "chapters.json"


def notebooks() -> list[Path]:
    """The notebooks of the table of contents, the longest first, so that none is waited for."""
    seconds = json.loads(TIMES.read_text(encoding="utf-8"))
    found = [path for page in pages() if (path := ROOT / f"{page}.ipynb").is_file()]
    return sorted(found, key=lambda path: -seconds.get(path.stem, {"seconds": 0})["seconds"])


def execute(path: Path, timeout: int) -> ExecutionResult:
    """Run one notebook in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    return single_nb_execution(notebook, cwd=str(path.parent), timeout=timeout, allow_errors=False)


def main() -> None:
    """Run them all; the first that fails ends it, with the cell and its traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="notebooks beside each other")
    jobs = parser.parse_args().jobs
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    os.environ["OMP_NUM_THREADS"] = "1"
    for folder in (CACHE, EXECUTED):
        shutil.rmtree(folder, ignore_errors=True)
    cache = get_cache(str(CACHE))
    with ProcessPoolExecutor(jobs) as pool:
        timeout = config["execute"]["timeout"]
        running = {pool.submit(execute, path, timeout): path for path in notebooks()}
        # The second line: on the first is the training of the book's example.
        finished = tqdm(as_completed(running), "notebooks", len(running), position=1)
        for done in finished:
            path, result = running[done], done.result()
            if result.err:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"{path.relative_to(ROOT)} failed:\n{result.exc_string}")
            kept = EXECUTED / path.relative_to(ROOT)
            kept.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(result.nb, kept)
            data = {"execution_seconds": result.time}
            bundle = CacheBundleIn(result.nb, str(path), data=data)
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


if __name__ == "__main__":
    main()
