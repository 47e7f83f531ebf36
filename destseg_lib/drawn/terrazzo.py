"""Polished terrazzo: chips of several stones in cement, ground flat.

The chips are polygons, painted small to large, each in a rim of cement, so that they never touch.
Hair-thin rims and cut-off corners are what a ground surface shows too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Point,
    blob,
    cover,
    one_of,
    paint,
    places,
    polar,
    smooth_noise,
    somewhere,
    stain,
    stroke,
    tinted,
)

Outline = NDArray[np.float32]  # (CORNERS, 2) as (y, x), in units of the image's side

DEFECTS = ("crack", "hole", "stain", "scratch", "foreign_chip")
FINE = 2  # chips are painted this much larger and averaged, for smooth edges
CORNERS = 6
GRADES = ((240, 0.011, 0.35), (180, 0.023, 0.30), (100, 0.043, 0.28))  # number, radius, its spread
# Chips are coloured as the eye sees them (the square root of linear light): eight bits suffice.
CEMENT = (0.675, 0.66, 0.625)
STONES = (  # share, colour, its spread, how mottled
    (0.30, (0.87, 0.85, 0.81), 0.03, 0.35),  # white marble
    (0.22, (0.58, 0.565, 0.54), 0.05, 0.60),  # grey limestone
    (0.16, (0.29, 0.285, 0.29), 0.04, 0.45),  # basalt
    (0.14, (0.65, 0.49, 0.39), 0.05, 0.70),  # red-brown marble
    (0.18, (0.77, 0.68, 0.54), 0.04, 0.50),  # sandy limestone
)
GLASS, BRICK = ((0.24, 0.42, 0.62), (0.30, 0.52, 0.36)), (0.74, 0.32, 0.20)
FOREIGN = (*GLASS, BRICK, (0.80, 0.66, 0.22), (0.50, 0.30, 0.46))  # the last are brass and porphyry
STAINS = ((0.38, 0.36, 0.34), (0.58, 0.38, 0.21), (0.72, 0.42, 0.25))  # oil, tea, rust: light left


@dataclass(frozen=True)
class _Chips:
    """Outlines (N, CORNERS, 2) as (y, x), small chips first; colours (N, 3); mottled (N,)."""

    outlines: NDArray[np.float32]
    colours: NDArray[np.float32]
    mottled: NDArray[np.float32]


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a part of a slab (``category.Draw``)."""
    chips = _scatter(scene)
    cement = np.array(CEMENT) + scene.normal(0, 0.005, 3) + scene.normal(0, 0.02)
    lamp, lamp_far = scene.uniform(0, 2 * math.pi), scene.uniform(0.1, 0.9)
    gloss, gloss_width = scene.uniform(0.0, 0.09), scene.uniform(0.15, 0.4)
    lamp_at = polar(lamp, 1)
    cloudy = smooth_noise(scene, size, 4, octaves=2)
    veins = smooth_noise(scene, size, 30, octaves=3)
    sand = smooth_noise(scene, size, 64, octaves=2)
    y, x = places(size)

    seen, stone, mottled = _painted(size, chips, cement)
    if defect == "foreign_chip":
        _foreign_chip(seen, y, x, _some_chip(chips, 0.021, fault), lamp_at, fault)
    shade = 1 + 0.02 * cloudy + 0.11 * veins * mottled + sand * (0.035 - 0.02 * stone)
    seen *= shade[..., None]
    picture = seen * seen
    if defect == "stain":
        _stain(picture, y, x, stone, cloudy, fault)
    elif defect == "hole":
        _hole(picture, y, x, sand, _some_chip(chips, 0.028, fault), lamp_at, fault)
    elif defect == "crack":
        _crack(picture, fault)
    elif defect == "scratch":
        _scratch(picture, y, x, fault)
    aside_y = y - lamp_far * lamp_at[0]
    aside_x = x - lamp_far * lamp_at[1]
    aside = (aside_y * aside_y + aside_x * aside_x) * (1 / gloss_width**2)
    picture += (gloss / (1 + aside))[..., None]
    return np.clip(picture, 0, 1, picture)


