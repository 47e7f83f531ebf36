"""Contact sheets of the drawn categories: good examples, and each defect with its outline.

Run: ``python tools/weights/contact_sheets.py`` writes ``results/world/<category>.jpg``;
``--check`` says whether the drawings have changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.photograph import photograph, photograph_defect

SHEETS = Path(__file__).resolve().parents[2] / "results" / "world"
SIDE, ACROSS, MARGIN = 160, 8, 4
ORANGE = (230, 159, 0)  # Okabe and Ito's, also clear to colour-blind readers


def sheet(category: DrawnCategory) -> Image.Image:
    """A row of good examples; for each defect a row as it is, and the same with its outline."""
    rows: list[tuple[str, list[np.ndarray]]] = [
        ("good", [photograph(category, SIDE, (7, n)) for n in range(ACROSS)])
    ]
    for k, defect in enumerate(category.defects):
        drawn = [photograph_defect(category, defect, SIDE, (8, k, n)) for n in range(ACROSS)]
        outlined = []
        for one in drawn:
            rim = ndimage.binary_dilation(one.mask, iterations=3)
            rim &= ~ndimage.binary_dilation(one.mask, iterations=2)
            outlined.append(np.where(rim[..., None], np.array(ORANGE, np.uint8), one.image))
        rows += [(defect, [one.image for one in drawn]), ("", outlined)]
    height = sum(SIDE + MARGIN + (16 if name else 0) for name, _ in rows)
    canvas = Image.new("RGB", (ACROSS * (SIDE + MARGIN), height), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for name, images in rows:
        if name:
            draw.text((2, top), f"{category.name}: {name}", fill="black", font_size=13)
            top += 16
        for n, image in enumerate(images):
            canvas.paste(Image.fromarray(image), (n * (SIDE + MARGIN), top))
        top += SIDE + MARGIN
    return canvas


def digest(category: DrawnCategory) -> str:
    """A digest that changes with the drawings; coarse, so that rounding does not change it."""
    drawn = [photograph(category, 64, (9, 0))]
    drawn += [photograph_defect(category, d, 64, (9, 1)).image for d in category.defects]
    coarse = np.stack(drawn).reshape(len(drawn), 4, 16, 4, 16, 3).mean((2, 4))
    return hashlib.sha256((coarse / 8).round().astype(np.uint8).tobytes()).hexdigest()[:16]


def main() -> int:
    """Write the sheets, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("categories", nargs="*", default=[c.name for c in CATEGORIES])
    options = parser.parse_args()
    file = SHEETS / "sheets.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if options.check:
        stale = [c.name for c in CATEGORIES if known.get(c.name) != digest(c)]
        print("\n".join(f"{name}: its sheet shows an earlier drawing" for name in stale))
        return bool(stale)
    SHEETS.mkdir(parents=True, exist_ok=True)
    for category in CATEGORIES:
        if category.name in options.categories:
            sheet(category).save(SHEETS / f"{category.name}.jpg", quality=82, optimize=True)
            known[category.name] = digest(category)
    file.write_text(json.dumps(known, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
