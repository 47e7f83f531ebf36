"""A socket of ivory nylon seen from above: two rows of contacts in square cavities, one key.

The camera is above the middle, so that the outer wall of each cavity is seen a little from above.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Point,
    blob,
    box,
    circle,
    near_rim,
    one_of,
    polar,
    smooth_noise,
    stroke,
)
from destseg_lib.drawn.lettering import lettering
from destseg_lib.drawn.surface import Frame, Surface, bevel, blank

DEFECTS = ("missing_pin", "bent_pin", "short", "broken_wall", "contamination")
PITCH = 0.16  # from contact to contact; places and sizes below are in pitches, (down, across)
CONTACTS: tuple[Point, ...] = tuple(product((-0.5, 0.5), (-2.0, -1.0, 0.0, 1.0, 2.0)))
TOP, BOTTOM, HALF_WIDTH = -1.24, 1.45, 2.78
CAVITY, PIN = 0.76, 0.25
PERSPECTIVE = 0.085  # how far the cavities' floor draws in towards the middle
NYLON, DEEP, MAT, METAL = range(4)  # materials; DEEP is light that came through the nylon
LIGHT_FROM = (0.72, 0.62)  # up and left, for shades inside the cavities


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw one socket on its mat (``category.Draw``)."""
    origin = (scene.normal(-0.015, 0.012), scene.normal(0, 0.012))
    frame = Frame(scene.normal(0, 1.8), origin, PITCH)
    lamp = (scene.normal(0.7, 0.12), scene.normal(0.6, 0.15), 1.0)
    pins = scene.normal(0, (0.014, 0.014, 2.5, 0.06), (len(CONTACTS), 4)).tolist()
    lot, yellow = scene.normal(1, 0.06), scene.normal(0, 0.022)
    tin = scene.uniform(0.36, 0.46)
    number = str(scene.choice(list("1234")))
    surface = blank(size, PITCH, 4, scene)
    # Belt and mouldings are never quite flat.
    surface.relief[...] = smooth_noise(scene, size, 5) * 0.012
    _mat(surface, scene)

    corners = list(product((TOP, BOTTOM + 0.4), (-HALF_WIDTH, HALF_WIDTH)))
    piece = surface.near(frame, corners, margin=0.6)
    v, u = frame.thrown(0.55).local(piece.y, piece.x)
    piece.shade(0.8 * piece.cover(_outline(v, u), 0.45))
    _housing(piece, frame)
    _marks(surface, frame, number)

    faulty = fault.integers(len(CONTACTS))
    for which, place in enumerate(CONTACTS):
        lean = (0.0, 0.0)
        if which == faulty and defect == "bent_pin":
            lean = polar(fault.uniform(0, 2 * math.pi), fault.uniform(0.10, 0.24))
        missing = which == faulty and defect == "missing_pin"
        _contact(surface.near(frame, [place]), frame, place, pins[which], lean, tin, missing)

    if defect == "short":
        _short(surface, frame, fault)
    elif defect == "broken_wall":
        _broken_wall(piece, frame, fault)
    elif defect == "contamination":
        _contamination(surface, frame, fault)
    return surface.lit(
        lamp,
        (
            (0.66 * lot, 0.60 * lot, (0.47 - yellow) * lot),
            (0.60, 0.41, 0.20 - yellow),
            (0.030, 0.040, 0.052),
            (1.0, 0.985, 0.95),
        ),
        gloss=0.3,
    )


def _mat(surface: Surface, scene: np.random.Generator) -> None:
    """A woven belt, a little worn."""
    thread = np.sin(surface.x[:1] * (2 * math.pi * 62))
    surface.layers[MAT] = 1 + 0.15 * smooth_noise(scene, surface.size, 3)
    surface.layers[MAT] += 0.08 * surface.grit + 0.16 * thread.T * thread


def _square(v: Field, u: Field, height: float, width: float, centre: Point = (0, 0)) -> Field:
    """About the signed distance to a sharp box: quicker than ``box``, and as good near it."""
    across = np.abs(u - centre[1]) - width / 2
    outside: Field = np.maximum(np.abs(v - centre[0]) - height / 2, across)
    return outside


def _outline(v: Field, u: Field) -> Field:
    """Signed distance to the housing: a box with a latch below and the key's slot above."""
    middle = (TOP + BOTTOM) / 2
    housing = box(v, u, BOTTOM - TOP, 2 * HALF_WIDTH, corner=0.12, centre=(middle, 0))
    latch = box(v, u, 0.56, 1.5, corner=0.09, centre=(BOTTOM + 0.06, 0))
    slot = _square(v, u, 0.5, 0.6, (TOP, 1))
    return np.maximum(np.minimum(housing, latch), -slot)


def _cells(v: Field, u: Field) -> tuple[Field, Field, Field, Field]:
    """The nearest contact of each place and the distance to it: row, column, down, across."""
    row = np.where(v < 0, np.float32(-0.5), np.float32(0.5))
    column = np.clip(np.rint(u), -2, 2)
    return row, column, v - row, u - column


