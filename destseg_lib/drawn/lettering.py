"""Words on a thing: printed, marked by a laser or moulded."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from destseg_lib.drawn.drawing import Field, Point


def lettering(
    size: int, text: str, height: float, degrees: float = 0.0, centre: Point = (0, 0)
) -> Field:
    """How far each pixel is covered by ``text``, (S, S) in [0, 1].

    ``height`` is the font's size in units of the image's side; a capital is about 0.7 of it. The
    words have their middle at ``centre`` and are turned clockwise by ``degrees`` about it.
    """
    # Drawn a little finer than shown, because a font has whole sizes, and scaled when placed.
    drawn = max(10, math.ceil(1.5 * height * size))
    lines = text.split("\n")
    wide = int(drawn * (0.8 * max(len(line) for line in lines) + 1))
    tall = int(drawn * (1.4 * len(lines) + 1))
    tile = Image.new("L", (wide, tall))
    ImageDraw.Draw(tile).multiline_text(
        (wide / 2, tall / 2), text, 255, ImageFont.load_default(drawn), "mm", 0.2 * drawn, "center"
    )
    scale = drawn / height / size
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    row, column = ((place + 0.5) * size for place in centre)
    matrix = (c, s, wide / 2 - c * column - s * row, -s, c, tall / 2 + s * column - c * row)
    placed = tile.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(placed) * np.float32(1 / 255)  # bytes times a Python float are float64
