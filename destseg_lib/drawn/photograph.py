"""From a product and a seed to a photograph; from a defect to its exact mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from destseg_lib.drawn.camera import draw_camera, expose, grain
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.drawing import Field
from destseg_lib.errors import DeSTSegError

VISIBLE = 8 / 255  # a smaller difference drowns in the grain
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


def photograph(product: DrawnCategory, size: int, seed: Seed) -> NDArray[np.uint8]:
    """Draw a good example, (S, S, 3) uint8. The seed decides it whole.

    Raises:
        DeSTSegError: ``size`` is below 32.
    """
    _check_size(size)
    scene, camera, noise, fault = _streams(seed)
    settings = draw_camera(camera, product.variation)
    seen = expose(product.draw(size, scene, None, fault), settings)
    return grain(seen, settings, noise)


def photograph_defect(
    product: DrawnCategory, defect: str, size: int, seed: Seed
) -> DefectivePhotograph:
    """Draw a defective example with its mask and its twin.

    The twin is ``photograph(product, size, seed)``. The mask is where the two visibly differ,
    before grain, with pinholes closed; outside it the twin's pixels are taken.

    Raises:
        DeSTSegError: the product has no such defect, or ``size`` is below 32.
    """
    _check_size(size)
    if defect not in product.defects:
        raise DeSTSegError(
            f"{product.name} has no defect {defect!r}; choose one of {', '.join(product.defects)}"
        )
    _, camera, noise, _ = _streams(seed)
    settings = draw_camera(camera, product.variation)
    good = expose(product.draw(size, _streams(seed)[0], None, _streams(seed)[3]), settings)
    for attempt in range(ATTEMPTS):
        scene, fault = _streams(seed)[0], _streams((*seed, attempt))[3]
        bad = expose(product.draw(size, scene, defect, fault), settings)
        mask = _where_visible(good, bad)
        if mask.sum() >= SMALLEST * size * size:
            break
    else:
        raise DeSTSegError(
            f"{ATTEMPTS} tries at {defect!r} on {product.name} at {size} pixels gave nothing that "
            "can be seen; draw at a larger size"
        )
    bad = np.where(mask[..., None], bad, good)
    twin_noise = _streams(seed)[2]
    return DefectivePhotograph(grain(bad, settings, noise), mask, grain(good, settings, twin_noise))


def _where_visible(good: Field, bad: Field) -> NDArray[np.bool_]:
    differs = np.abs(bad - good).max(axis=2) > VISIBLE
    reach = max(1, round(good.shape[0] / 128))
    padded = np.pad(differs, reach)
    closed = ndimage.binary_closing(padded, iterations=reach)[reach:-reach, reach:-reach]
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(closed | differs)
    # Specks of a pixel or two belong to no defect that a person would outline.
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


def _check_size(size: int) -> None:
    if size < 32:
        raise DeSTSegError(f"size is {size}; a product needs at least 32 pixels to be seen")
