"""What pictures of products are made of: places, shapes, noise and light.

A shape is a signed distance: negative inside, in units of the image's side, so that the same shape
can be drawn at any size. ``cover`` turns it into an antialiased coverage, ``paint`` lays a colour
on. Arrays are float32; S is the image's side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]  # (S, S), or (S, S, 3) for a picture in [0, 1]
Point = tuple[float, float]  # (y, x)
Colour = tuple[float, float, float]  # linear RGB in [0, 1]


def places(size: int) -> tuple[Field, Field]:
    """The coordinates y, x of every pixel's centre, each (S, S), from -0.5 to 0.5."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y: Field = np.repeat(line[:, None], size, axis=1)
    return y, y.T.copy()


def turned(y: Field, x: Field, degrees: float, centre: Point = (0, 0)) -> tuple[Field, Field]:
    """Coordinates in a frame that sits at ``centre`` and is turned clockwise by ``degrees``."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    return np.float32(c) * dy - np.float32(s) * dx, np.float32(s) * dy + np.float32(c) * dx


def circle(y: Field, x: Field, radius: float, centre: Point = (0, 0)) -> Field:
    """Signed distance to a disc."""
    distance: Field = np.hypot(y - np.float32(centre[0]), x - np.float32(centre[1]))
    distance -= np.float32(radius)
    return distance


def box(
    y: Field, x: Field, height: float, width: float, *, corner: float = 0.0, centre: Point = (0, 0)
) -> Field:
    """Signed distance to a rectangle with rounded corners; ``height`` and ``width`` are whole."""
    dy = np.abs(y - np.float32(centre[0])) - np.float32(height / 2 - corner)
    dx = np.abs(x - np.float32(centre[1])) - np.float32(width / 2 - corner)
    outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
    distance: Field = outside + np.minimum(np.maximum(dy, dx), 0) - np.float32(corner)
    return distance


def regular_polygon(y: Field, x: Field, sides: int, apothem: float) -> Field:
    """Signed distance (exact inside, a lower bound outside) to a regular polygon, flat side up."""
    distance = np.full_like(y, -np.inf)
    for side in range(sides):
        angle = 2 * math.pi * side / sides
        plane = np.float32(math.cos(angle)) * y + np.float32(math.sin(angle)) * x
        np.maximum(distance, plane, out=distance)
    distance -= np.float32(apothem)
    return distance


def stroke(y: Field, x: Field, points: Sequence[Point], width: float) -> Field:
    """Signed distance to a line through ``points``, ``width`` thick, with round ends."""
    nearest = np.full_like(y, np.inf)
    for (ay, ax), (by, bx) in pairwise(points):
        ey, ex = by - ay, bx - ax
        dy, dx = y - np.float32(ay), x - np.float32(ax)
        along = (dy * np.float32(ey) + dx * np.float32(ex)) / np.float32(max(ey**2 + ex**2, 1e-12))
        np.clip(along, 0, 1, out=along)
        dy -= along * np.float32(ey)
        dx -= along * np.float32(ex)
        np.minimum(nearest, dy * dy + dx * dx, out=nearest)
    return np.sqrt(nearest, out=nearest) - np.float32(width / 2)


def blob(
    y: Field,
    x: Field,
    radius: float,
    generator: np.random.Generator,
    *,
    centre: Point = (0, 0),
    ragged: float = 0.25,
) -> Field:
    """About the signed distance to an irregular round shape: a radius with random harmonics."""
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    angle = np.arctan2(dy, dx)
    outline = np.full_like(y, radius)
    for k in range(2, 7):
        amplitude = radius * ragged * generator.normal() / k
        outline += np.float32(amplitude) * np.cos(
            np.float32(k) * angle + np.float32(generator.uniform(0, 2 * math.pi))
        )
    distance: Field = np.hypot(dy, dx) - outline
    return distance


def cover(distance: Field, softness: float = 0.0) -> Field:
    """Coverage in [0, 1] of a shape's signed distance.

    Its edge is one pixel wide, or ``softness`` wide (in units of the image's side) if that is more.
    """
    edge = max(1 / distance.shape[0], softness)
    covered: Field = np.clip(np.float32(0.5) - distance * np.float32(1 / edge), 0, 1)
    return covered


def paint(picture: Field, coverage: Field, colour: Colour | Field) -> None:
    """Lay a colour, or a picture, over ``picture`` (S, S, 3), in place."""
    picture += coverage[..., None] * (np.asarray(colour, np.float32) - picture)


def smooth_noise(
    generator: np.random.Generator, size: int, cells: float | Point, octaves: int = 1
) -> Field:
    """Noise with features of about S / ``cells`` pixels, zero mean and about unit variance.

    Random values on a coarse grid, interpolated bicubically. ``cells`` may be (down, across) for
    noise that is stretched. Each further octave has twice the cells and half the amplitude.
    """
    down, across = cells if isinstance(cells, tuple) else (cells, cells)
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        shape = tuple(max(2, round(n * 2**octave) + 3) for n in (down, across))
        grid = generator.standard_normal(shape, np.float32)
        # One cell is cut off each side: there the interpolation lacks neighbours.
        frame = (1, 1, shape[1] - 1, shape[0] - 1)
        layer = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC, box=frame)
        total += np.asarray(layer) * np.float32(1.3 * 0.5**octave)
    return total


def slope(height: Field) -> tuple[Field, Field]:
    """How steeply ``height`` rises down and across, in height per image side."""
    rise_y, rise_x = np.zeros_like(height), np.zeros_like(height)
    half = np.float32(height.shape[0] / 2)
    rise_y[1:-1] = (height[2:] - height[:-2]) * half
    rise_x[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * half
    return rise_y, rise_x


def lit(height: Field, towards: tuple[float, float, float], shine: float = 0.0) -> Field:
    """Brightness of a relief under one lamp: 1 where it is flat, more on slopes that face it.

    Args:
        height: (S, S), in units of the image's side.
        towards: where the lamp is: up the picture, to its left, and out of it.
        shine: how much of a highlight is added where the relief mirrors the lamp.
    """
    rise_y, rise_x = slope(height)
    up, left, out = (t / math.hypot(*towards) for t in towards)
    length = np.sqrt(rise_y * rise_y + rise_x * rise_x + np.float32(1))
    facing = (rise_y * np.float32(up) + rise_x * np.float32(left) + np.float32(out)) / length
    brightness: Field = np.maximum(facing, 0) * np.float32(1 / out)
    if shine:
        # The viewer looks straight down, so a mirror must halve the angle to the lamp.
        half = math.hypot(up, left, out + 1)
        mirrored = (rise_y * np.float32(up) + rise_x * np.float32(left) + np.float32(out + 1)) / (
            length * np.float32(half)
        )
        brightness += np.float32(shine) * np.maximum(mirrored, 0) ** 40
    return brightness
