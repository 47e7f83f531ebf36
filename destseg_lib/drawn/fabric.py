"""A twill of thick cotton yarns: blue warp down the picture, natural weft across it.

The weave is a table of crossings that says which yarn passes over. Both systems of yarns are
drawn as tubes that rise and dive along that table, and at each pixel the higher one is seen.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    blob,
    cover,
    lit,
    paint,
    places,
    smooth_noise,
    stroke,
    turned,
)

DEFECTS = ("broken_yarn", "pulled_thread", "hole", "stain", "miswoven")
YARNS = 48  # of each system in the tables; about 26 cross the picture
PITCH = 1 / 26  # from yarn to yarn: the unit of lengths below
WAVE = np.float32(0.24)  # how far a yarn rises and dives
GROUND = np.float32(-0.75)  # the table that the cloth lies on
FINEST = 128  # smaller pictures are drawn larger and averaged: a yarn needs some pixels
WARP, WEFT = (0.105, 0.165, 0.270), (0.47, 0.445, 0.385)
STAINS = ((0.50, 0.44, 0.34), (0.50, 0.33, 0.19), (0.58, 0.56, 0.54))  # oil, tea, water: light left


@dataclass(frozen=True)
class _System:
    """One system of yarns: where each lies and how it looks.

    Attributes:
        over: (YARNS, YARNS), by yarn and crossing: 1 where it passes over, -1 where under.
        radius, tone, phase: (YARNS,), of each yarn.
        across, along: (S, S), where each pixel is, in PITCH; yarn k lies from k to k + 1 across.
        torn: (S, S) and (YARNS,): a yarn is missing where the first is below its own value.
    """

    over: Field
    radius: Field
    tone: Field
    phase: Field
    across: Field
    along: Field
    torn: tuple[Field, Field] | None = None

    def tubes(self) -> tuple[Field, NDArray[np.intp], Field]:
        """Height, number of the yarn and place across it (-0.5 to 0.5) at each pixel."""
        station = self.along - np.float32(0.5)
        yarn, before = self.across.astype(np.intp), station.astype(np.intp)
        part = station - before.astype(np.float32)
        part *= part * (np.float32(3) - np.float32(2) * part)
        crossing = yarn * YARNS + before
        part *= np.diff(self.over, append=0).ravel().take(crossing)
        height = (part + self.over.ravel().take(crossing)) * WAVE
        aside = self.across - yarn.astype(np.float32) - np.float32(0.5)
        radius = self.radius.take(yarn)
        rounded = radius * radius - aside * aside
        if self.torn is not None:
            left = self.torn[0] - self.torn[1].take(yarn)
            rounded = np.minimum(rounded, left * np.float32(0.5))
        height += np.sqrt(np.maximum(rounded, 0))
        return np.where(rounded > 0, height, GROUND), yarn, aside


@dataclass(frozen=True)
class _Thread:
    """A piece of yarn that lies on the cloth: x + iy in the image, radius and height in PITCH."""

    path: NDArray[np.complex128]
    radius: float
    height: float
    blue: bool


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a part of a bolt of cloth (``product.Draw``)."""
    times = math.ceil(FINEST / size)
    fine = size * times
    turn, shift = scene.uniform(-5, 5), YARNS // 2 + scene.uniform(0, 3, 2)
    bow, skew = scene.normal(0, 0.012, 2), scene.normal(0, 0.02)
    lot, warmth = scene.normal(0, 0.08, (2, 1)), scene.normal(0, 0.02, 3)
    azimuth, height_lamp = scene.uniform(0.5, 2.6), scene.uniform(0.9, 1.5)
    radius = 0.47 * np.exp(scene.normal(0, 0.045, (2, YARNS))).astype(np.float32)
    tone = np.exp(scene.normal(0, 1, (2, YARNS)) * ((0.11,), (0.06,))).astype(np.float32)
    phase = scene.uniform(0, 1, (2, YARNS)).astype(np.float32)
    wander = smooth_noise(scene, fine, (7, 30)), smooth_noise(scene, fine, (30, 7))
    fluff = smooth_noise(scene, fine, 150)
    cloudy = smooth_noise(scene, fine, 5, octaves=2)

    y, x = places(fine)
    down, across = turned(y, x, turn)
    u = (across + np.float32(bow[0]) * down * down + np.float32(skew) * down) / np.float32(PITCH)
    v: Field = (np.float32(bow[1]) * across * across + down) / np.float32(PITCH)
    u += np.float32(0.07) * wander[0] + np.float32(shift[0])
    v += np.float32(0.07) * wander[1] + np.float32(shift[1])
    k = np.arange(YARNS)
    over = np.where((k[:, None] - k) % 3 == 0, -1, 1).astype(np.float32)  # [warp, weft]
    systems = [
        _System(-over.T, radius[1], tone[1], phase[1], v, u),
        _System(over, radius[0], tone[0], phase[0], u, v),
    ]
    threads: list[_Thread] = []
    if defect == "miswoven":
        _miswoven(systems, fault)
    elif defect == "broken_yarn":
        threads = _broken(systems, fault)
    elif defect == "pulled_thread":
        threads = _pulled(systems, fault)
    elif defect == "hole":
        threads = _hole(systems, y, x, fluff, fault)

    weft, warp = systems
    (weft_height, j, fv), (height, i, fu) = weft.tubes(), warp.tubes()
    front = height > weft_height
    np.maximum(height, weft_height, out=height)
    shade = np.where(front, warp.tone.take(i), weft.tone.take(j))
    lean = np.where(front, warp.along, weft.along) * np.float32(1.5)
    lean += np.where(front, fu, fv) * np.float32(1.3)
    lean += np.where(front, warp.phase.take(i), weft.phase.take(j))
    blue = front.astype(np.float32)
    lamp = (math.sin(azimuth), math.cos(azimuth), height_lamp)
    for thread in threads:
        _lay(thread, complex(lamp[1], lamp[0]) / lamp[2], (y, x, height, blue, shade, lean))
    groove = np.minimum(np.abs(lean - np.floor(lean) - np.float32(0.5)), np.float32(0.22))
    height += np.float32(0.35) * groove + np.float32(0.02) * fluff
    shade *= np.float32(0.80) + np.float32(0.9) * groove + np.float32(0.10) * fluff
    shade *= np.clip((height + np.float32(0.28)) * np.float32(1.15), 0.06, 1)
    shade *= np.float32(1) + np.float32(0.035) * cloudy
    relief = np.pad(height * np.float32(0.85 * PITCH), 1, "edge")
    shade *= np.minimum(lit(relief, lamp)[1:-1, 1:-1], 2)
    blue *= np.float32(0.93) + np.float32(0.05) * fluff
    colours = np.array((WARP, WEFT)) * np.exp(lot) * (1 + warmth)
    layers = np.stack(((shade * blue).ravel(), (shade * (1 - blue)).ravel()), axis=1)
    picture: Field = (layers @ colours.astype(np.float32)).reshape(fine, fine, 3)
    if defect == "stain":
        _stain(picture, y, x, np.where(front, i, j + YARNS), fault)
    if times > 1:
        picture = picture.reshape(size, times, size, times, 3).mean((1, 3))
    return np.clip(picture, 0, 1, picture)


