"""Brushed steel sheet under a strip lamp: a texture of fine streaks and a wandering highlight.

Each streak is a groove with a small tilt of its own. So it mirrors the lamp from a place a little
to the side, which is why the highlight runs across the brushing and frays along it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter1d

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Point,
    blob,
    circle,
    cover,
    paint,
    places,
    slope,
    smooth_noise,
    somewhere,
    stroke,
    tinted,
    turned,
)

DEFECTS = ("scratch", "dent", "rust", "finger", "spatter")
STREAK_LENGTHS = ((6, 0.45), (22, 0.55), (70, 0.6))  # in cells of 1 / 125 image, and their share
MARGIN = 1.2  # the sheet is drawn this much larger than the image, to be turned
RUST_COLOURS = ((0.20, 0.075, 0.02), (0.11, 0.04, 0.014), (0.30, 0.13, 0.035), (0.05, 0.022, 0.012))


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw one sheet, or a part of a larger one (``category.Draw``)."""
    y, x = places(size)
    angle = scene.normal(0, 3.0)
    lamps = [
        (scene.uniform(-0.45, 0.45), scene.uniform(0.10, 0.2), scene.uniform(0.10, 0.3)),
        (scene.uniform(-0.8, 0.8), scene.uniform(0.25, 0.4), scene.uniform(0.04, 0.14)),
    ]
    base = scene.uniform(0.15, 0.2)
    fade = scene.normal(0, 0.18)
    contrast = scene.uniform(0.8, 1.15)
    tint = np.array([1 + scene.normal(0.0, 0.012), 1, 1 - scene.normal(-0.012, 0.018)], np.float32)
    wave = smooth_noise(scene, size, (2.0, 1.2)) * scene.uniform(0.015, 0.05)
    rolled = _rolling_marks(scene, size)
    streaks = _turned_image(_streaks(scene, size), angle, size) * contrast
    cloudy = smooth_noise(scene, size, 5, octaves=2) * 0.018
    light_side = 1.0 if scene.random() < 0.5 else -1.0

    down, across = turned(y, x, angle)
    # Half a turn keeps the brushing's direction and gives tilts that are independent of the shades.
    shades, tilts = streaks, streaks[::-1, ::-1]
    light = base * (1 + fade * down + cloudy + rolled)
    if defect == "dent":
        rise_y, rise_x = slope(_dent(y, x, fault))
        across = across + rise_x * 0.9
        light += rise_y * (0.8 * base) + rise_x * (0.7 * light_side * base)
    mirrored = across + wave + 0.045 * tilts
    for place, width, power in lamps:
        aside = (mirrored - place) * (1 / width)
        light += power / (1 + aside * aside) ** 2
    if defect == "finger":
        grease = _fingerprint(y, x, fault)
        shades = shades * (1 - 0.9 * grease)
        light *= 1 - 0.5 * grease
    light *= 1 + 0.17 * shades
    picture = tinted(light, tint)

    if defect == "scratch":
        _scratch(picture, y, x, angle, light_side, fault)
    elif defect == "rust":
        _rust(picture, y, x, angle, fault)
    elif defect == "spatter":
        _spatter(picture, y, x, light_side, fault)
    return np.clip(picture, 0, 1, picture)


def _streaks(scene: np.random.Generator, size: int) -> Field:
    """Brushing along x, about unit variance: grooves of several lengths, a few of them deep."""
    white = scene.standard_normal((len(STREAK_LENGTHS) + 1, 330, 150), np.float32)
    total = np.zeros(white.shape[1:], np.float32)
    for layer, (length, share) in zip(white, STREAK_LENGTHS, strict=False):
        total += uniform_filter1d(layer, length, axis=1, mode="wrap") * (share * math.sqrt(length))
    deep = np.where(np.abs(white[-1]) > 3.1, np.sign(white[-1]), 0)
    total += uniform_filter1d(deep, 40, axis=1) * 60
    # Bundles: the grit of one brush wears as a whole.
    total += scene.standard_normal((110, 1), np.float32).repeat(3, axis=0) * 0.35
    wide = math.ceil(MARGIN * size)
    return np.asarray(Image.fromarray(total).resize((wide, wide), Image.Resampling.BICUBIC))


