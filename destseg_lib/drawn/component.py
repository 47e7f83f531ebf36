"""A power transistor mounted on a perforated board: three legs, each in its own hole.

The board has many more holes than the part has legs, all alike, and a leg looks the same in each
of them. So a leg in the wrong hole, or the whole part one hole further, looks flawless in
every detail: only the whole picture shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Point,
    blob,
    bowed,
    box,
    circle,
    jitter,
    near_rim,
    one_of,
    polar,
    smooth_noise,
    stroke,
)
from destseg_lib.drawn.lettering import lettering
from destseg_lib.drawn.surface import Frame, Surface, bevel, blank

DEFECTS = ("misplaced_leg", "misplaced", "missing_leg", "bent_leg", "damaged_body")
PITCH = 1 / 9  # from hole to hole; places and sizes below are in pitches, (down, across)
HOLES: tuple[Point, ...] = ((2, -2), (3, 0), (2, 2))  # where each leg belongs
WRONG_HOLES: tuple[tuple[Point, ...], ...] = (
    ((2, -1), (3, -2), (3, -1)),
    ((2, 0), (3, -1), (3, 1)),
    ((2, 1), (3, 2), (3, 1)),
)
MOVES = ((0, -2), (0, -1), (0, 1), (0, 2), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
TAB_TOP, BODY_TOP, BODY_END, HALF_WIDTH = -3.15, -1.9, 0.6, 1.72
BODY_MIDDLE = (BODY_TOP + BODY_END) / 2
LEG = 0.21  # its width
VARNISH = (0.033, 0.135, 0.075)
GREY = (1.01, 1.0, 0.975)
GREEN, REST = 0, 1  # materials: metal, epoxy and print are brightnesses of the same grey


@dataclass(frozen=True)
class Leg:
    """A leg's course, and how high its end is above the board; at 0 it enters a hole."""

    course: tuple[Point, ...]
    lift: float = 0.0


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw one board with its part (``category.Draw``)."""
    board = Frame(scene.normal(0, 1.3), jitter(scene, 0.010), PITCH)
    slack, lean = jitter(scene, 0.045), scene.normal(0, 1.1)
    lamp = (scene.normal(0.75, 0.12), scene.normal(0.6, 0.15), 1.0)
    code = "".join(scene.choice(list("0123456789"), 4)) + str(scene.choice(list("ABCDEFHK")))
    sway = scene.normal(0, 0.04, 3).tolist()
    tin, sheen = 0.52 * scene.uniform(0.8, 1.1), jitter(scene, 0.14)
    lot = scene.normal(1, (0.08, 0.05, 0.08))
    brushing = scene.normal(1, 0.1, 80)
    surface = _board(size, board, tin, scene)

    mount = _misplaced(board, fault) if defect == "misplaced" else board
    legs = [Leg(_course(which, HOLES[which], sway[which])) for which in range(3)]
    if defect in ("misplaced_leg", "missing_leg", "bent_leg"):
        which = int(fault.integers(3))
        legs[which] = _faulty_leg(defect, which, sway[which], fault)
    part = mount.moved(slack, lean)
    outline = [(v, u) for v in (TAB_TOP, BODY_END) for u in (-HALF_WIDTH, HALF_WIDTH)]
    _shadow_of_part(surface.near(part, outline, margin=1.0), part)
    for leg in legs:
        _shadow_of_leg(surface.near(mount, leg.course, margin=0.8), mount, leg)
    for leg in legs:
        _leg(surface.near(mount, leg.course), mount, leg, tin)
    _tab(surface.near(part, outline), part, tin, sheen, brushing)
    _body(surface.near(part, outline), part, sheen)
    words = part.moved((BODY_MIDDLE + 0.1, 0))
    print_ = lettering(size, f"KD 718\n{code}", 0.66 * PITCH, words.degrees, words.origin)
    surface.lay(print_ * (0.55 + 0.14 * surface.grit), REST, 0.2)
    if defect == "damaged_body":
        damage = _chip if fault.random() < 0.6 else _scratches
        damage(surface.near(part, outline), part, fault)

    varnish = (VARNISH[0] * lot[0], VARNISH[1] * lot[1], VARNISH[2] * lot[2])
    return surface.lit(lamp, (varnish, GREY), gloss=0.35)


def _board(size: int, board: Frame, tin: float, scene: np.random.Generator) -> Surface:
    """The bare board with its tinned holes, all alike."""
    surface = blank(size, PITCH, 2, scene)
    cloudy = smooth_noise(scene, size, 3)
    soldered = smooth_noise(scene, size, 30)
    v, u = board.local(surface.y, surface.x)
    from_hole = np.hypot(v - np.rint(v), u - np.rint(u))
    surface.layers[GREEN] = 1 + 0.05 * cloudy + 0.06 * surface.grit
    # The varnish ends shortly before the tin, so that a ring of the bare board shows.
    surface.lay(surface.cover(from_hole - 0.37), REST, 0.09)
    ring = (from_hole - 0.245) * (1 / 0.085)
    solder = tin * (0.92 + 0.15 * soldered)
    bulge = 0.05 * np.maximum(1 - ring * ring, 0)
    surface.lay(surface.cover(from_hole - 0.33), REST, solder, bulge)
    surface.lay(surface.cover(from_hole - 0.165), REST, 0.012)
    return surface


def _course(which: int, hole: Point, sway: float) -> tuple[Point, ...]:
    """The way of a leg to a hole: straight, or over by a column close to the body."""
    start = float(which - 1)
    aside = abs(hole[1] - start)
    bends = ((0.9, start), (0.9 + 0.7 * aside + sway, hole[1])) if aside else ()
    return ((BODY_END - 0.2, start), *bends, hole)


def _faulty_leg(defect: str, which: int, sway: float, fault: np.random.Generator) -> Leg:
    """A leg in a wrong hole, cut off, or next to its hole."""
    hole, course = HOLES[which], _course(which, HOLES[which], sway)
    if defect == "misplaced_leg":
        return Leg(_course(which, one_of(fault, WRONG_HOLES[which]), sway))
    if defect == "missing_leg":
        stub = BODY_END + fault.uniform(-0.1, 0.45)
        return Leg((course[0], (stub, course[0][1])), lift=0.02)
    angle = fault.uniform(0, 2 * math.pi)
    end = polar(angle, fault.uniform(0.42, 0.75), hole)
    bow = 0.12 * math.cos(angle)
    half = ((end[0] + course[-2][0]) / 2 + 0.1, (end[1] + course[-2][1]) / 2 - bow)
    return Leg((*course[:-1], half, end), lift=fault.uniform(0.05, 0.35))


def _misplaced(board: Frame, fault: np.random.Generator) -> Frame:
    """The part in other holes: moved by whole pitches, or turned on the spot."""
    if fault.random() < 0.7:
        return board.moved(one_of(fault, MOVES))
    return board.moved((0, 0), 90 * float(fault.integers(1, 4)))


def _shadow_of_part(piece: Surface, part: Frame) -> None:
    v, u = part.thrown(0.6).local(piece.y, piece.x)
    middle = (BODY_END + TAB_TOP) / 2
    fallen = box(v, u, BODY_END - TAB_TOP, 2 * HALF_WIDTH, corner=0.3, centre=(middle, 0))
    piece.shade(0.85 * piece.cover(fallen, 0.5))


def _shadow_of_leg(piece: Surface, mount: Frame, leg: Leg) -> None:
    v, u = mount.thrown(0.24 + leg.lift).local(piece.y, piece.x)
    piece.shade(0.65 * piece.cover(stroke(v, u, leg.course, LEG), 0.14))


def _leg(piece: Surface, mount: Frame, leg: Leg, tin: float) -> None:
    v, u = mount.local(piece.y, piece.x)
    distance = stroke(v, u, leg.course, LEG)
    metal: Field | float = 1.25 * tin
    if not leg.lift:
        # It turns down into its hole: the light follows it only so far.
        left = circle(v, u, 0.05, leg.course[-1]) * (1 / 0.2)
        metal = metal * np.clip(left, 0.04, 1)
    piece.lay(piece.cover(distance), REST, metal, bevel(distance, 0.1) * 0.07)


def _tab(
    piece: Surface, part: Frame, tin: float, sheen: Point, brushing: NDArray[np.float64]
) -> None:
    """The cooling tab behind the body, brushed, with its hole for a screw."""
    v, u = part.local(piece.y, piece.x)
    plate = box(v, u, 2.6, 2 * HALF_WIDTH - 0.1, corner=0.12, centre=(TAB_TOP + 1.3, 0))
    plate = np.maximum(plate, -circle(v, u, 0.36, (TAB_TOP + 0.62, 0)))
    knots = np.linspace(-HALF_WIDTH, HALF_WIDTH, len(brushing))
    light = np.interp(u, knots, brushing).astype(np.float32)
    # Brushed metal mirrors the room only across the brushing: one blurred bright band.
    band = (u - 4 * sheen[0]) * (1 / 0.9)
    light += 0.45 / (1 + band * band) - 0.2
    light += sheen[1] * (v + 2.5)
    metal = tin * np.clip(light, 0.5, 1.7)
    piece.lay(piece.cover(plate), REST, metal, bevel(plate, 0.1) * 0.06)


def _body(piece: Surface, part: Frame, sheen: Point) -> None:
    """The moulded body: matt epoxy, rounded edges, dimples of the mould's ejectors."""
    v, u = part.local(piece.y, piece.x)
    body = _epoxy(v, u)
    height = 0.16 * bevel(body, 0.22) + 0.0016 * piece.grit
    for side in (-1, 1):
        dimple = circle(v, u, 0.2, (BODY_TOP + 0.42, side * 1.32))
        height -= piece.cover(dimple, 0.08) * 0.03
    sky = 1.1 - (0.22 + 2 * sheen[1]) * (v - BODY_MIDDLE) + sheen[0] * u
    dark = (0.021 + 0.0028 * piece.grit) * np.clip(sky, 0.6, 1.8)
    piece.lay(piece.cover(body), REST, dark, height)