def _lay(thread: _Thread, shadow: complex, cloth: tuple[Field, ...]) -> None:
    """Put a thread and its shadow on y, x, height, blue, shade and lean of the cloth, in place.

    ``shadow`` is how far a thread of height 1 throws it.
    """
    size, room = len(cloth[0]), 2 * thread.height * PITCH + 0.02
    rows, columns = (
        slice(*(max(0, int((end + 0.5) * size)) for end in (axis.min() - room, axis.max() + room)))
        for axis in (thread.path.imag, thread.path.real)
    )
    y, x, height, blue, shade, lean = (layer[rows, columns] for layer in cloth)
    points, thrown = (
        list(zip(path.imag.tolist(), path.real.tolist(), strict=True))
        for path in (thread.path, thread.path + thread.height * PITCH * shadow)
    )
    away = stroke(y, x, thrown, 2 * thread.radius * PITCH)
    dark = np.clip(np.float32(0.5) - away / np.float32(0.35 * PITCH), 0, 1)
    shade *= np.float32(1) - np.float32(0.55) * dark
    aside = stroke(y, x, points, 0) / np.float32(PITCH)
    rounded = np.float32(thread.radius**2) - aside * aside
    on = rounded > 0
    height[on] = np.float32(thread.height) + np.sqrt(rounded[on])
    blue[on], shade[on] = thread.blue, 1
    lean[on] = (y[on] + x[on]) * np.float32(1.4 / PITCH)