def _openings(v: Field, u: Field) -> Field:
    """Signed distance to the cavities; every other one has two corners cut, against mismating."""
    row, column, down, across = _cells(v, u)
    square = _square(down, across, CAVITY, CAVITY)
    cut = (down + np.abs(across) - 0.56) * 0.707
    keyed = (np.abs(column) == 1) == (row < 0)
    return np.where(keyed, np.maximum(square, cut), square)


def _housing(piece: Surface, frame: Frame) -> None:
    v, u = frame.local(piece.y, piece.x)
    outline, opening = _outline(v, u), _openings(v, u)
    height = 0.15 * bevel(outline, 0.15) * bevel(-opening, 0.1)
    height += 0.0013 * piece.grit + piece.relief
    piece.lay(piece.cover(outline), NYLON, 1 + piece.relief, height)
    piece.shade(0.45 * piece.cover(_square(v, u, 0.05, 1.5, (BOTTOM + 0.02, 0)), 0.06))
    # Light shines through where the nylon is thin.
    thin = 0.16 * piece.cover(opening - 0.06, 0.12)
    piece.layers[DEEP] += thin * piece.layers[NYLON]
    piece.layers[NYLON] *= 1 - thin

    row, column, down, across = _cells(v, u)
    low_v, low_u = down + PERSPECTIVE * row, across + PERSPECTIVE * column
    floor = _square(low_v, low_u, CAVITY - 0.06, CAVITY - 0.06)
    depth = opening / (opening - np.maximum(floor, 0) - 1e-3)
    facing = down * LIGHT_FROM[0] + across * LIGHT_FROM[1]
    wall = (0.36 + 0.6 * facing) * (1 - 0.75 * depth)
    bottom = 0.045 + 0.05 * facing + 0.006 * piece.grit
    inside = piece.cover(floor, 0.08)
    piece.lay(piece.cover(opening), DEEP, np.maximum(wall + inside * (bottom - wall), 0.01), 0.0)


def _marks(surface: Surface, frame: Frame, number: str) -> None:
    """Marks of the mould: raised letters, an arrow at contact one, the date wheel."""
    words = lettering(
        surface.size, f"PA66  K{number}", 0.4 * PITCH, frame.degrees, frame.seen((1.17, -1.75))
    )
    surface.relief[...] += 0.03 * words
    for place, radius in (((1.17, 1.95), 0.17), ((1.17, 1.3), 0.1)):
        piece = surface.near(frame, [place])
        v, u = frame.moved(place).local(piece.y, piece.x)
        wheel = np.abs(circle(v, u, radius)) - 0.02
        piece.relief[...] -= 0.03 * piece.cover(wheel, 0.05)
    piece = surface.near(frame, [(-1.07, -2)])
    v, u = frame.moved((-1.07, -2)).local(piece.y, piece.x)
    arrow = np.maximum(np.abs(u) + v * 0.8 - 0.06, -v - 0.08)
    piece.relief[...] += 0.03 * piece.cover(arrow)


def _contact(
    piece: Surface,
    frame: Frame,
    place: Point,
    jitter: list[float],
    lean: Point,
    tin: float,
    missing: bool,
) -> None:
    """A square pin on the cavity's floor with a pointed tip, or the hole it should sit in."""
    cell = frame.moved(place)
    v, u = cell.local(piece.y, piece.x)
    foot = (-PERSPECTIVE * place[0], -PERSPECTIVE * place[1])
    if missing:
        piece.lay(piece.cover(box(v, u, PIN, PIN, corner=0.02, centre=foot)), DEEP, 0.004)
        return
    down, across, turn, shade = jitter
    tip = (0.2 * foot[0] + down + lean[0], 0.2 * foot[1] + across + lean[1])
    rise = (tip[0] - foot[0], tip[1] - foot[1])
    along = (v - foot[0]) * rise[0] + (u - foot[1]) * rise[1]
    along = np.clip(along / max(rise[0] ** 2 + rise[1] ** 2, 1e-6), 0, 1)
    aside_v, aside_u = v - foot[0] - along * rise[0], u - foot[1] - along * rise[1]
    shaft = np.maximum(np.abs(aside_v), np.abs(aside_u)) - PIN / 2
    piece.shade(0.6 * piece.cover(shaft - 0.03, 0.18))
    facing = 0.5 + aside_v * LIGHT_FROM[0] + aside_u * LIGHT_FROM[1]
    piece.lay(piece.cover(shaft), METAL, facing * (0.04 + 0.24 * along))
    v, u = cell.moved(tip, turn).local(piece.y, piece.x)
    point = box(v, u, PIN, PIN, corner=0.025)
    # Four facets and a blunt end; a pin that leans shows them from the side.
    out = PIN / 2 - np.maximum(np.abs(v), np.abs(u))
    side = v * (1.5 * lean[0]) + u * (1.5 * lean[1])
    piece.lay(piece.cover(point), METAL, tin * (1 + shade), np.clip(out, 0, 0.07) - side)


