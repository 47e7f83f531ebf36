"""The strokes that the live page is measured with: what a reader might paint on a good example.

They were fixed before anything was measured, and `measure.py` draws no others. Each stroke is
painted on a good drawn example at 128 pixels, as the page's brush paints: with soft edges, over
what is there. A stroke that changes fewer than 16 pixels by 40 of 255 is not seen, so it is placed
again. An example where none of 100 places will do is left out: a plain one has no part to erase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Kind = Literal["line", "disc", "stain"]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside
Picture = NDArray[np.uint8]

SEED = 20261126
PER_KIND = 30
VISIBLE, FEWEST = 40, 16  # of 255 in the channel that changes most, and in how many pixels
FINER = 8  # strokes are drawn this much larger, then reduced, which makes their edges soft
MARGIN = 0.15  # of the side that strokes keep away from the border with their middle
DARK, BRIGHT, RED, BLUE, RUST = (
    (25, 25, 25),
    (235, 235, 235),
    (200, 40, 40),
    (40, 70, 200),
    (120, 70, 30),
)


@dataclass(frozen=True)
class Stroke:
    """One kind: lines have a width, discs and stains a diameter, in pixels of 128."""

    name: str
    kind: Kind
    colour: Colour
    width: tuple[float, float]


STROKES = (
    *(Stroke(f"dark line of {w}", "line", DARK, (w, w)) for w in (2, 3, 4)),
    *(Stroke(f"bright line of {w}", "line", BRIGHT, (w, w)) for w in (2, 3, 4)),
    Stroke("red line of 3", "line", RED, (3, 3)),
    Stroke("blue line of 3", "line", BLUE, (3, 3)),
    Stroke("dark disc", "disc", DARK, (6, 12)),
    Stroke("bright disc", "disc", BRIGHT, (6, 12)),
    Stroke("dark stain", "stain", DARK, (14, 26)),
    Stroke("rust stain", "stain", RUST, (14, 26)),
)
PARTS = ("erased part", "moved part")


@dataclass(frozen=True)
class Painted:
    """A painted example: its picture (S, S, 3) and where it differs from the good one, (S, S)."""

    kind: str
    picture: Picture
    changed: NDArray[np.bool_]


def painted(good: Picture, category: int) -> Iterator[Painted]:
    """All strokes and parts, at most ``PER_KIND`` of each.

    Args:
        good: good examples (N, S, S, 3), used in turn.
        category: a number that seeds the category's strokes.
    """
    for place, name in enumerate([*(s.name for s in STROKES), *PARTS]):
        for number in range(PER_KIND):
            rng = np.random.default_rng((SEED, category, place, number))
            picture = good[(place * PER_KIND + number) % len(good)]
            for _ in range(100):
                if place < len(STROKES):
                    result = paint(picture, STROKES[place], rng)
                else:
                    result = change_part(picture, name == "moved part", rng)
                difference = np.abs(result.astype(int) - picture).max(axis=2)
                if (difference >= VISIBLE).sum() >= FEWEST:
                    yield Painted(name, result, difference > 0)
                    break


def paint(picture: Picture, stroke: Stroke, rng: np.random.Generator) -> Picture:
    """Paint one stroke at a place of its own."""
    side = len(picture)
    x, y = rng.uniform(MARGIN, 1 - MARGIN, 2) * side
    width = rng.uniform(*stroke.width) * side / 128
    cover = Image.new("L", (side * FINER, side * FINER))
    pen = ImageDraw.Draw(cover)
    if stroke.kind == "line":
        # A hand's line: 20 to 50 pixels long, bent a little.
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        along = np.linspace(-0.5, 0.5, 24) * rng.uniform(20, 50) * side / 128
        turned = angle + bend * along / along[-1] / 2
        dots = np.stack([x + along * np.cos(turned), y + along * np.sin(turned)], axis=1)
        for u, v in dots * FINER:
            pen.circle((u, v), width * FINER / 2, fill=255)
        pen.line([(u, v) for u, v in dots * FINER], fill=255, width=round(width * FINER))
    else:
        pen.circle((x * FINER, y * FINER), width * FINER / 2, fill=255)
    if stroke.kind == "stain":
        cover = cover.filter(ImageFilter.GaussianBlur(width * FINER / 6))
    share = (
        np.asarray(cover.resize((side, side), Image.Resampling.BOX), dtype=float)[..., None] / 255
    )
    opacity = 0.7 if stroke.kind == "stain" else 1.0
    result = picture + opacity * share * (np.array(stroke.colour) - picture)
    return np.rint(result).astype(np.uint8)


def change_part(picture: Picture, move: bool, rng: np.random.Generator) -> Picture:
    """Erase a rectangle of 14 to 30 pixels, or move it by 8 to 20."""
    side = len(picture)
    w, h = (rng.uniform(14, 30, 2) * side / 128).astype(int)
    x, y = (rng.uniform(MARGIN, 1 - MARGIN, 2) * side - (w / 2, h / 2)).astype(int).clip(1)
    x, y = min(x, side - w - 1), min(y, side - h - 1)
    result = erase(picture, (x, y, x + w, y + h))
    if move:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(8, 20) * side / 128
        u = int(np.clip(x + far * np.cos(angle), 0, side - w))
        v = int(np.clip(y + far * np.sin(angle), 0, side - h))
        result[v : v + h, u : u + w] = picture[y : y + h, x : x + w]
    return result


def erase(picture: Picture, box: Box) -> Picture:
    """Fill a box with what is around it: the four border pixels in its row and its column.

    The nearer one of them is, the more it counts. The box may not touch the border of the picture.
    """
    left, top, right, bottom = box
    inside = picture.astype(float)
    x, y = np.arange(left, right)[None, :, None], np.arange(top, bottom)[:, None, None]
    borders = (
        (inside[top:bottom, left - 1][:, None], x - left + 1),
        (inside[top:bottom, right][:, None], right - x),
        (inside[top - 1, left:right][None], y - top + 1),
        (inside[bottom, left:right][None], bottom - y),
    )
    total = sum(1 / distance for _, distance in borders)
    filled = sum(colour / distance for colour, distance in borders) / total
    result = picture.copy()
    result[top:bottom, left:right] = np.rint(filled)
    return result
