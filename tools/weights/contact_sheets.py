"""Contact sheets of the embedded world: good examples, and each defect with its outline and twin.

Run: ``python tools/weights/contact_sheets.py`` writes ``results/world/<product>.jpg``; ``--check``
says whether the drawings have changed since.
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
ORANGE = (230, 159, 0)  # Okabe and Ito's, told apart by everyone


def sheet(product: DrawnCategory) -> Image.Image:
    """A row of good examples; for each defect a row as it is, and the same with its outline."""
    rows: list[tuple[str, list[np.ndarray]]] = [
        ("good", [photograph(product, SIDE, (7, n)) for n in range(ACROSS)])
    ]
    for k, defect in enumerate(product.defects):
        drawn = [photograph_defect(product, defect, SIDE, (8, k, n)) for n in range(ACROSS)]
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
            draw.text((2, top), f"{product.name}: {name}", fill="black", font_size=13)
            top += 16
        for n, image in enumerate(images):
            canvas.paste(Image.fromarray(image), (n * (SIDE + MARGIN), top))
        top += SIDE + MARGIN
    return canvas


def digest(product: DrawnCategory) -> str:
    """Tells whether the product is still drawn as it was: small, so that rounding is forgiven."""
    drawn = [photograph(product, 64, (9, 0)).astype(int)]
    drawn += [photograph_defect(product, d, 64, (9, 1)).image.astype(int) for d in product.defects]
    coarse = np.stack(drawn).reshape(len(drawn), 4, 16, 4, 16, 3).mean((2, 4))
    return hashlib.sha256((coarse / 8).round().astype(np.uint8).tobytes()).hexdigest()[:16]


def main() -> int:
    """Write the sheets, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("products", nargs="*", default=[p.name for p in CATEGORIES])
    options = parser.parse_args()
    file = SHEETS / "sheets.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if options.check:
        stale = [p.name for p in CATEGORIES if known.get(p.name) != digest(p)]
        print("\n".join(f"{name}: drawn otherwise than on its sheet" for name in stale))
        return bool(stale)
    SHEETS.mkdir(parents=True, exist_ok=True)
    for product in CATEGORIES:
        if product.name in options.products:
            sheet(product).save(SHEETS / f"{product.name}.jpg", quality=82, optimize=True)
            known[product.name] = digest(product)
    file.write_text(json.dumps(known, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
