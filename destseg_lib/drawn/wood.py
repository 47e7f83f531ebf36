"""A planed board of oak: growth rings cut by the saw, pores, rays and the plane's marks.

The board is a plane through a trunk. How far a pixel is from the trunk's pith says in which year
it grew; pores and fibres are stretched noise, looked up along the bent grain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Lamp,
    blob,
    cover,
    lit_to_the_edge,
    mixed,
    near_rim,
    paint,
    places,
    polar,
    smooth_noise,
    somewhere,
    stain,
    stroke,
    turned,
)

DEFECTS = ("scratch", "hole", "crack", "stain", "dent")
YEARS, STEPS = 90, 6000  # growth rings, and entries of the table of wood by radius
RADIUS = 3.0  # of the trunk, in units of the image's side
ROOM = 1.3  # how much larger than the picture the fibres' noise is: the grain is oblique
EARLY, LATE = (0.58, 0.385, 0.205), (0.31, 0.165, 0.07)
STAINS = ((0.40, 0.22, 0.13), (0.30, 0.28, 0.34), (0.55, 0.42, 0.25), (0.42, 0.12, 0.13))


@dataclass(frozen=True)
class _Board:
    """Fields (S, S) of a board, places and lengths in units of the image's side.

    Attributes:
        y, x: places of the pixels.
        along, grain: the same in the board's frame; fibres run where ``grain`` is constant.
        fibre: noise along the grain, of about unit variance.
        pores, late: how much of a pixel is pore, and latewood.
        relief: height.
    """

    y: Field
    x: Field
    along: Field
    grain: Field
    fibre: Field
    pores: Field
    late: Field
    relief: Field


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a part of a board (``category.Draw``)."""
    turn, pith = scene.uniform(-4, 4), scene.uniform(-0.9, 0.9)
    depth, tilt = scene.uniform(0.2, 0.9), scene.normal(0, 0.13)
    azimuth, lamp_height = scene.uniform(0.3, 2.84), scene.uniform(0.8, 1.4)
    lamp = (*polar(azimuth, 1), lamp_height)
    lot, hue = scene.normal(0, 0.12), scene.normal(0, 0.025, 3)
    chatter, chatter_at = scene.uniform(18, 34), scene.uniform(0, 1)
    chatter_depth = scene.uniform(0.0, 1.0)
    late, early = _years(scene)
    wave, sheen = smooth_noise(scene, size, (1.3, 3)), smooth_noise(scene, size, (1.5, 7))
    wavelet = smooth_noise(scene, size, (3, 14))
    canvas = round(ROOM * size)
    fine = smooth_noise(scene, canvas, (7 * ROOM, 150 * ROOM))
    fine += 0.7 * smooth_noise(scene, canvas, (20 * ROOM, 250 * ROOM))
    dashes = smooth_noise(scene, canvas, (34 * ROOM, 230 * ROOM))
    mineral = smooth_noise(scene, canvas, (5 * ROOM, 120 * ROOM))

    y, x = places(size)
    along, across = turned(y, x, turn)
    grain = across + 0.012 * wave + 0.0016 * wavelet
    lookup = ((along + ROOM / 2) * size).astype(np.intp) * canvas
    lookup += ((grain + ROOM / 2) * size).astype(np.intp)
    fibre, dash = fine.ravel().take(lookup), dashes.ravel().take(lookup)
    deep = depth + tilt * along + 0.02 * wave + 0.004 * wavelet
    aside = grain - pith
    radius = np.sqrt(aside * aside + deep * deep) + 0.0012 * fibre
    year = np.minimum(radius * (STEPS / RADIUS), STEPS - 1).astype(np.intp)
    grown, porous = late.take(year), early.take(year)
    pores = np.clip(dash - 1.7 + 1.25 * porous, 0, 1)
    streaks = np.clip(0.8 * (mineral.ravel().take(lookup) - 2.6), 0, 0.8)
    rays = np.clip(-dash - 1.7, 0, 1)
    ripple = along * chatter + chatter_at + 0.1 * wave
    ripple -= np.floor(ripple)
    relief = 3e-4 * fibre - 1.5e-3 * pores
    relief += 2.2e-3 * chatter_depth * ripple * (1 - ripple)
    board = _Board(y, x, along, grain, fibre, pores, grown, relief)

    if defect == "dent":
        pressed = _dent(board, fault)
    elif defect == "scratch":
        scratched = _scratch(board, fault)
    shade = 1 + 0.075 * fibre + 0.035 * sheen
    shade *= (1 - 0.65 * pores) * (1 - streaks)
    if defect == "dent":
        shade *= 1 - 0.3 * pressed
    shade *= lit_to_the_edge(relief, lamp)
    grown += 0.06 * fibre + 0.3 * rays
    colours = np.array((EARLY, LATE)) * np.exp(lot * np.array((0.9, 1.1))[:, None]) * (1 + hue)
    picture = mixed(shade * (1 - grown), shade * grown, colours)
    if defect == "scratch":
        paint(picture, scratched, (0.72, 0.58, 0.42))
    elif defect == "stain":
        _stain(board, picture, fault)
    elif defect == "hole":
        _hole(board, picture, lamp, fault)
    elif defect == "crack":
        _crack(board, picture, lamp, fault)
    return np.clip(picture, 0, 1, picture)


