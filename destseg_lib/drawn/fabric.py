"""A twill of thick cotton yarns: blue warp down the picture, natural weft across it.

The weave is a table of crossings that says which yarn passes over. Both systems of yarns are
drawn as tubes that rise and dive along that table, and at each pixel the higher one is visible.
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
    lit_to_the_edge,
    mixed,
    places,
    polar,
    smooth_noise,
    somewhere,
    stain,
    stroke,
    turned,
)

DEFECTS = ("broken_yarn", "pulled_thread", "hole", "stain", "miswoven")
YARNS = 48  # of each system in the tables; about 26 cross the picture
PITCH = 1 / 26  # from yarn to yarn: the unit of lengths below
WAVE = 0.24  # how far a yarn rises and dives
GROUND = -0.75  # the table under the cloth
FINEST = 128  # smaller pictures are drawn larger and averaged: a yarn needs some pixels
WARP, WEFT = (0.105, 0.165, 0.270), (0.47, 0.445, 0.385)
STAINS = ((0.50, 0.44, 0.34), (0.50, 0.33, 0.19), (0.58, 0.56, 0.54))  # oil, tea, water: light left


@dataclass(frozen=True)
class _System:
    """One system of yarns: their places and looks.

    Attributes:
        over: (YARNS, YARNS), by yarn and crossing: 1 where it passes over, -1 where under.
        radius, tone, phase: (YARNS,), of each yarn.
        across, along: (S, S), each pixel's place in PITCH; yarn k covers k to k + 1 across.
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
        station = self.along - 0.5
        yarn, before = self.across.astype(np.intp), station.astype(np.intp)
        part = station - before.astype(np.float32)
        part *= part * (3 - 2 * part)
        crossing = yarn * YARNS + before
        part *= np.diff(self.over, append=0).ravel().take(crossing)
        height = (part + self.over.ravel().take(crossing)) * WAVE
        aside = self.across - yarn.astype(np.float32) - 0.5
        radius = self.radius.take(yarn)
        rounded = radius * radius - aside * aside
        if self.torn is not None:
            left = self.torn[0] - self.torn[1].take(yarn)
            rounded = np.minimum(rounded, left * 0.5)
        height += np.sqrt(np.maximum(rounded, 0))
        return np.where(rounded > 0, height, GROUND), yarn, aside


@dataclass(frozen=True)
class _Thread:
    """A loose piece of yarn on the cloth: x + iy in the image, radius and height in PITCH."""

    path: NDArray[np.complex128]
    radius: float
    height: float
    blue: bool


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a part of a bolt of cloth (``category.Draw``)."""
    times = math.ceil(FINEST / size)
    fine = size * times
    turn, shift = scene.uniform(-5, 5), (YARNS // 2 + scene.uniform(0, 3, 2)).tolist()
    bow, skew = scene.normal(0, 0.012, 2).tolist(), scene.normal(0, 0.02)
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
    u = (across + bow[0] * down * down + skew * down) / PITCH
    v: Field = (bow[1] * across * across + down) / PITCH
    u += 0.07 * wander[0] + shift[0]
    v += 0.07 * wander[1] + shift[1]
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
    lean = np.where(front, warp.along, weft.along) * 1.5
    lean += np.where(front, fu, fv) * 1.3
    lean += np.where(front, warp.phase.take(i), weft.phase.take(j))
    blue = front.astype(np.float32)
    lamp = (*polar(azimuth, 1), height_lamp)
    for thread in threads:
        _lay(thread, complex(lamp[1], lamp[0]) / lamp[2], (y, x, height, blue, shade, lean))
    groove = np.minimum(np.abs(lean - np.floor(lean) - 0.5), 0.22)
    height += 0.35 * groove + 0.02 * fluff
    shade *= 0.80 + 0.9 * groove + 0.10 * fluff
    shade *= np.clip((height + 0.28) * 1.15, 0.06, 1)
    shade *= 1 + 0.035 * cloudy
    shade *= lit_to_the_edge(height * (0.85 * PITCH), lamp)
    blue *= 0.93 + 0.05 * fluff
    colours = np.array((WARP, WEFT)) * np.exp(lot) * (1 + warmth)
    picture = mixed(shade * blue, shade * (1 - blue), colours)
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
    dark = np.clip(0.5 - away / (0.35 * PITCH), 0, 1)
    shade *= 1 - 0.55 * dark
    aside = stroke(y, x, points, 0) / PITCH
    rounded = thread.radius**2 - aside * aside
    on = rounded > 0
    height[on] = thread.height + np.sqrt(rounded[on])
    blue[on], shade[on] = thread.blue, 1
    lean[on] = (y[on] + x[on]) * (1.4 / PITCH)


def _some_pixel(size: int, fault: np.random.Generator) -> tuple[int, int]:
    """A pixel well inside the picture."""
    row, column = (int(size * (0.5 + place)) for place in somewhere(fault, 0.34))
    return row, column


def _at(system: _System, across: float, along: float) -> complex:
    """About where in the image a place on a system of yarns is, as x + iy."""
    miss = np.abs(system.across - across) + np.abs(system.along - along)
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
    at = _some_pixel(len(warp.along), fault)
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
    at = _some_pixel(len(systems[0].along), fault)
    half, blue = fault.uniform(1.8, 6.0), bool(fault.random() < 0.4)
    system = systems[blue]
    yarn, middle = int(system.across[at]), float(system.along[at])
    reach = np.full(YARNS, -100, np.float32)
    reach[yarn] = half
    systems[blue] = replace(system, torn=(np.abs(system.along - middle), reach))
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
    at = _some_pixel(len(systems[0].along), fault)
    blue = bool(fault.random() < 0.35)
    system = systems[blue]
    yarn, middle = int(system.across[at]), float(system.along[at])
    loop, half = fault.uniform(1.8, 4.2), fault.uniform(3.0, 6.5)
    d = system.across - (yarn + 0.5)
    t = (system.along - middle) * (1 / half)
    near = np.square(np.clip(1 - t * t, 0, 1) * np.clip(1 - d * d * (1 / 6), 0, 1))
    across, along = system.across + 0.45 * d * near, system.along + 0.9 * t * near
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
    """Yarns of both systems torn away, each at a different length."""
    at = _some_pixel(len(y), fault)
    cy, cx, radius = float(y[at]), float(x[at]), fault.uniform(0.035, 0.1)
    distance = blob(y, x, radius, fault, centre=(cy, cx), ragged=0.25) * (1 / PITCH)
    distance += 0.12 * fluff
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
    """A spill that spread along each yarn by a different length, darkest at its edge."""
    radius = fault.uniform(0.06, 0.15)
    spill = blob(y, x, radius, fault, centre=somewhere(fault, 0.33), ragged=0.3)
    drawn = fault.normal(0, 0.4 * PITCH, 2 * YARNS).astype(np.float32)
    spill += drawn.take(yarn)
    soaked = 0.7 * cover(spill, softness=0.5 * PITCH)
    soaked += 0.45 * cover(np.abs(spill + 0.35 * PITCH), softness=PITCH)
    soaked *= fault.uniform(0.6, 1.1)
    stain(picture, np.minimum(soaked, 1), STAINS, fault)


CATEGORY = DrawnCategory("fabric", "texture", DEFECTS, draw, rotation="slight")