def _somewhere(size: int, fault: np.random.Generator) -> tuple[int, int]:
    """A pixel well inside the picture."""
    row, column = (int(size * (0.5 + fault.uniform(-0.34, 0.34))) for _ in range(2))
    return row, column


def _at(system: _System, across: float, along: float) -> complex:
    """About where in the image a place on a system of yarns is, as x + iy."""
    miss = np.abs(system.across - np.float32(across)) + np.abs(system.along - np.float32(along))
    row, column = divmod(int(miss.argmin()), len(miss))
    return (column + 0.5 + 1j * (row + 0.5)) / len(miss) - 0.5 - 0.5j


def _curl(start: complex, heading: float, blue: bool, fault: np.random.Generator) -> _Thread:
    """A loose end of yarn that begins at ``start``."""
    step, bend = fault.uniform(0.25, 0.5) * PITCH, fault.normal(0, 0.4)
    steps = step * np.exp(1j * (heading + bend * np.arange(6)))
    path = start + np.concatenate(([0], np.cumsum(steps)))
    return _Thread(path, fault.uniform(0.18, 0.3), 0.35, blue)


def _miswoven(systems: list[_System], fault: np.random.Generator) -> None:
    """One or two yarns that float: they stay on one face for several crossings."""
    weft, warp = systems
    at = _somewhere(len(warp.along), fault)
    yarns, crossings = int(fault.integers(1, 3)), int(fault.integers(5, 10))
    u, v, back = int(warp.across[at]), int(warp.along[at]), crossings // 2
    over = warp.over.copy()
    if fault.random() < 0.5:
        over[u - back : u - back + crossings, v : v + yarns] = -1
    else:
        over[u : u + yarns, v - back : v - back + crossings] = 1
    systems[:] = replace(weft, over=-over.T), replace(warp, over=over)


def _broken(systems: list[_System], fault: np.random.Generator) -> list[_Thread]:
    """A yarn that is missing for a stretch, with an end sticking out at each side of the gap."""
    at = _somewhere(len(systems[0].along), fault)
    half, blue = fault.uniform(1.8, 6.0), bool(fault.random() < 0.4)
    system = systems[blue]
    yarn, middle = int(system.across[at]), float(system.along[at])
    reach = np.full(YARNS, -100, np.float32)
    reach[yarn] = half
    systems[blue] = replace(system, torn=(np.abs(system.along - np.float32(middle)), reach))
    # The yarns that crossed it have nothing to bend around.
    slack = systems[not blue].over.copy()
    slack[int(middle - half) : math.ceil(middle + half), yarn] *= 0.2
    systems[not blue] = replace(systems[not blue], over=slack)
    threads, centre = [], _at(system, yarn + 0.5, middle)
    for side in (-1, 1):
        end = _at(system, yarn + 0.5, middle + side * (half + 0.4))
        back = math.pi * (fault.random() < 0.5)  # some ends lie back over the gap
        heading = cmath.phase(end - centre) + back + fault.normal(0, 0.5)
        threads.append(_curl(end, heading, blue, fault))
    return threads


