"""A pressed tablet on a felt tray: powder with coloured specks, a score line, a printed code.

Its print allows a defect that no texture shows: each stroke of a wrong character is a good stroke.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Colour,
    Field,
    Lamp,
    Point,
    blob,
    circle,
    cover,
    jitter,
    lit,
    near_rim,
    one_of,
    paint,
    places,
    polar,
    smooth_noise,
    stroke,
    tinted,
)
from destseg_lib.drawn.lettering import lettering
from destseg_lib.drawn.surface import Frame, bevel

DEFECTS = (
    "chipped_edge", "crack", "contamination", "missing_print", "wrong_print", "colour_blotch",
)  # fmt: skip
RADIUS = 0.345
CODE = ("DN", "75")  # above and below the score line
OTHERS = {"D": "OPB", "N": "MHX", "7": "1T2", "5": "369"}  # what a character is mistaken for
INK = (0.035, 0.075, 0.22)
SPECKS = 90


@dataclass(frozen=True)
class Look:
    """Differences between good tablets; angles in degrees, lengths in image sides."""

    pose: Frame
    lamp: Lamp
    powder: Colour
    ink: float
    shift: Point  # of the print against the score line
    slant: float
    tray: float


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw one tablet on its tray (``category.Draw``)."""
    look = _look(scene)
    specks = (scene.uniform(-1, 1, (SPECKS, 2)) * RADIUS).tolist()
    sizes = scene.uniform(0.0016, 0.0042, SPECKS).tolist()
    tints = scene.uniform(0.35, 0.85, SPECKS).tolist()
    y, x = places(size)
    v, u = look.pose.local(y, x)
    mottled, grit = smooth_noise(scene, size, 9, 2), smooth_noise(scene, size, 110)
    picture = _tray(size, look, scene)

    rim = circle(v, u, RADIUS)
    whole = rim
    if defect == "chipped_edge":
        bite, radius = _bite(v, u, fault)
        whole = np.maximum(rim, -bite)
    _drop_shadow(picture, y, x, look)
    height, face = _relief(whole, v, grit)
    if defect == "chipped_edge":
        height = _fracture(height, rim, bite, radius, grit, fault)
        whole = np.maximum(rim, -(bite + 0.8 * radius))
    if defect == "crack":
        course = _crack(fault)
        split = stroke(v, u, course, fault.uniform(0.004, 0.008))
        height = height - 0.012 * cover(split, 0.006)
    light = lit(height, look.lamp, 0.05)
    powder = tinted(1 + 0.035 * mottled + 0.05 * grit, look.powder)
    for place, radius_, tint in zip(specks, sizes, tints, strict=True):
        _speck(powder, look.pose.seen(place), radius_, tint, size)
    if defect == "colour_blotch":
        _blotch(powder, v, u, fault)
    _print(powder, size, look, face, grit, defect, fault)
    if defect == "crack":
        powder *= 1 - 0.55 * cover(split, 0.003)[..., None]
    paint(picture, cover(whole), powder * light[..., None])
    if defect == "contamination":
        _contaminate(picture, v, u, fault)
    return np.clip(picture, 0, 1, out=picture)


def _look(scene: np.random.Generator) -> Look:
    lot = scene.normal(1, 0.02, 3)
    bright = scene.uniform(0.56, 0.66)
    return Look(
        pose=Frame(scene.normal(0, 7), jitter(scene, 0.02), 1.0),
        lamp=(scene.normal(0.7, 0.18), scene.normal(0.6, 0.2), 1.0),
        powder=(bright * lot[0], 0.985 * bright * lot[1], 0.93 * bright * lot[2]),
        ink=scene.uniform(0.72, 0.95),
        shift=jitter(scene, 0.008, 0.012),
        slant=scene.normal(0, 3),
        tray=scene.uniform(0.75, 1.25),
    )


def _tray(size: int, look: Look, scene: np.random.Generator) -> Field:
    """Dark green felt: short fibres that shine this way and that."""
    fibres = smooth_noise(scene, size, (70, 110)) + smooth_noise(scene, size, (120, 60))
    worn = smooth_noise(scene, size, 4)
    felt = look.tray * np.exp(0.20 * fibres + 0.10 * worn)
    return tinted(felt, (0.020, 0.045, 0.042))


def _drop_shadow(picture: Field, y: Field, x: Field, look: Look) -> None:
    down, across = look.pose.origin
    away = (down + 0.022 * look.lamp[0], across + 0.022 * look.lamp[1])
    fallen = cover(circle(y, x, RADIUS + 0.004, away), 0.05)
    picture *= 1 - 0.75 * fallen[..., None]


def _relief(rim: Field, v: Field, grit: Field) -> tuple[Field, Field]:
    """The tablet's height, and where its face is flat enough to take print."""
    height = 0.05 * bevel(rim, 0.075)
    face = cover(rim + 0.06)
    groove = 1 - np.minimum(np.abs(v) * (1 / 0.014), 1)
    height -= 0.012 * groove * cover(rim + 0.02, 0.03)
    height += 0.0006 * grit
    return height, face * (1 - groove)


