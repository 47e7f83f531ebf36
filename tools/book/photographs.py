"""Write book/static/photographs: the few photographs of MVTec AD that the book shows.

Run: ``python tools/book/photographs.py --data DIR``, DIR with ``transistor`` and ``screw`` in
MVTec AD's layout at 256 pixels. Which files are taken is a rule, not a choice: every tenth good
transistor, the first of each type and the sixth.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "book" / "static" / "photographs"
LICENCE = "LICENSE.md"
# Good photographs to learn from, the step between them, good ones to test, numbers of each type.
TAKEN = {"transistor": (20, 10, 2, (0, 5)), "screw": (4, 10, 1, (0,))}


def main() -> None:
    """Read the command line and write the folder anew; its licence stays."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    for category in TAKEN:
        shutil.rmtree(FOLDER / category, ignore_errors=True)
        for file in chosen(data / category, *TAKEN[category]):
            target = FOLDER / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            if "ground_truth" in file.parts:
                Image.open(file).convert("1").save(target, optimize=True)
            else:
                photograph = Image.open(file).convert("RGB")
                photograph.save(target.with_suffix(".jpg"), quality=80, optimize=True)


def chosen(
    folder: Path, train: int, step: int, good: int, numbers: tuple[int, ...]
) -> Iterator[Path]:
    """The files of one category that the book shows."""
    yield from sorted((folder / "train" / "good").glob("*.png"))[::step][:train]
    yield from sorted((folder / "test" / "good").glob("*.png"))[:good]
    for kind in sorted((folder / "ground_truth").iterdir()):
        for number in numbers:
            yield folder / "test" / kind.name / f"{number:03d}.png"
            yield kind / f"{number:03d}_mask.png"


if __name__ == "__main__":
    main()