def _pulled(systems: list[_System], fault: np.random.Generator) -> list[_Thread]:
    """A yarn caught and drawn out into a loop; to its sides it is tight and gathers the cloth."""
    at = _somewhere(len(systems[0].along), fault)
    blue = bool(fault.random() < 0.35)
    system = systems[blue]
    yarn, middle = int(system.across[at]), float(system.along[at])
    loop, half = fault.uniform(1.8, 4.2), fault.uniform(3.0, 6.5)
    d = system.across - np.float32(yarn + 0.5)
    t = (system.along - np.float32(middle)) * np.float32(1 / half)
    near = np.square(np.clip(1 - t * t, 0, 1) * np.clip(1 - d * d * np.float32(1 / 6), 0, 1))
    across, along = system.across + np.float32(0.45) * d * near, system.along + 0.9 * t * near
    over = system.over.copy()
    over[yarn, int(middle - half) : int(middle + half) + 1] *= 0.6
    over[yarn, int(middle - half) : int(middle + half) + 1] -= 0.4
    start = _at(system, yarn + 0.5, middle)
    towards = cmath.exp(1j * cmath.phase(_at(system, yarn + 0.5, middle + 2) - start))
    side, width, tilt = fault.choice((-1, 1)), fault.uniform(0.28, 0.45), fault.normal(0, 0.4)
    bend = np.linspace(-2.35, 2.35, 13)
    out = side * (np.cos(bend) + 0.703) / 1.703
    path = start + PITCH * loop * towards * (width * np.sin(bend) + tilt * out + 1j * out)
    systems[blue] = replace(system, over=over, across=across, along=along)
    systems[not blue] = replace(systems[not blue], across=along, along=across)
    return [_Thread(path, 0.3, 0.6, blue)]


def _hole(
    systems: list[_System], y: Field, x: Field, fluff: Field, fault: np.random.Generator
) -> list[_Thread]:
    """Yarns of both systems torn away, each at its own length."""
    at = _somewhere(len(y), fault)
    cy, cx, radius = float(y[at]), float(x[at]), fault.uniform(0.035, 0.1)
    distance = blob(y, x, radius, fault, centre=(cy, cx), ragged=0.25) * np.float32(1 / PITCH)
    distance += np.float32(0.12) * fluff
    reach = np.clip(fault.normal(0, 0.5, (2, YARNS)), -1, 0.8).astype(np.float32)
    systems[:] = (replace(s, torn=(distance, r)) for s, r in zip(systems, reach, strict=True))
    threads = []
    for _ in range(int(fault.integers(2, 6))):
        angle, blue = fault.uniform(0, 2 * math.pi), bool(fault.random() < 0.5)
        end = complex(cx, cy) + 1.05 * radius * cmath.exp(1j * angle)
        threads.append(_curl(end, angle + math.pi + fault.normal(0, 0.6), blue, fault))
    return threads


def _stain(
    picture: Field, y: Field, x: Field, yarn: NDArray[np.intp], fault: np.random.Generator
) -> None:
    """A spill that each yarn has drawn along itself by its own length, darkest at its edge."""
    radius = fault.uniform(0.06, 0.15)
    centre = fault.uniform(-0.33, 0.33), fault.uniform(-0.33, 0.33)
    spill = blob(y, x, radius, fault, centre=centre, ragged=0.3)
    drawn = fault.normal(0, 0.4 * PITCH, 2 * YARNS).astype(np.float32)
    spill += drawn.take(yarn)
    soaked = np.float32(0.7) * cover(spill, softness=0.5 * PITCH)
    soaked += np.float32(0.45) * cover(np.abs(spill + np.float32(0.35 * PITCH)), softness=PITCH)
    soaked *= np.float32(fault.uniform(0.6, 1.1))
    kept = np.array(STAINS[fault.integers(len(STAINS))], np.float32)
    paint(picture, np.minimum(soaked, 1), picture * kept)


CATEGORY = DrawnCategory("fabric", "texture", DEFECTS, draw, rotation="slight")