def _print(
    powder: Field,
    size: int,
    look: Look,
    face: Field,
    grit: Field,
    defect: str | None,
    fault: np.random.Generator,
) -> None:
    """Ink on the powder's grains; it may be faint, partly missing, or say something else."""
    words = list(CODE)
    if defect == "wrong_print":
        line, place = int(fault.integers(2)), int(fault.integers(2))
        other = one_of(fault, OTHERS[words[line][place]])
        words[line] = words[line][:place] + other + words[line][place + 1 :]
    ink = np.zeros_like(face)
    for word, below in zip(words, (-0.125, 0.125), strict=True):
        middle = look.pose.seen((below + look.shift[0], look.shift[1]))
        ink += lettering(size, word, 0.185, look.pose.degrees + look.slant, middle)
    ink = ink * face * np.clip(look.ink - 0.10 * grit, 0, 1)
    if defect == "missing_print":
        y, x = places(size)
        down = one_of(fault, (-0.125, 0.125))
        middle = look.pose.seen((down, fault.uniform(-0.08, 0.08)))
        lost = cover(blob(y, x, fault.uniform(0.06, 0.13), fault, centre=middle), 0.05)
        ink = ink * (1 - fault.uniform(0.6, 1) * lost)
    paint(powder, ink, INK)


def _speck(powder: Field, place: Point, radius: float, tint: float, size: int) -> None:
    """One coloured grain, drawn in its own few pixels."""
    reach = int(radius * size) + 2
    row, column = (round((p + 0.5) * size - 0.5) for p in place)
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = powder[top : row + reach + 1, left : column + reach + 1]
    if not window.size:
        return
    rows = (np.arange(top, top + window.shape[0]) + 0.5) / size - 0.5 - place[0]
    columns = (np.arange(left, left + window.shape[1]) + 0.5) / size - 0.5 - place[1]
    distance = np.hypot(rows[:, None], columns[None]) - radius
    covered = np.clip(0.5 - distance * size, 0, 1)[..., None].astype(np.float32)
    window *= 1 - covered * np.array((0.25, 0.6, 0.75), np.float32) * tint


def _bite(v: Field, u: Field, fault: np.random.Generator) -> tuple[Field, float]:
    angle, radius = fault.uniform(0, 2 * math.pi), fault.uniform(0.035, 0.10)
    far = RADIUS - fault.uniform(-0.2, 0.35) * radius
    return blob(v, u, radius, fault, centre=polar(angle, far), ragged=0.45), radius


def _fracture(
    height: Field, rim: Field, bite: Field, radius: float, grit: Field, fault: np.random.Generator
) -> Field:
    """Where the edge broke away: a rough slope down to the tray."""
    steps = np.abs(np.sin(bite * fault.uniform(110, 170)))
    rough = 0.030 + 0.017 * near_rim(bite, 0.9 * radius)
    rough += 0.0006 * steps + 0.0012 * grit
    inside = cover(np.maximum(bite, rim))
    return height + inside * (rough - height)


def _crack(fault: np.random.Generator) -> list[Point]:
    """A course from the rim inwards, or from rim to rim."""
    angle = fault.uniform(0, 2 * math.pi)
    heading = angle + math.pi + fault.normal(0, 0.4)
    place = polar(angle, 0.99 * RADIUS)
    course = [place]
    for _ in range(fault.integers(7, 20)):
        heading += fault.normal(0, 0.32)
        place = polar(heading, fault.uniform(0.015, 0.035), place)
        if math.hypot(*place) > RADIUS:
            break
        course.append(place)
    return course if len(course) > 1 else [*course, (0.0, 0.0)]


def _blotch(powder: Field, v: Field, u: Field, fault: np.random.Generator) -> None:
    """A damp or scorched spot, darker at its border."""
    far, angle = fault.uniform(0, 0.25), fault.uniform(0, 2 * math.pi)
    radius = fault.uniform(0.03, 0.09)
    spot = blob(v, u, radius, fault, centre=polar(angle, far), ragged=0.5)
    soaked = cover(spot, 0.02) * (0.75 + 0.25 * cover(-spot - 0.01, 0.02))
    tint = one_of(fault, ((0.1, 0.25, 0.55), (0.15, 0.4, 0.45), (0.3, 0.3, 0.32)))
    strength = fault.uniform(0.45, 0.95)
    powder *= 1 - tinted(strength * soaked, tint)


def _contaminate(picture: Field, v: Field, u: Field, fault: np.random.Generator) -> None:
    """A hair, or a few dark crumbs with their shadows, on the tablet."""
    far, angle = fault.uniform(0, 0.24), fault.uniform(0, 2 * math.pi)
    place = middle = polar(angle, far)
    if fault.random() < 0.5:
        heading, bend, course = fault.uniform(0, 6.3), fault.normal(0, 0.25), [place]
        for _ in range(fault.integers(6, 14)):
            heading += bend + fault.normal(0, 0.12)
            place = polar(heading, 0.02, place)
            course.append(place)
        things = [stroke(v, u, course, fault.uniform(0.004, 0.007))]
    else:
        things = []
        for _ in range(fault.integers(1, 4)):
            radius, (down, across) = fault.uniform(0.008, 0.022), jitter(fault, 0.03)
            centre = (middle[0] + down, middle[1] + across)
            things.append(blob(v, u, radius, fault, centre=centre, ragged=0.6))
    dark = np.array((0.05, 0.04, 0.035), np.float32) * fault.uniform(0.4, 1.8)
    for thing in things:
        picture *= 1 - 0.35 * cover(thing - 0.003, 0.012)[..., None]
        paint(picture, cover(thing), dark)


CATEGORY = DrawnCategory("tablet", "object", DEFECTS, draw, rotation="none")
