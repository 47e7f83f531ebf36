"""``destseg make-data``: its options and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

from destseg_lib.cli.options import DRAWN_NAMES, NAMES, add_quiet
from destseg_lib.drawn.dataset import WORLD, ImageCounts, find_drawn, write_category


def add_make_data(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg make-data``."""
    add, counts = parser.add_argument, ImageCounts()
    add("categories", nargs="*", metavar="CATEGORY", help=f"{NAMES} (default: all of them)")
    out = f"folder of the categories (default: {WORLD.as_posix()})"
    add("--out", type=Path, default=WORLD, metavar="DIR", help=out)
    for name, default, what in (
        ("size", 256, "side of the images in pixels"),
        ("seed", 0, "seed of the drawings; another seed gives other images"),
        ("train", counts.train, "good images to train on"),
        ("good", counts.good, "good test images"),
        ("defective", counts.defective, "test images of each defect type"),
    ):
        text = f"{what} (default: {default})"
        add(f"--{name}", type=int, default=default, metavar="N", help=text)
    add_quiet(parser)


def run_make_data(options: argparse.Namespace) -> int:
    """``destseg make-data``: write drawn categories in MVTec AD's layout."""
    counts = ImageCounts(options.train, options.good, options.defective)
    # A name that does not exist must be known before the first category is drawn.
    names = [find_drawn(name).name for name in options.categories] or DRAWN_NAMES
    for name in names:
        folder = write_category(
            name, options.out, options.size, counts, options.seed, progress=not options.quiet
        )
        print(folder, flush=True)
    return 0