def _scatter(scene: np.random.Generator) -> _Chips:
    """Chips of all grades; of two that would lie on each other the smaller is left out."""
    numbers, typical, spreads = (np.array(column) for column in zip(*GRADES, strict=True))
    count = int(numbers.sum())
    deviation = np.clip(scene.normal(0, 1, count), -2, 1.2) * np.repeat(spreads, numbers)
    radii = np.sort(np.repeat(typical, numbers) * np.exp(deviation))
    centres = scene.uniform(-0.56, 0.56, (count, 2))
    pairs = KDTree(centres).query_pairs(1.2 * radii[-1], output_type="ndarray")  # smaller first
    apart = np.hypot(*(centres[pairs[:, 0]] - centres[pairs[:, 1]]).T)
    free = np.ones(count, np.bool_)
    free[pairs[apart < 0.6 * radii[pairs].sum(axis=1), 0]] = False

    # Corners on an ellipse make an outline convex, as a broken stone's is.
    steps = np.arange(CORNERS) + scene.uniform(-0.48, 0.48, (count, CORNERS))
    angle = steps * (2 * math.pi / CORNERS) + scene.uniform(0, 2 * math.pi, (count, 1))
    squeeze = np.sqrt(scene.uniform(0.6, 1.0, (count, 1)))
    turn = np.exp(1j * scene.uniform(0, math.pi, (count, 1)))
    corners = (np.cos(angle) / squeeze + 1j * np.sin(angle) * squeeze) * turn * radii[:, None]
    outlines = centres[:, None] + np.stack((corners.imag, corners.real), axis=-1)

    colours, varied, mottled = zip(*(stone[1:] for stone in STONES), strict=True)
    kind = scene.choice(len(STONES), count, p=[share for share, *_ in STONES])
    lot = scene.normal(0, 1, (count, 1)) + scene.normal(0, 0.3, (count, 3))
    colour = np.array(colours)[kind] + np.array(varied)[kind, None] * lot
    return _Chips(
        outlines[free].astype(np.float32),
        colour[free].astype(np.float32),
        np.array(mottled, np.float32)[kind[free]],
    )


def _painted(size: int, chips: _Chips, cement: NDArray[np.float64]) -> tuple[Field, Field, Field]:
    """The colours as seen (S, S, 3), the coverage of stone and how mottled it is, each (S, S)."""
    fine = FINE * size
    ground = (*(int(255 * c) for c in cement), 0)
    # Four channels, averaged each by itself; an alpha channel would weigh the others.
    image = Image.new("CMYK", (fine, fine), ground)
    pen = ImageDraw.Draw(image)
    spokes = chips.outlines - chips.outlines.mean(axis=1, keepdims=True)
    rims = chips.outlines + spokes * (0.0035 / np.hypot(*spokes.T).T.mean(axis=1))[:, None, None]
    rows = zip(
        ((rims[..., ::-1] + 0.5) * fine).reshape(len(rims), -1).tolist(),
        ((chips.outlines[..., ::-1] + 0.5) * fine).reshape(len(rims), -1).tolist(),
        np.clip(chips.colours * 255, 0, 255).astype(int).tolist(),
        (127 + 127 * chips.mottled).astype(int).tolist(),
        strict=True,
    )
    for rim, outline, colour, kind in rows:
        pen.polygon(rim, fill=ground)
        pen.polygon(outline, fill=(*colour, kind))
    pixels = np.asarray(image.reduce(FINE), np.float32) * (1 / 255)
    kind = pixels[..., 3] * 2
    return pixels[..., :3].copy(), np.minimum(kind, 1), np.maximum(kind - 1, 0)


def _some_chip(chips: _Chips, smallest: float, fault: np.random.Generator) -> Outline:
    """The outline (CORNERS, 2) of a chip that is well inside the picture and not tiny."""
    inside = np.abs(chips.outlines.mean(axis=1)).max(axis=1) < 0.43
    large = np.ptp(chips.outlines, axis=1).min(axis=1) > 2 * smallest
    outline: Outline = chips.outlines[fault.choice(np.flatnonzero(inside & large))]
    return outline


def _polygon(y: Field, x: Field, outline: Outline) -> Field:
    """Signed distance (outside a lower bound) to a convex outline, clockwise as seen."""
    distance = np.full_like(y, -np.inf)
    for (py, px), (qy, qx) in zip(outline.tolist(), np.roll(outline, -1, 0).tolist(), strict=True):
        length = math.hypot(qy - py, qx - px)
        ny, nx = (px - qx) / length, (qy - py) / length
        side = ny * y + nx * x - (ny * py + nx * px)
        np.maximum(distance, side, out=distance)
    return distance


def _foreign_chip(
    seen: Field, y: Field, x: Field, outline: Outline, lamp_at: Point, fault: np.random.Generator
) -> None:
    """A chip of a material that is not in the mix."""
    colour = np.array(one_of(fault, FOREIGN)) + fault.normal(0, 0.02, 3)
    colour += fault.uniform(0, 0.45) * (colour.mean() - colour)
    middle = outline.mean(axis=0)
    side = (y - middle[0]) * lamp_at[0] + (x - middle[1]) * lamp_at[1]
    tone = 1 + fault.uniform(0, 4) * side
    paint(seen, cover(_polygon(y, x, outline)), tinted(tone, colour))


