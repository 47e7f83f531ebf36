"""Textures that fill synthetic anomalies, for use without a folder of photographed ones.

The paper takes the Describable Textures Dataset (section 4.2). Four families are drawn here in its
place: clouds, stripes, cells and spots, each in random colours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FAMILIES = 4


def procedural_textures(count: int, size: int, generator: torch.Generator) -> NDArray[np.uint8]:
    """Draw textures.

    Args:
        count: how many, N; the families take turns.
        size: S, the side in pixels.
        generator: a CPU generator.

    Returns:
        (N, S, S, 3) RGB.
    """
    draw = (_clouds, _stripes, _cells, _spots)
    textures = np.empty((count, size, size, 3), np.uint8)
    for n in range(count):
        height = draw[n % FAMILIES](size, generator)
        textures[n] = _colour(height, generator)
    return textures


def _clouds(size: int, generator: torch.Generator, roughness: float | None = None) -> Tensor:
    """Noise whose amplitude falls as a power of frequency, stretched in a random direction."""
    power = 1 + 1.5 * _uniform(generator) if roughness is None else roughness
    fy = torch.fft.fftfreq(size)[:, None] * size
    fx = torch.fft.rfftfreq(size)[None] * size
    angle, stretch = math.pi * _uniform(generator), 1 + 3 * _uniform(generator)
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = (fy * math.cos(angle) - fx * math.sin(angle)) * stretch
    amplitude = (along**2 + across**2 + 1) ** (-power / 2)
    spectrum = torch.fft.rfft2(torch.randn(size, size, generator=generator)) * amplitude
    return _unit_range(torch.fft.irfft2(spectrum, s=(size, size)))


def _stripes(size: int, generator: torch.Generator) -> Tensor:
    """Bands in a random direction, bent by clouds."""
    y, x = _coordinates(size)
    angle, bands = 2 * math.pi * _uniform(generator), 2 + 30 * _uniform(generator)
    bend = 2 * _uniform(generator) * _clouds(size, generator, roughness=2.5)
    phase = (x * math.cos(angle) + y * math.sin(angle)) * bands + bend
    sharp = 1 + 8 * _uniform(generator)
    return torch.sigmoid(sharp * torch.sin(2 * math.pi * phase))


def _cells(size: int, generator: torch.Generator) -> Tensor:
    """Worley noise: distance to the second nearest of random points minus that to the nearest."""
    count = int(10 + 200 * _uniform(generator))
    points = torch.rand(count, 2, generator=generator)
    y, x = _coordinates(size)
    places = torch.stack([y.expand(size, size), x.expand(size, size)], dim=-1).view(-1, 2)
    near = torch.cdist(places, points).topk(2, largest=False).values
    edge = (near[:, 1] - near[:, 0]).view(size, size) * math.sqrt(count)
    return (edge * (0.5 + 2 * _uniform(generator))).clamp(0, 1)


def _spots(size: int, generator: torch.Generator) -> Tensor:
    """Clouds cut at a level: blotches with soft or hard borders."""
    clouds = _clouds(size, generator, roughness=1.5 + 1.5 * _uniform(generator))
    return torch.sigmoid((4 + 60 * _uniform(generator)) * (clouds - 0.5))


def _colour(height: Tensor, generator: torch.Generator) -> NDArray[np.uint8]:
    """Map (S, S) in [0, 1] to a path between three random colours, with fine grain."""
    stops = torch.rand(3, 3, generator=generator)
    h = height[:, :, None] * 2
    low = torch.lerp(stops[0], stops[1], h.clamp(0, 1))
    colours = torch.lerp(low, stops[2], (h - 1).clamp(0, 1))
    grain = 0.08 * _uniform(generator) * torch.randn(*height.shape, 1, generator=generator)
    pixels: NDArray[np.uint8] = ((colours + grain).clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def _coordinates(size: int) -> tuple[Tensor, Tensor]:
    line = torch.arange(size) / size
    return line[:, None], line[None]


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _unit_range(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min()).clamp_min(1e-9)
