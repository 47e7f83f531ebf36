"""A hexagon nut lying on grey paper: turned face, chamfered corners, a thread in its bore."""

from __future__ import annotations

import math

import numpy as np

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    Lamp,
    Point,
    blob,
    bowed,
    circle,
    cover,
    jitter,
    lit,
    near_rim,
    one_of,
    paint,
    places,
    polar,
    regular_polygon,
    smooth_noise,
    stroke,
    tinted,
)
from destseg_lib.drawn.surface import Frame

DEFECTS = ("broken_corner", "scratch", "rust", "thread_damage", "pressed_side", "blocked_bore")
APOTHEM = 0.275  # from the middle to a flat side, in image sides
CHAMFER = 0.262  # radius at which the face begins to fall to the corners
BORE, THREAD = 0.118, 0.162  # the free opening, and where the thread begins
STEEL = (0.47, 0.48, 0.50)


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw one nut (``category.Draw``)."""
    pose = Frame(scene.uniform(0, 360), jitter(scene, 0.02), 1.0)
    lamp = (scene.normal(0.75, 0.15), scene.normal(0.55, 0.2), 1.0)
    tint, bright = scene.normal(1, 0.02, 3), scene.uniform(0.85, 1.1)
    tool, turns = scene.uniform(0, 2 * math.pi), scene.uniform(95, 150)
    paper = _paper(size, scene)
    worn, grit = smooth_noise(scene, size, 7, 2), smooth_noise(scene, size, 100)
    y, x = places(size)
    v, u = pose.local(y, x)
    radius = np.hypot(v, u)
    angle = np.arctan2(y - pose.origin[0], x - pose.origin[1])
    towards = math.atan2(-lamp[0], -lamp[1])  # the direction to the lamp, like ``angle``

    outline = regular_polygon(v, u, 6, APOTHEM)
    if defect == "pressed_side":
        outline = np.maximum(outline, _pressed(v, u, fault))
    height = _height(outline, radius)
    if defect == "broken_corner":
        outline, height = _broken(outline, height, v, u, grit, fault)
    _drop_shadow(paper, y, x, pose, lamp, outline)
    metal = _turned(radius, angle, towards, tool, turns, worn, grit, bright)
    metal *= lit(height + 0.0004 * grit, lamp, 0.15)
    if defect == "scratch":
        metal = _scratch(metal, v, u, fault)
    nut = tinted(metal, np.array(STEEL, np.float32) * tint.astype(np.float32))
    if defect == "rust":
        _rust(nut, v, u, grit, fault)
    _bore(nut, paper, radius, angle, towards, v, u, defect, fault)
    paint(paper, cover(outline), nut)
    return np.clip(paper, 0, 1, out=paper)


def _paper(size: int, scene: np.random.Generator) -> Field:
    """Recycled grey paper: cloudy, with fibres and a few dark flecks."""
    tone = scene.uniform(0.20, 0.27)
    clouds, fibres = smooth_noise(scene, size, 12, 3), smooth_noise(scene, size, (60, 130))
    brightness = tone * (1 + 0.045 * clouds + 0.06 * fibres)
    flecks = smooth_noise(scene, size, 75)
    brightness *= 1 - 0.3 * np.clip(flecks - 2.6, 0, 1)
    return tinted(brightness, (1.0, 0.985, 0.94))


def _height(outline: Field, radius: Field) -> Field:
    """The face is flat; its corners fall off along a cone; its sides drop to the paper."""
    cone = 0.06 - 0.55 * np.maximum(radius - CHAMFER, 0)
    side = np.clip(-outline * (1 / 0.008), 0, 1)
    lip = 0.55 * np.maximum(THREAD + 0.012 - radius, 0)
    height: Field = (cone - lip) * side
    return height


def _turned(
    radius: Field,
    angle: Field,
    towards: float,
    tool: float,
    turns: float,
    worn: Field,
    grit: Field,
    bright: float,
) -> Field:
    """A turned face mirrors the lamp in two opposite wedges, cut into fine rings."""
    wedge = np.cos(angle - towards + 0.04 * worn)
    wedge *= wedge
    wedge *= wedge
    rings = np.sin(radius * (2 * math.pi * turns) + angle + tool)
    face = (0.62 + 0.75 * wedge) * (1 + 0.06 * rings)
    face += 0.05 * worn + 0.035 * grit
    return bright * np.maximum(face, 0.05)


def _bore(
    nut: Field,
    paper: Field,
    radius: Field,
    angle: Field,
    towards: float,
    v: Field,
    u: Field,
    defect: str | None,
    fault: np.random.Generator,
) -> None:
    """The thread's rings, lit on the far side; the paper below, in shadow."""
    facing = -np.cos(angle - towards)  # the wall across from the lamp sees it
    depth = np.clip((THREAD - radius) * (1 / (THREAD - BORE)), 0, 1)
    flight = np.sin(depth * (2 * math.pi * 3.5) + angle)
    wall = 0.26 + 0.18 * facing
    wall *= (1 + 1.1 * flight) * (1.05 - 0.6 * depth)
    wall = np.maximum(wall, 0.012)
    opening = radius - BORE
    if defect == "thread_damage":
        opening, wall = _nick(radius, wall, v, u, fault)
    paint(nut, cover(radius - THREAD), tinted(wall, STEEL) * 2)
    below = 0.16 + 0.22 * np.clip(0.5 - facing * radius * (1 / BORE), 0, 1)
    paint(nut, cover(opening), paper * below[..., None])
    if defect == "blocked_bore":
        _plug(nut, v, u, fault)


