"""The parts that all drawn categories use: places, shapes, noise and light.

A shape is a signed distance: negative inside, in units of the image's side, so that the same shape
can be drawn at any size. ``cover`` turns it into an antialiased coverage, ``paint`` lays a colour
on. S is the image's side in pixels. Arrays are float32 and scalars are Python's own numbers, which
leave an array's type as it is; a NumPy float64 scalar would widen it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]  # float32: (S, S), or (S, S, 3) for a picture in [0, 1]
Point = tuple[float, float]  # (y, x)
Colour = tuple[float, float, float]  # linear RGB in [0, 1]
T = TypeVar("T")
Lamp = tuple[float, float, float]  # direction to it: up the picture, to its left, and out of it


def places(size: int) -> tuple[Field, Field]:
    """The coordinates y, x of every pixel's centre, each (S, S), from -0.5 to 0.5."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y: Field = np.repeat(line[:, None], size, axis=1)
    return y, y.T.copy()


def turned(y: Field, x: Field, degrees: float, centre: Point = (0, 0)) -> tuple[Field, Field]:
    """Coordinates in a frame that has its origin at ``centre`` and is turned clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dy, dx = y - centre[0], x - centre[1]
    return c * dy - s * dx, s * dy + c * dx


def polar(radians: float, far: float, centre: Point = (0, 0)) -> Point:
    """The place ``far`` from ``centre`` in a direction; 0 is to the right, pi / 2 down."""
    return centre[0] + far * math.sin(radians), centre[1] + far * math.cos(radians)


def somewhere(generator: np.random.Generator, reach: float) -> Point:
    """A random place, at most ``reach`` from the picture's middle down and across."""
    return generator.uniform(-reach, reach), generator.uniform(-reach, reach)


def one_of(generator: np.random.Generator, options: Sequence[T]) -> T:
    """A random one of the options."""
    return options[int(generator.integers(len(options)))]


def jitter(generator: np.random.Generator, down: float, across: float | None = None) -> Point:
    """A random small shift with these standard deviations; ``across`` is ``down`` if not given."""
    return generator.normal(0, down), generator.normal(0, down if across is None else across)


def circle(y: Field, x: Field, radius: float, centre: Point = (0, 0)) -> Field:
    """Signed distance to a disc."""
    distance: Field = np.hypot(y - centre[0], x - centre[1])
    distance -= radius
    return distance


def box(
    y: Field, x: Field, height: float, width: float, *, corner: float = 0.0, centre: Point = (0, 0)
) -> Field:
    """Signed distance to a rectangle of ``height`` x ``width`` with rounded corners."""
    dy = np.abs(y - centre[0]) - (height / 2 - corner)
    dx = np.abs(x - centre[1]) - (width / 2 - corner)
    outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
    distance: Field = outside + np.minimum(np.maximum(dy, dx), 0) - corner
    return distance


def regular_polygon(y: Field, x: Field, sides: int, apothem: float) -> Field:
    """Signed distance (exact inside, a lower bound outside) to a regular polygon, flat side up."""
    distance = np.full_like(y, -np.inf)
    for side in range(sides):
        angle = 2 * math.pi * side / sides
        np.maximum(distance, math.cos(angle) * y + math.sin(angle) * x, out=distance)
    distance -= apothem
    return distance


def stroke(y: Field, x: Field, points: Sequence[Point], width: float) -> Field:
    """Signed distance to a line through ``points``, ``width`` thick, with round ends."""
    nearest = np.full_like(y, np.inf)
    for (ay, ax), (by, bx) in pairwise(points):
        ey, ex = by - ay, bx - ax
        dy, dx = y - ay, x - ax
        along = (dy * ey + dx * ex) / max(ey**2 + ex**2, 1e-12)
        np.clip(along, 0, 1, out=along)
        dy -= along * ey
        dx -= along * ex
        np.minimum(nearest, dy * dy + dx * dx, out=nearest)
    return np.sqrt(nearest, out=nearest) - width / 2


