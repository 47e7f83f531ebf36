"""From a scene to a photograph: exposure, colour of the light, fall-off, focus and grain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from destseg_lib.drawn.drawing import Field, places


@dataclass(frozen=True)
class Camera:
    """The settings of one photograph; a category says how far they may vary.

    Attributes:
        exposure: multiplies the light.
        warmth: the light's red is raised and its blue lowered by this share.
        tilt: how much brighter one side is than the other, down and across.
        vignette: how much darker the corners are.
        blur: standard deviation of the focus, in units of the image's side.
        grain: standard deviation of the noise at mid-grey, in [0, 1].
    """

    exposure: float
    warmth: float
    tilt: tuple[float, float]
    vignette: float
    blur: float
    grain: float


def draw_camera(generator: np.random.Generator, variation: float = 1.0) -> Camera:
    """Settings as they vary between photographs; with ``variation`` 0 the camera never varies."""
    v = variation
    angle = generator.uniform(0, 2 * math.pi)
    tilt = v * generator.uniform(0, 0.14)
    return Camera(
        exposure=math.exp(v * generator.normal(0, 0.07)),
        warmth=v * generator.normal(0, 0.015),
        tilt=(tilt * math.sin(angle), tilt * math.cos(angle)),
        vignette=0.06 + v * generator.uniform(-0.04, 0.06),
        blur=(0.6 + v * generator.uniform(-0.25, 0.35)) / 256,
        grain=0.010 + v * generator.uniform(-0.004, 0.006),
    )


def expose(picture: Field, camera: Camera) -> Field:
    """Apply light and focus.

    The grain is added last (``grain``), because it is the same for a defective example and its
    defect-free twin.

    Args:
        picture: (S, S, 3) in linear [0, 1].
        camera: the settings.

    Returns:
        (S, S, 3) in [0, 1], as the eye sees it.
    """
    size = picture.shape[0]
    y, x = places(size)
    light = 1 + camera.tilt[0] * y + camera.tilt[1] * x
    light -= 4 * camera.vignette * (y * y + x * x)
    balance = np.array([1 + camera.warmth, 1, 1 - camera.warmth], np.float32)
    seen = picture * (light * camera.exposure)[..., None] * balance
    np.clip(seen, 0, 1, out=seen)
    np.sqrt(seen, out=seen)  # close to a display's gamma, and quick
    sigma = camera.blur * size
    if sigma > 0.2:
        for axis in (0, 1):
            seen = gaussian_filter1d(seen, sigma, axis=axis, mode="nearest", truncate=3.0)
    return seen


def grain(seen: Field, camera: Camera, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Add the sensor's noise to (S, S, 3) in [0, 1] and round to uint8."""
    noise = generator.standard_normal(seen.shape[:2], np.float32)[..., None]
    colour = generator.standard_normal(seen.shape, np.float32) * 0.5
    noisy = seen + camera.grain * (noise + colour)
    np.clip(noisy, 0, 1, out=noisy)
    return (noisy * 255 + 0.5).astype(np.uint8)
