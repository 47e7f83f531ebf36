"""How fast the drawn categories are drawn: images per second, and all of them written to disk.

Run: ``python benchmarks/drawing.py [--json FILE]``.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from measuring import command_line, report, timed

from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import ImageCounts, draw_category, write_category

SIZE, COUNT = 256, 200


def write_all(folder: Path) -> list[Path]:
    for category in CATEGORIES:
        write_category(category.name, folder, SIZE, progress=False)
    return list(folder.rglob("*.png"))


def main() -> None:
    options = command_line(__doc__).parse_args()
    rates = {}
    for category in CATEGORIES:
        draw_category(category.name, SIZE, ImageCounts(8, 0, 0), progress=False)  # to warm up
        (spent,), _ = timed(
            lambda name: draw_category(name, SIZE, ImageCounts(COUNT, 0, 0), progress=False),
            category.name,
        )
        rates[category.name] = round(COUNT / spent, 1)
    with tempfile.TemporaryDirectory() as folder:
        (seconds,), files = timed(write_all, Path(folder))
        mebibytes = sum(file.stat().st_size for file in files) / 2**20
    record = {
        "what": f"good images of {SIZE}x{SIZE}, {COUNT} of each category; then the whole set, with "
        "masks, as PNG files",
        "images_a_second": rates,
        "mean_images_a_second": round(len(rates) / sum(1 / rate for rate in rates.values()), 1),
        "whole_set": {
            "images": sum("ground_truth" not in file.parts for file in files),
            "seconds": round(seconds, 1),
            "mebibytes_on_disk": round(mebibytes),
            "peak_mebibytes_of_memory": round(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            ),
        },
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
