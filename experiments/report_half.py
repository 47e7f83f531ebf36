"""Link the half of a category's test set that no choice is made on into a folder of its own.

A study measures the whole test set of a folder. The recipes were chosen on every other test image
of the magnetic tiles (``magnetic_tile.py``), so a study of them is run on a folder that holds only
the rest.

Run: ``python experiments/report_half.py --data DIR --out data/magnetic_tile``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from magnetic_tile import half

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category


def link_half(data: Path, out: Path) -> int:
    """Link ``train`` and every other test image with its mask; the number of test images."""
    if out.exists():
        raise DeSTSegError(f"{out} exists already; remove it, or choose another --out")
    category = half(find_category(data), "report")
    out.mkdir(parents=True)
    (out / "train").symlink_to((data / "train").resolve())
    for image in category.test:
        for path in filter(None, (image.path, image.mask)):
            place = out / path.resolve().relative_to(data.resolve())
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    return len(category.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        print(link_half(options.data, options.out), "test images")
    except DeSTSegError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
