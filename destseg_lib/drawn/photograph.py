"""From a category and a seed to a photograph; from a defect to its exact mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from destseg_lib.drawn.camera import draw_camera, expose, grain
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import Field
from destseg_lib.errors import DeSTSegError

VISIBLE = 8 / 255  # a smaller difference is lost in the grain
SMALLEST = 2.5e-4  # share of the image that a defect must cover: 16 pixels of 256 x 256
ATTEMPTS = 20

Seed = tuple[int, ...]


@dataclass(frozen=True)
class DefectivePhotograph:
    """A defective example, its exact mask and its defect-free twin.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        mask: (S, S) bool; outside it ``image`` and ``twin`` are equal, pixel for pixel.
        twin: (S, S, 3) uint8: the same scene and the same grain without the defect.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    twin: NDArray[np.uint8]


def photograph(category: DrawnCategory, size: int, seed: Seed) -> NDArray[np.uint8]:
    """Draw a good example, (S, S, 3) uint8; the same seed gives the same image.

    Raises:
        DeSTSegError: ``size`` is below 32.
    """
    check_drawing(size)
    scene, camera, noise, fault = _streams(seed)
    settings = draw_camera(camera, category.variation)
    return grain(expose(category.draw(size, scene, None, fault), settings), settings, noise)


def photograph_defect(
    category: DrawnCategory, defect: str, size: int, seed: Seed
) -> DefectivePhotograph:
    """Draw a defective example with its mask and its twin.

    The twin is ``photograph(category, size, seed)``. The mask is where the two visibly differ
    before grain is added, with pinholes closed; outside it the twin's pixels are taken.

    Raises:
        DeSTSegError: the category has no such defect, or ``size`` is below 32.
    """
    check_drawing(size)
    if defect not in category.defects:
        raise DeSTSegError(
            f"{category.name} has no defect {defect!r}; choose one of {', '.join(category.defects)}"
        )
    scene, camera, noise, fault = _streams(seed)
    settings = draw_camera(camera, category.variation)
    good = expose(category.draw(size, scene, None, fault), settings)
    for attempt in range(ATTEMPTS):
        scene, fault = _streams(seed)[0], _streams((*seed, attempt))[3]
        bad = expose(category.draw(size, scene, defect, fault), settings)
        mask = _where_visible(good, bad)
        if mask.sum() >= SMALLEST * size * size:
            break
    else:
        raise DeSTSegError(
            f"{ATTEMPTS} tries at {defect!r} on {category.name} at {size} pixels gave nothing that "
            "can be seen; draw at a larger size"
        )
    image = grain(np.where(mask[..., None], bad, good), settings, noise)
    return DefectivePhotograph(image, mask, grain(good, settings, _streams(seed)[2]))


def _where_visible(good: Field, bad: Field) -> NDArray[np.bool_]:
    """The mask (S, S) of visible differences, without pinholes and specks."""
    differs = np.abs(bad - good).max(axis=2) > VISIBLE
    reach = max(1, round(good.shape[0] / 128))
    padded = np.pad(differs, reach)
    closed = ndimage.binary_closing(padded, iterations=reach)[reach:-reach, reach:-reach]
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(closed | differs)
    # Nobody would outline specks of a pixel or two as a defect.
    regions, count = ndimage.label(filled, np.ones((3, 3)))
    if count:
        areas = np.bincount(regions.ravel())
        keep = areas >= max(3, 4e-5 * filled.size)
        keep[0] = False
        filled = keep[regions]
    return filled


def _streams(seed: Seed) -> tuple[np.random.Generator, ...]:
    """Independent generators for scene, camera, noise and fault."""
    return tuple(np.random.default_rng((*seed, stream)) for stream in range(4))


def check_drawing(size: int, seed: int = 0) -> None:
    """Raise DeSTSegError for a size or a seed that nothing can be drawn with."""
    for name, value, least in (("size", size, 32), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DeSTSegError(f"{name} is {value!r}; draw with a whole number of {least} or more")
