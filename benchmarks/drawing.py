"""How fast the embedded world is drawn: images a second, and the whole set written to disk.

Run: ``python benchmarks/drawing.py [--record results/benchmarks/drawing.json]``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import ImageCounts, draw_category, write_category
from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance

SIZE, COUNT = 256, 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    rates: dict[str, float] = {}
    for product in CATEGORIES:
        draw_category(product.name, SIZE, ImageCounts(8, 0, 0), progress=False)
        started = time.perf_counter()
        draw_category(product.name, SIZE, ImageCounts(COUNT, 0, 0), progress=False)
        rates[product.name] = round(COUNT / (time.perf_counter() - started), 1)
        print(f"{product.name}: {rates[product.name]} images a second")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        roots = [write_category(p.name, Path(folder), SIZE, progress=False) for p in CATEGORIES]
        seconds = time.perf_counter() - started
        files = [file for root in roots for file in root.rglob("*.png")]
        images = sum("ground_truth" not in file.parts for file in files)
        mebibytes = sum(file.stat().st_size for file in files) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    record: dict[str, Any] = {
        "what": f"good images of {SIZE}x{SIZE}, {COUNT} of each product; then the whole set, with "
        "masks, as PNG files",
        "images_a_second": rates,
        "mean_images_a_second": round(len(rates) / sum(1 / rate for rate in rates.values()), 1),
        "whole_set": {
            "images": images,
            "seconds": round(seconds, 1),
            "mebibytes_on_disk": round(mebibytes),
            "peak_mebibytes_of_memory": round(peak),
        },
        "provenance": provenance(torch.device("cpu")),
    }
    print(record["whole_set"], record["mean_images_a_second"])
    if options.record is not None:
        write_json(options.record, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