def bowed(
    middle: Point, heading: float, half: float, bow: float, at: Sequence[float]
) -> list[Point]:
    """Points of a shallow arc through ``middle``, from -1 to 1 along it; heading in radians."""
    c, s = math.cos(heading), math.sin(heading)
    along = [(t * half, bow * (1 - t * t)) for t in at]
    return [(middle[0] + a * s + b * c, middle[1] + a * c - b * s) for a, b in along]


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
    dy, dx = y - centre[0], x - centre[1]
    angle = np.arctan2(dy, dx)
    outline = np.full_like(y, radius)
    for k in range(2, 7):
        amplitude = radius * ragged * generator.normal() / k
        outline += amplitude * np.cos(k * angle + generator.uniform(0, 2 * math.pi))
    distance: Field = np.hypot(dy, dx) - outline
    return distance


def cover(distance: Field, softness: float = 0.0, pixel: float | None = None) -> Field:
    """Coverage in [0, 1] of a shape's signed distance.

    Its edge is one pixel wide, or ``softness`` if that is more. ``pixel`` is a pixel's width in the
    distance's own unit; without it, ``distance`` is a whole picture in units of the image's side.
    """
    edge = max(1 / distance.shape[0] if pixel is None else pixel, softness)
    return np.clip(0.5 - distance * (1 / edge), 0, 1)


def near_rim(distance: Field, width: float) -> Field:
    """How near to a shape's rim a place inside it is: 1 there and outside, 0 ``width`` inside."""
    near: Field = np.clip(distance * (1 / width) + 1, 0, 1)
    return near


def paint(picture: Field, coverage: Field, colour: Colour | Field) -> None:
    """Lay a colour, or a picture, over ``picture`` (S, S, 3), in place."""
    picture += coverage[..., None] * (np.asarray(colour, np.float32) - picture)


def tinted(brightness: Field, colour: Colour | Field) -> Field:
    """A picture (S, S, 3) of one colour and its ``brightness`` (S, S)."""
    return brightness[..., None] * np.asarray(colour, np.float32)


def stain(
    picture: Field, soaked: Field, liquids: Sequence[Colour], fault: np.random.Generator
) -> None:
    """Tint ``picture`` with one of the liquids, given as the light they leave, where ``soaked``."""
    paint(picture, soaked, picture * np.array(one_of(fault, liquids), np.float32))


def mixed(first: Field, second: Field, colours: NDArray[np.float64]) -> Field:
    """A picture (S, S, 3) of two materials: the brightness of each, (S, S), and colours (2, 3)."""
    layers = np.stack((first.ravel(), second.ravel()), axis=1)
    return (layers @ colours.astype(np.float32)).reshape(*first.shape, 3)


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
        # One cell is cut off on each side: there the interpolation lacks neighbours.
        frame = (1, 1, shape[1] - 1, shape[0] - 1)
        layer = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC, box=frame)
        total += np.asarray(layer) * (1.3 * 0.5**octave)
    return total


def slope(height: Field) -> tuple[Field, Field]:
    """How steeply ``height`` rises down and across, in height per image side."""
    rise_y, rise_x = np.zeros_like(height), np.zeros_like(height)
    half = height.shape[0] / 2
    rise_y[1:-1] = (height[2:] - height[:-2]) * half
    rise_x[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * half
    return rise_y, rise_x


def lit(height: Field, lamp: Lamp, shine: float = 0.0) -> Field:
    """Brightness of a relief under one lamp: 1 where it is flat, more on slopes that face it.

    Args:
        height: (S, S), in units of the image's side.
        lamp: the direction to the lamp.
        shine: how much of a highlight is added where the relief mirrors the lamp.
    """
    rise_y, rise_x = slope(height)
    up, left, out = (t / math.hypot(*lamp) for t in lamp)
    length = np.sqrt(rise_y * rise_y + rise_x * rise_x + 1)
    brightness: Field = np.maximum((rise_y * up + rise_x * left + out) / length, 0) * (1 / out)
    if shine:
        # The viewer looks straight down, so a mirror must halve the angle to the lamp.
        half = math.hypot(up, left, out + 1)
        mirrored = (rise_y * up + rise_x * left + (out + 1)) / (length * half)
        brightness += shine * np.maximum(mirrored, 0) ** 40
    return brightness


def lit_to_the_edge(height: Field, lamp: Lamp) -> Field:
    """``lit`` for a relief that goes on beyond the picture; twice the flat brightness at most."""
    return np.minimum(lit(np.pad(height, 1, "edge"), lamp)[1:-1, 1:-1], 2)