def _epoxy(v: Field, u: Field) -> Field:
    return box(v, u, BODY_END - BODY_TOP, 2 * HALF_WIDTH, corner=0.1, centre=(BODY_MIDDLE, 0))


def _chip(piece: Surface, part: Frame, fault: np.random.Generator) -> None:
    """A piece broken off a corner or a side: a rough, paler hollow."""
    v, u = part.local(piece.y, piece.x)
    side = 1 if fault.random() < 0.5 else -1
    corner = fault.choice((BODY_TOP, BODY_END)) if fault.random() < 0.6 else None
    down = fault.uniform(BODY_TOP + 0.4, BODY_END - 0.4) if corner is None else corner
    radius = fault.uniform(0.3, 0.75)
    chip = blob(v, u, radius, fault, centre=(float(down), side * HALF_WIDTH), ragged=0.5)
    lost = piece.cover(np.maximum(_epoxy(v, u), chip))
    shelf = near_rim(chip, radius)
    ripples = np.abs(np.sin(shelf * 5 + fault.uniform(0, 6)))
    height = 0.12 * shelf + 0.02 * ripples + 0.007 * piece.grit
    pale = fault.uniform(0.05, 0.11) * (1 + 0.2 * piece.grit)
    piece.lay(lost, REST, pale, height)


def _scratches(piece: Surface, part: Frame, fault: np.random.Generator) -> None:
    """Up to three scratches side by side on the body's face."""
    v, u = part.local(piece.y, piece.x)
    angle = fault.uniform(0, math.pi)
    middle = (BODY_MIDDLE + fault.uniform(-0.7, 0.7), fault.uniform(-1, 1))
    face = piece.cover(_epoxy(v, u) + 0.1)
    for _ in range(fault.integers(1, 4)):
        half, bow = fault.uniform(0.4, 1.3), fault.normal(0, 0.1)
        ends = bowed(middle, angle, half, bow, (-1, -0.4, 0.3, 1))
        groove = face * piece.cover(stroke(v, u, ends, fault.uniform(0.03, 0.08)))
        groove *= fault.uniform(0.5, 0.9)
        piece.lay(groove, REST, 0.16, piece.relief - 0.05)
        angle += fault.normal(0, 0.12)
        middle = (middle[0] + fault.normal(0, 0.15), middle[1] + fault.normal(0, 0.15))


CATEGORY = DrawnCategory("component", "object", DEFECTS, draw, rotation="none")
