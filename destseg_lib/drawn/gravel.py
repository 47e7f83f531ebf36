"""Gravel: crops of one real photograph, with drawn light, focus and defects.

The only category whose texture nobody drew. Training crops come from the left of the photograph
and test crops from its right, so that no pixel is in both; what is learned from one part must
hold on the other. It is not one of ``CATEGORIES``, over which the claims of the results range.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import (
    Field,
    blob,
    bowed,
    box,
    circle,
    cover,
    one_of,
    paint,
    places,
    smooth_noise,
    somewhere,
    stain,
    stroke,
    tinted,
    turned,
)

DEFECTS = ("stick", "cap", "oil", "sand", "paper")
TRAIN_COLUMNS, TEST_COLUMNS = (0, 320), (352, 512)  # of the photograph; between them, nothing
CROP = 144  # pixels of the photograph that one image shows
STONE = (1.04, 1.0, 0.95)  # the photograph is grey
AT = (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)  # points of a stick, along it
OILS = ((0.30, 0.28, 0.26), (0.42, 0.36, 0.30))  # light left
CAPS = ((0.62, 0.05, 0.05), (0.05, 0.16, 0.45), (0.75, 0.60, 0.10), (0.08, 0.35, 0.14))


def draw(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a training image (``category.Draw``)."""
    return _draw(TRAIN_COLUMNS, size, scene, defect, fault)


def draw_test(
    size: int, scene: np.random.Generator, defect: str | None, fault: np.random.Generator
) -> Field:
    """Draw a test image, from the other part of the photograph (``category.Draw``)."""
    return _draw(TEST_COLUMNS, size, scene, defect, fault)


def crop_place(columns: tuple[int, int], scene: np.random.Generator) -> tuple[int, int]:
    """Left and top of a crop, in pixels of the photograph, at random inside these columns."""
    left = int(scene.integers(columns[0], columns[1] - CROP + 1))
    return left, int(scene.integers(0, 512 - CROP + 1))


def _draw(
    columns: tuple[int, int],
    size: int,
    scene: np.random.Generator,
    defect: str | None,
    fault: np.random.Generator,
) -> Field:
    left, top = crop_place(columns, scene)
    flip, quarter = scene.random(2) < 0.5
    sun, height = scene.uniform(0, 2 * math.pi), scene.uniform(0.0, 0.12)
    damp = 1 + 0.06 * smooth_noise(scene, size, 3)
    part = _photograph()[top : top + CROP, left : left + CROP]
    part = part[:, ::-1] if flip else part
    part = part.T if quarter else part
    seen = Image.fromarray(np.ascontiguousarray(part)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    y, x = places(size)
    light = np.asarray(seen) ** 2 * damp * (1 + height * (math.sin(sun) * y + math.cos(sun) * x))
    picture = tinted(np.clip(light, 0, 1).astype(np.float32), STONE)
    if defect == "stick":
        _stick(picture, y, x, fault)
    elif defect == "cap":
        _cap(picture, y, x, fault)
    elif defect == "oil":
        radius = fault.uniform(0.06, 0.14)
        spill = blob(y, x, radius, fault, centre=somewhere(fault, 0.33), ragged=0.35)
        soaked = cover(spill, softness=0.35 * radius) * fault.uniform(0.7, 0.95)
        stain(picture, soaked, OILS, fault)
    elif defect == "sand":
        _sand(picture, y, x, fault)
    elif defect == "paper":
        _paper(picture, y, x, fault)
    return np.clip(picture, 0, 1, picture)


@cache
def _photograph() -> NDArray[np.float32]:
    """The photograph (512, 512) as the eye sees it, in [0, 1]."""
    with files("destseg_lib.drawn").joinpath("gravel.png").open("rb") as file:
        return np.asarray(Image.open(file), np.float32) * np.float32(1 / 255)


def _stick(picture: Field, y: Field, x: Field, fault: np.random.Generator) -> None:
    """A dry twig on the stones, with its shadow."""
    middle, heading = somewhere(fault, 0.25), fault.uniform(0, math.pi)
    line = bowed(middle, heading, fault.uniform(0.12, 0.3), fault.normal(0, 0.02), AT)
    width = fault.uniform(0.012, 0.024)
    shade = [(py + 0.6 * width, px + 0.6 * width) for py, px in line]
    picture *= 1 - 0.55 * cover(stroke(y, x, shade, 1.3 * width), softness=width)[..., None]
    bark = 1 + 0.2 * smooth_noise(fault, y.shape[0], 60)
    tone = tinted(np.clip(fault.uniform(0.7, 1.3) * bark, 0.3, 2), (0.16, 0.095, 0.05))
    paint(picture, cover(stroke(y, x, line, width)), tone)


def _cap(picture: Field, y: Field, x: Field, fault: np.random.Generator) -> None:
    """A bottle cap that lies on the stones."""
    radius, (cy, cx) = fault.uniform(0.035, 0.06), somewhere(fault, 0.36)
    shadow = circle(y, x, radius, (cy + 0.25 * radius, cx + 0.25 * radius))
    picture *= 1 - 0.6 * cover(shadow, softness=0.4 * radius)[..., None]
    turn = np.arctan2(y - cy, x - cx)
    rim = circle(y, x, radius, (cy, cx)) + 0.05 * radius * np.cos(21 * turn)
    domed = 1 - 0.5 * np.clip(circle(y, x, 0.0, (cy, cx)) / radius, 0, 1) ** 4
    paint(picture, cover(rim), tinted(domed.astype(np.float32), one_of(fault, CAPS)))


def _sand(picture: Field, y: Field, x: Field, fault: np.random.Generator) -> None:
    """A patch where the stones are missing and the sand below is seen."""
    radius = fault.uniform(0.07, 0.13)
    patch = blob(y, x, radius, fault, centre=somewhere(fault, 0.33), ragged=0.3)
    grains = 1 + 0.18 * smooth_noise(fault, y.shape[0], 110, octaves=2)
    sand = tinted(np.clip(fault.uniform(0.8, 1.2) * grains, 0.3, 2), (0.24, 0.20, 0.15))
    paint(picture, cover(patch, softness=0.12 * radius), sand)


def _paper(picture: Field, y: Field, x: Field, fault: np.random.Generator) -> None:
    """A torn scrap of paper."""
    down, across = turned(y, x, fault.uniform(0, 180), somewhere(fault, 0.34))
    torn = 0.006 * smooth_noise(fault, y.shape[0], 40)
    scrap = box(down, across, fault.uniform(0.05, 0.1), fault.uniform(0.07, 0.14)) + torn
    folds = 0.62 + 0.09 * smooth_noise(fault, y.shape[0], 9)
    paint(picture, cover(scrap), tinted(np.clip(folds, 0, 1), (1.0, 0.99, 0.95)))


CATEGORY = DrawnCategory("gravel", "texture", DEFECTS, draw, rotation="full", draw_test=draw_test)