def _years(scene: np.random.Generator) -> tuple[Field, Field]:
    """How dark and how porous the wood is, by radius: each (STEPS,), in [0, 1]."""
    drift = np.cumsum(scene.normal(0, 0.12, YEARS))
    width = np.exp(0.6 * (drift - drift.mean()) + scene.normal(0, 0.22, YEARS))
    edges = np.concatenate(([0], np.cumsum(width)))
    edges *= RADIUS / edges[-1]
    strength = np.clip(scene.normal(0.75, 0.16, YEARS), 0.3, 1)
    where = np.linspace(0, RADIUS, STEPS, endpoint=False)
    year = np.searchsorted(edges, where, side="right") - 1
    part = (where - edges[year]) / np.diff(edges)[year]
    late = strength[year] * np.clip(part / 0.85, 0, 1) ** 1.6 * np.clip((1 - part) / 0.10, 0, 1)
    early = np.exp(-part / 0.28) + np.clip((part - 0.95) / 0.05, 0, 1)
    return late.astype(np.float32), np.minimum(early, 1).astype(np.float32)


def _profile(table: NDArray[np.float64], part: Field) -> Field:
    """The table's values, linearly interpolated, at places from 0 to 1 along it."""
    at = np.clip(part, 0, 0.9999) * (len(table) - 1)
    first = at.astype(np.intp)
    value = table.astype(np.float32).take(first)
    value += (at - first.astype(np.float32)) * np.diff(table).astype(np.float32).take(first)
    return value


def _dent(board: _Board, fault: np.random.Generator) -> Field:
    """Wood pressed in, which only the light shows; returns how deep, in [0, 1]."""
    long = fault.uniform(0.035, 0.085)
    wide, deep = long * fault.uniform(0.5, 1.0), fault.uniform(0.13, 0.36)
    dy, dx = turned(board.y, board.x, fault.uniform(0, 180), somewhere(fault, 0.35))
    lean = fault.uniform(-0.6, 0.6) / long * dy
    away = dy * dy * (1 / long**2) + dx * dx * (1 / wide**2)
    bowl = np.clip(1 - away, 0, 1)
    board.relief[...] -= wide * deep * bowl * np.minimum(bowl + 0.6, 1) * (1 + lean)
    # The wood that was pressed away forms a small swell around the bowl.
    swell = np.clip(1 - np.abs(away - 1.25) * 2, 0, 1)
    board.relief[...] += 0.03 * wide * swell * swell
    return bowl * min(1, 4 * deep)


def _scratch(board: _Board, fault: np.random.Generator) -> Field:
    """A groove with raised lips; returns where its torn fibres are pale."""
    length, width = fault.uniform(0.12, 0.5), fault.uniform(0.004, 0.009)
    heading, bend = fault.uniform(0, 2 * math.pi), fault.normal(0, 0.35)
    cy, cx = somewhere(fault, 0.3)
    width = max(width, 1.2 / len(board.y))  # a line thinner than a pixel fades away
    ends = np.linspace(-0.5, 0.5, 7)
    course = np.exp(1j * (heading + bend * ends))
    path = np.cumsum(course) * length / 7
    path -= path.mean()
    line = [(cy + float(p.imag), cx + float(p.real)) for p in path]
    away = stroke(board.y, board.x, line, 0)
    # Pressure changes along the way.
    way = (board.y - cy) * math.sin(heading) + (board.x - cx) * math.cos(heading)
    table = np.clip(fault.normal(0.85, 0.25, 24), 0.25, 1.1)
    table[[0, -1]] = 0.1
    pressed = _profile(table, way * (1 / length) + 0.5)
    groove = np.clip(1 - away * (1 / width), 0, 1)
    lips = np.clip(1 - np.abs(away - 1.3 * width) / width, 0, 1)
    depth = fault.uniform(0.4, 1.0) * width * pressed
    board.relief[...] += depth * (0.3 * lips - groove)
    torn: Field = np.clip(0.75 + 0.3 * board.fibre, 0.2, 1)
    torn *= groove * pressed * fault.uniform(0.3, 0.9)
    return torn