def _neighbours(fault: np.random.Generator) -> tuple[Point, Point]:
    """Two contacts side by side, or one above the other."""
    row, column = one_of(fault, CONTACTS)
    if fault.random() < 0.35:
        return (-0.5, column), (0.5, column)
    column = min(column, 1.0)
    return (row, column), (row, column + 1)


def _short(surface: Surface, frame: Frame, fault: np.random.Generator) -> None:
    """Solder, or a whisker of it, from one contact to the next."""
    ends = _neighbours(fault)
    piece = surface.near(frame, ends, margin=0.7)
    width = fault.uniform(0.08, 0.36)
    bow = fault.normal(0, 0.07, 2).tolist()
    middle = ((ends[0][0] + ends[1][0]) / 2 + bow[0], (ends[0][1] + ends[1][1]) / 2 + bow[1])
    sizes = (fault.uniform(0.05, 0.12, 2) + 0.42 * width).tolist()
    places = [(fault.normal(0, 0.03, 2) + end).tolist() for end in ends]

    def shape(v: Field, u: Field) -> Field:
        distance = stroke(v, u, (ends[0], middle, ends[1]), width)
        for centre, radius in zip(places, sizes, strict=True):
            end = circle(v, u, radius, centre)
            # A smooth union: solder has no inner corners.
            mix = np.clip(0.5 + (end - distance) * 4, 0, 1)
            distance = end + mix * (distance - end) - mix * (1 - mix) * 0.125
        return distance

    piece.shade(0.5 * piece.cover(shape(*frame.thrown(0.16).local(piece.y, piece.x)), 0.1))
    distance = shape(*frame.local(piece.y, piece.x))
    thick = 0.6 * width + 0.04
    dome = 0.8 * thick * bevel(distance, thick) + 0.002 * piece.grit
    # Its flanks mirror the dark sides of the room.
    bright = fault.uniform(0.35, 0.5) * (0.5 + 0.5 * bevel(distance, thick))
    piece.lay(piece.cover(distance), METAL, bright, dome)


def _broken_wall(piece: Surface, frame: Frame, fault: np.random.Generator) -> None:
    """A piece broken out of the rim or of a wall between two cavities: rough and whitened."""
    v, u = frame.local(piece.y, piece.x)
    rim = fault.random() < 0.5
    if rim:
        across, down = fault.uniform(-2.6, 2.6), fault.uniform(-1.1, 1.3)
        centre = one_of(fault, ((down, math.copysign(HALF_WIDTH, across)), (TOP, across)))
    else:
        one, other = _neighbours(fault)
        centre = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
    radius = fault.uniform(0.16, 0.36)
    chip = blob(v, u, radius, fault, centre=centre, ragged=0.45)
    solid = np.maximum(_outline(v, u), -_openings(v, u))
    shelf = near_rim(chip, radius)
    facets = np.abs(np.sin(shelf * 3 + u * fault.uniform(-9, 9)))
    piece.lay(piece.cover(np.maximum(solid - 0.01, chip - 0.03)), NYLON, 1.2)
    lost = piece.cover(np.maximum(solid - 0.02, chip))
    height = 0.1 * shelf + 0.03 * facets + 0.005 * piece.grit - 0.06
    # The deeper, the less light comes in, and the more of it through the nylon.
    piece.lay(lost, DEEP, 0.16, height)
    piece.layers[NYLON] += lost * ((0.4 if rim else 0.12) + 0.35 * shelf)


def _contamination(surface: Surface, frame: Frame, fault: np.random.Generator) -> None:
    """A fibre or a particle on the socket."""
    place = (fault.uniform(-1.0, 1.2), fault.uniform(-2.4, 2.4))
    if fault.random() < 0.5:
        heading, course = fault.uniform(0, 2 * math.pi), [place]
        bend = fault.normal(0, 0.25)
        for _ in range(fault.integers(5, 12)):
            heading += bend + fault.normal(0, 0.3)
            course.append(polar(heading, fault.uniform(0.15, 0.28), course[-1]))
        piece, width = surface.near(frame, course), fault.uniform(0.03, 0.055)
        shadow = stroke(*frame.thrown(0.12).local(piece.y, piece.x), course, width)
        piece.shade(0.4 * piece.cover(shadow, 0.08))
        thread = stroke(*frame.local(piece.y, piece.x), course, width)
        material, brightness = one_of(fault, ((MAT, 0.8), (MAT, 3.0), (METAL, 0.75)))
        piece.lay(0.9 * piece.cover(thread), material, brightness)
        return
    piece, radius = surface.near(frame, [place]), fault.uniform(0.07, 0.17)
    v, u = frame.local(piece.y, piece.x)
    crumb = blob(v, u, radius, fault, centre=place, ragged=0.6)
    piece.shade(0.6 * piece.cover(crumb - 0.05, 0.12))
    bright = 0.45 if fault.random() < 0.4 else 0.02
    height = 0.7 * radius * bevel(crumb, radius) + 0.012 * piece.grit
    piece.lay(piece.cover(crumb), METAL, bright, height)


CATEGORY = DrawnCategory("connector", "object", DEFECTS, draw, rotation="slight")