def _drop_shadow(paper: Field, y: Field, x: Field, pose: Frame, lamp: Lamp, outline: Field) -> None:
    away = (pose.origin[0] + 0.035 * lamp[0], pose.origin[1] + 0.035 * lamp[1])
    v, u = Frame(pose.degrees, away, 1.0).local(y, x)
    fallen = cover(regular_polygon(v, u, 6, APOTHEM + 0.004), 0.045)
    touching = cover(outline, 0.03)
    dark = np.maximum(0.62 * fallen, 0.5 * touching)
    paper *= 1 - dark[..., None]


def _pressed(v: Field, u: Field, fault: np.random.Generator) -> Field:
    """A half-plane that takes a slice off one side, not quite parallel to it."""
    side = math.radians(60 * float(fault.integers(6)) + fault.normal(0, 5))
    deep = fault.uniform(0.012, 0.035)
    plane: Field = math.cos(side) * v + math.sin(side) * u
    return plane - (APOTHEM - deep)


def _corner(fault: np.random.Generator) -> Point:
    at, far = math.radians(60 * float(fault.integers(6)) + 30), APOTHEM / math.cos(math.pi / 6)
    return far * math.cos(at), far * math.sin(at)


def _broken(
    outline: Field, height: Field, v: Field, u: Field, grit: Field, fault: np.random.Generator
) -> tuple[Field, Field]:
    """A corner chipped off: a coarse, bright, crystalline fracture."""
    radius = fault.uniform(0.035, 0.085)
    bite = blob(v, u, radius, fault, centre=_corner(fault), ragged=0.5)
    facets = np.abs(np.sin(bite * fault.uniform(120, 220) + 0.9 * grit))
    rough = 0.045 * near_rim(bite, radius) + 0.0035 * facets
    broken = height + cover(bite) * (np.minimum(rough, height) - height)
    return np.maximum(outline, -(bite + 0.55 * radius)), broken


def _scratch(metal: Field, v: Field, u: Field, fault: np.random.Generator) -> Field:
    """One to three scores across the face: a bright groove with a dark flank."""
    at, heading = fault.uniform(0, 2 * math.pi), fault.uniform(0, math.pi)
    for _ in range(fault.integers(1, 4)):
        middle = polar(at, fault.uniform(0.18, 0.25))
        half, bow = fault.uniform(0.03, 0.10), fault.normal(0, 0.006)
        course = bowed(middle, heading, half, bow, (-1, -0.3, 0.4, 1))
        line = stroke(v, u, course, fault.uniform(0.002, 0.005))
        strength = fault.uniform(0.5, 1)
        metal = metal + 0.7 * strength * cover(line, 0.003)
        metal = metal * (1 - 0.5 * strength * (cover(line - 0.005, 0.004) - cover(line)))
        at += fault.normal(0, 0.12)
        heading += fault.normal(0, 0.1)
    return metal


def _rust(nut: Field, v: Field, u: Field, grit: Field, fault: np.random.Generator) -> None:
    """A brown bloom of grains that thins out at its border."""
    at, far = fault.uniform(0, 2 * math.pi), fault.uniform(0.19, 0.27)
    radius = fault.uniform(0.025, 0.06)
    film = cover(blob(v, u, radius, fault, centre=polar(at, far), ragged=0.6), 0.05)
    grains = np.clip(film * 2.2 - 0.55 + 0.45 * grit, 0, 1)
    amount = fault.uniform(0.55, 0.95) * np.maximum(grains * film, 0.35 * film)
    brown = np.array(one_of(fault, ((0.30, 0.13, 0.05), (0.20, 0.085, 0.035))), np.float32)
    light = nut.mean(axis=2, keepdims=True) * 1.2 + 0.35
    paint(nut, amount, brown * light)


def _nick(
    radius: Field, wall: Field, v: Field, u: Field, fault: np.random.Generator
) -> tuple[Field, Field]:
    """The opening and the wall with a burr into the bore and bruised thread around it."""
    at, lean = fault.uniform(0, 2 * math.pi), fault.normal(0, 0.15)
    inner = BORE - fault.uniform(0.005, 0.035)
    course = [
        polar(at + turn, far)
        for far, turn in ((THREAD - 0.006, 0), (BORE, 0.4 * lean), (inner, lean))
    ]
    burr = stroke(v, u, course, fault.uniform(0.012, 0.03))
    bruised = cover(burr, 0.008)
    bright = fault.uniform(0.3, 0.55)
    return radius + 0.2 * cover(burr) - BORE, wall + bruised * (bright - wall)


def _plug(nut: Field, v: Field, u: Field, fault: np.random.Generator) -> None:
    """Grease, or a metal crumb, that fills a part of the bore."""
    far, at = fault.uniform(0, 0.09), fault.uniform(0, 2 * math.pi)
    lump = blob(v, u, fault.uniform(0.05, 0.11), fault, centre=polar(at, far), ragged=0.4)
    lump = np.maximum(lump, circle(v, u, BORE))
    tone = one_of(fault, ((0.06, 0.055, 0.05), (0.22, 0.20, 0.17), (0.10, 0.07, 0.03)))
    round_ = np.clip(0.55 - lump * 9, 0.5, 1.5)
    paint(nut, cover(lump, 0.006), tinted(round_, tone))


CATEGORY = DrawnCategory("nut", "object", DEFECTS, draw, rotation="none")