def _hole(
    picture: Field,
    y: Field,
    x: Field,
    sand: Field,
    outline: Outline,
    lamp_at: Point,
    fault: np.random.Generator,
) -> None:
    """The bed of a chip that was torn out: rough cement, half of it in the shade of the rim."""
    ragged = 0.0012 * sand
    bed = cover(_polygon(y, x, outline) + ragged)
    reach = fault.uniform(0.35, 0.7) * np.ptp(outline, axis=0).min() / 2
    down, across = reach * lamp_at[0], reach * lamp_at[1]
    # The rim keeps the lamp from the shaded part; the wall opposite faces the lamp.
    shaded = cover(-_polygon(y + down, x + across, outline) - ragged, softness=0.008)
    wall = cover(-_polygon(y - 0.6 * down, x - 0.6 * across, outline) - ragged, softness=0.006)
    tone = fault.uniform(0.45, 0.65) + 0.11 * sand
    tone *= (1 + 0.9 * wall) * (1 - 0.85 * shaded)
    paint(picture, bed, tinted(np.clip(tone, 0.02, 1.2), (0.36, 0.33, 0.29)))
    # The polished edge has splintered where the chip came out.
    splinters = 4 * bed * (1 - bed) * np.clip(0.3 + sand, 0, 0.8)
    paint(picture, splinters, (0.75, 0.73, 0.70))


def _stain(
    picture: Field, y: Field, x: Field, stone: Field, cloudy: Field, fault: np.random.Generator
) -> None:
    """A spill that the cement has soaked up more than the stones, darkest where it dried last."""
    radius = fault.uniform(0.05, 0.13)
    spill = blob(y, x, radius, fault, centre=somewhere(fault, 0.36), ragged=0.28) + 0.006 * cloudy
    soaked = cover(spill, softness=0.2 * radius) * 0.75
    rim = np.abs(spill + 0.1 * radius)
    soaked += 0.35 * cover(rim, softness=0.2 * radius)
    soaked *= (1 - 0.5 * stone) * fault.uniform(0.5, 0.95)
    stain(picture, soaked, STAINS, fault)


def _scratch(picture: Field, y: Field, x: Field, fault: np.random.Generator) -> None:
    """A long shallow arc: the polish is broken, so stone and cement look dry and light."""
    cy, cx = somewhere(fault, 0.3)
    heading, radius = fault.uniform(0, 2 * math.pi), fault.uniform(0.4, 1.5)
    half = fault.uniform(0.15, 0.45) / radius
    strength, width = fault.uniform(0.4, 0.85), fault.uniform(1.2, 2.6) / 256
    uy, ux = math.sin(heading), math.cos(heading)
    turns = heading + np.linspace(-half, half, 9)
    arc = [(cy + radius * (math.sin(a) - uy), cx + radius * (math.cos(a) - ux)) for a in turns]
    along = (ux * (y - cy) - uy * (x - cx)) / (radius * math.sin(half))
    pressure = np.clip(fault.normal(0.85, 0.25, 14), 0.3, 1.1)
    pressure[[0, -1]] = 0
    pressed = np.interp(along, np.linspace(-1, 1, 14), pressure).astype(np.float32)
    dry = cover(stroke(y, x, arc, width)) * pressed * strength
    paint(picture, dry, (0.86, 0.84, 0.82))


def _crack(picture: Field, fault: np.random.Generator) -> None:
    """A hairline through stone and cement that wanders, forks and thins out."""
    fine = 4 * picture.shape[0]
    image = Image.new("L", (fine, fine), 0)
    pen = ImageDraw.Draw(image)
    heading, length, step = fault.uniform(0, 2 * math.pi), fault.uniform(0.25, 0.75), 0.013
    tips = [(*somewhere(fault, 0.35), heading, length, fault.uniform(1.0, 2.1) / 256)]
    for py, px, course, length, width in islice(tips, 4):  # it sees forks that are added below
        heading, count = course, int(length / step)
        for k in range(count):
            heading = 0.7 * heading + 0.3 * course + fault.normal(0, 0.42)
            ny, nx = polar(heading, step, (py, px))
            thin = max(1, round(width * fine * (1 - 0.75 * k / count)))
            line = [(0.5 + px) * fine, (0.5 + py) * fine, (0.5 + nx) * fine, (0.5 + ny) * fine]
            pen.line(line, fill=255, width=thin)
            py, px = ny, nx
            if fault.random() < 0.06:
                fork = course + fault.choice((-1, 1)) * fault.uniform(0.4, 1.1)
                tips.append((py, px, fork, 0.4 * length * (1 - k / count), 0.7 * width))
    gap = np.asarray(image.reduce(4), np.float32) * (0.92 / 255)
    # One edge of the gap has crumbled and is light.
    crumbled = np.zeros_like(gap)
    crumbled[1:, 1:] = gap[:-1, :-1] * 0.3
    paint(picture, crumbled, (0.8, 0.78, 0.75))
    paint(picture, gap, (0.035, 0.03, 0.028))


CATEGORY = DrawnCategory("terrazzo", "texture", DEFECTS, draw, rotation="full")