def _turned_image(field: Field, degrees: float, size: int) -> Field:
    """The middle S x S of a larger field, turned about its centre as ``turned`` does."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half, whole = size / 2, field.shape[0] / 2
    matrix = (c, s, whole - half * (c + s), -s, c, whole - half * (c - s))
    image = Image.fromarray(field).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.array(image)


def _rolling_marks(scene: np.random.Generator, size: int) -> Field:
    """Faint chatter of the rolls across the sheet: bands of uneven spacing and strength."""
    return smooth_noise(scene, size, (1.0, scene.uniform(9, 22))) * scene.uniform(0.006, 0.025)


def _dent(y: Field, x: Field, fault: np.random.Generator) -> Field:
    """Height of the sheet where it was knocked, or bulged by a knock from behind."""
    down, across = turned(y, x, fault.uniform(0, 180), somewhere(fault, 0.36))
    radius, squeeze = fault.uniform(0.045, 0.13), fault.uniform(0.5, 1.0)
    depth = radius * fault.uniform(0.14, 0.32) * (-1 if fault.random() < 0.8 else 1)
    inside = np.maximum(1 - (down * down / squeeze**2 + across * across) / radius**2, 0)
    return depth * inside**2


def _fingerprint(y: Field, x: Field, fault: np.random.Generator) -> Field:
    """How much of the brushing a greasy fingertip fills: an oval smear with broken ridges."""
    down, across = turned(y, x, fault.uniform(0, 180), somewhere(fault, 0.34))
    tall, wide = fault.uniform(0.08, 0.14), fault.uniform(0.05, 0.085)
    slide = fault.uniform(0, 0.25)  # a finger that slid leaves no ridges
    rim = blob(down * (wide / tall), across, wide, fault, ragged=0.25)
    pressed = cover(rim, softness=0.55 * wide)
    bend = smooth_noise(fault, y.shape[0], 7)
    core = np.hypot((down - fault.uniform(-0.03, 0.03)) * fault.uniform(0.55, 0.8), across)
    ridges = np.cos((core + 0.005 * bend) * (2 * math.pi / 0.0125))
    ridges = 0.6 + (0.4 - slide) * ridges
    patchy = np.clip(0.8 + 0.25 * bend, 0, 1)
    smear: Field = pressed * ridges * patchy * fault.uniform(0.7, 1.0)
    return smear


def _scratch(
    picture: Field, y: Field, x: Field, angle: float, light_side: float, fault: np.random.Generator
) -> None:
    """A groove across the brushing: one flank catches the lamp, the other is in its shade."""
    cy, cx = somewhere(fault, 0.3)
    direction = math.radians(angle + fault.uniform(22, 158))
    dy, dx = math.sin(direction), math.cos(direction)
    length, bow = fault.uniform(0.15, 0.75), fault.normal(0, 0.025)
    steps = np.linspace(-0.5, 0.5, 6)
    bent = bow * (1 - 4 * steps**2)
    spine_y = cy + length * (steps * dy + bent * dx)
    spine_x = cx + length * (steps * dx - bent * dy)
    along = ((y - cy) * dy + (x - cx) * dx) / length
    # The point skips: pressure comes and goes along the groove and fades at its ends.
    knots = np.linspace(-0.5, 0.5, 12)
    pressure = np.clip(fault.normal(0.8, 0.35, 12), 0.15, 1.2)
    pressure[[0, -1]] = 0
    pressed = np.interp(along, knots, pressure).astype(np.float32)
    width, strength = fault.uniform(1.0, 2.6) / 256, fault.uniform(0.4, 1)
    for side, most, grey in ((1, 0.85, 0.05), (-1, 0.9, 0.72)):
        aside = 0.55 * width * light_side * side
        flank = np.stack((spine_y + aside * dx, spine_x - aside * dy), axis=1).tolist()
        caught = cover(stroke(y, x, flank, width)) * np.minimum(pressed * strength, most)
        paint(picture, caught, (grey, grey, grey))


def _rust(picture: Field, y: Field, x: Field, angle: float, fault: np.random.Generator) -> None:
    """Grains of rust, thick in the middle and thinning out, on a brown film."""
    cy, cx = somewhere(fault, 0.38)
    radius, age = fault.uniform(0.03, 0.085), fault.uniform(0.25, 1)
    count = int((25 + 75 * age) * (radius / 0.05) ** 1.2)
    turn = math.radians(angle)
    # Damp creeps along the brushing.
    spread = fault.normal(0, (0.42 * radius, 0.75 * radius), (count, 2))
    grains_y = cy + spread[:, 0] * math.cos(turn) + spread[:, 1] * math.sin(turn)
    grains_x = cx - spread[:, 0] * math.sin(turn) + spread[:, 1] * math.cos(turn)
    sizes = np.minimum(fault.lognormal(math.log(0.0034), 0.55, count), 0.25 * radius)
    down, across = turned(y, x, angle, (cy, cx))
    film = blob(down, across * 0.65, radius, fault, ragged=0.5)
    mottle = smooth_noise(fault, picture.shape[0], 60, octaves=2)
    soft = cover(film, softness=radius * 1.1) * (0.75 + 0.22 * mottle)
    np.clip(soft * (0.45 + 0.5 * age), 0, 0.95, soft)
    paint(picture, soft, picture * np.array([0.78, 0.42, 0.17], np.float32))
    for gy, gx, grain in np.stack((grains_y, grains_x, sizes), axis=1).tolist():
        shade = fault.integers(len(RUST_COLOURS))
        part = _around(picture, (gy, gx), grain * 1.6)
        if part is not None:
            spot = circle(y[part], x[part], grain, (gy, gx))
            paint(picture[part], _within(spot, 0.005) * 0.85, RUST_COLOURS[shade])


def _spatter(
    picture: Field, y: Field, x: Field, light_side: float, fault: np.random.Generator
) -> None:
    """Drops of weld metal that landed hot: dull beads, each with a glint and a tempered rim."""
    cy, cx = somewhere(fault, 0.34)
    for _ in range(fault.integers(2, 9)):
        py, px = cy + fault.normal(0, 0.06), cx + fault.normal(0, 0.06)
        radius = min(fault.lognormal(math.log(0.009), 0.45), 0.024)
        part = _around(picture, (py, px), radius * 4)
        if part is None:
            continue
        near, dy, dx = picture[part], y[part] - py, x[part] - px
        bead = blob(dy, dx, radius, fault, ragged=0.25)
        temper = np.clip(1 - bead * (0.55 / radius), 0, 1) ** 2
        near *= 1 - tinted(temper, (0.28, 0.42, 0.5))
        shadow = circle(dy, dx, radius * 1.1, (0.25 * radius, 0.5 * radius * light_side))
        near *= 1 - 0.6 * _within(shadow, radius)[..., None]
        dome = np.sqrt(np.maximum(1 - (dy * dy + dx * dx) / radius**2, 0))
        grey = 0.03 + 0.13 * dome * (1 - light_side * dx / radius * 0.7)
        edge = 1 / picture.shape[0]
        paint(near, _within(bead, edge), tinted(grey, (1, 0.95, 0.9)))
        glint = circle(dy, dx, 0.22 * radius, (-0.35 * radius, -0.35 * radius * light_side))
        paint(near, 0.9 * _within(glint, 1.5 * edge), (0.9, 0.9, 0.9))


def _around(picture: Field, centre: Point, reach: float) -> tuple[slice, slice] | None:
    """The part of the picture within ``reach`` of a place; None where that is outside."""
    size = picture.shape[0]
    low = [math.floor((c + 0.5 - reach) * size) - 1 for c in centre]
    high = [math.ceil((c + 0.5 + reach) * size) + 1 for c in centre]
    if max(low) >= size or min(high) <= 0:
        return None
    rows, columns = (slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
    return rows, columns


def _within(distance: Field, edge: float) -> Field:
    """Coverage in [0, 1] of a signed distance, with a rim that is ``edge`` wide."""
    covered: Field = np.clip(0.5 - distance / edge, 0, 1)
    return covered


CATEGORY = DrawnCategory("metal", "texture", DEFECTS, draw, rotation="slight")