def _hole(board: _Board, picture: Field, lamp: Lamp, fault: np.random.Generator) -> None:
    """Worm holes, or a torn nail hole in the halo that iron leaves in oak."""
    nail, dust = fault.random() < 0.45, fault.uniform(0, 1)
    cy, cx = somewhere(fault, 0.35)
    if nail:
        spread = fault.uniform(0.022, 0.045)
        dy, dx = board.along - cy, board.grain - cx
        halo = np.sqrt(dy * dy * 0.12 + dx * dx) + 0.1 * spread * board.fibre
        iron = np.clip(1.15 - halo * (1 / spread), 0, 1)
        paint(picture, iron * fault.uniform(0.5, 0.85), picture * 0.28)
    floor = (0.015 + 0.11 * dust, 0.009 + 0.07 * dust, 0.005 + 0.035 * dust)
    for _ in range(1 if nail else fault.integers(1, 4)):
        radius = fault.uniform(0.016, 0.03) if nail else fault.uniform(0.009, 0.024)
        y, x = (cy, cx) if nail else (cy + fault.normal(0, 0.045), cx + fault.normal(0, 0.045))
        edge = blob(board.y, board.x, radius, fault, centre=(y, x), ragged=0.22 if nail else 0.1)
        # Positive towards the lamp: there the raised rim is bright, and the wall below it dark.
        side = (board.y - y) * (-lamp[0] / (lamp[2] * radius))
        side += (board.x - x) * (-lamp[1] / (lamp[2] * radius))
        rim = np.clip(1 - np.abs(edge - 0.004) / 0.005, 0, 1)
        paint(picture, rim * 0.35, picture * (1 + side)[..., None])
        inside = cover(edge)
        paint(picture, inside, floor)
        wall = cover(-edge - 0.5 * radius, radius) * np.clip(-side - 0.15, 0, 1)
        paint(picture, inside * wall, (0.40, 0.25, 0.12))


def _crack(board: _Board, picture: Field, lamp: Lamp, fault: np.random.Generator) -> None:
    """A split that follows the fibres, jumps between them and tapers to nothing."""
    cy, cx = somewhere(fault, 0.3)
    half, widest = fault.uniform(0.12, 0.42), fault.uniform(0.0028, 0.007)
    widest = max(widest, 0.5 / len(board.y))
    jumps = np.where(fault.random(60) < 0.14, fault.normal(0, 0.0035, 60), 0)
    walk = np.cumsum(jumps + fault.normal(0, 0.0005, 60))
    steps = np.linspace(-1, 1, 60)
    lens = np.sqrt(1 - steps**2) * (1 + fault.uniform(-0.5, 0.5) * steps)
    lens *= widest * np.clip(fault.normal(0.9, 0.25, 60), 0.3, 1.4)
    part = (board.along - cy) * (0.5 / half) + 0.5
    aside = board.grain - cx - _profile(walk - walk[30], part)
    gap = _profile(lens, part)
    # One lip faces the lamp.
    lip = cover(np.abs(aside - math.copysign(0.003, -lamp[1])) - gap)
    bright = abs(lamp[1]) * lip * np.minimum(gap * (1 / widest), 1)
    paint(picture, bright * 0.5, (0.75, 0.60, 0.42))
    dark = cover(np.abs(aside) - gap) * np.clip(gap * (2 * len(gap)), 0, 1)
    paint(picture, dark * fault.uniform(0.75, 0.97), (0.022, 0.014, 0.008))


def _stain(board: _Board, picture: Field, fault: np.random.Generator) -> None:
    """A liquid that ran further along the fibres than across them, darkest in pores and rim."""
    radius, stretch = fault.uniform(0.05, 0.12), fault.uniform(1.1, 1.9)
    cy, cx = somewhere(fault, 0.33)
    dy, dx = (board.along - cy) * (1 / stretch), board.grain - cx
    spill = blob(dy, dx, radius, fault, ragged=0.3) + (0.04 * radius + 0.0025) * board.fibre
    soaked = cover(spill, softness=0.25 * radius) * (0.85 - 0.5 * board.late)
    soaked *= 1 + 0.18 * board.fibre + 0.8 * board.pores
    tide = near_rim(spill, 0.35 * radius) * cover(spill)
    soaked += 0.45 * tide * tide
    soaked *= fault.uniform(0.3, 0.85)
    stain(picture, np.clip(soaked, 0, 1), STAINS, fault)


CATEGORY = DrawnCategory("wood", "texture", DEFECTS, draw, rotation="slight")
