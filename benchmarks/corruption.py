"""Batched corruption against the same algorithm one image at a time in numpy and scipy.

Both sides do all that ``corrupt`` does with decoded photographs and textures in [0, 1]: draw a
lattice, evaluate Perlin noise, turn it, threshold it, draw an opacity and blend. The plain side is
the usual way to write it: every pixel of an image at once, one image after the other, numpy's own
float64 for noise and float32 for photographs. Both run in this one process, the batches on
``--threads`` threads; numpy and scipy use one.

Run: ``python benchmarks/corruption.py [--json FILE]``; about half a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy import ndimage

from destseg_lib.config import CorruptionConfig
from destseg_lib.corruption import corrupt
from destseg_lib.device import keep_freed_memory
from destseg_lib.provenance import provenance

Image = NDArray[np.float32]  # (S, S, 3) in [0, 1]
Plane = NDArray[np.float64]  # (S, S)


def plain_perlin(cells: tuple[int, int], size: int, generator: np.random.Generator) -> Plane:
    """Perlin noise of (S, S) pixels on a lattice of ``cells`` along y and x."""
    angles = generator.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradient_y, gradient_x = np.sin(angles), np.cos(angles)
    y, x = np.meshgrid(*(np.arange(size) * c / size for c in cells), indexing="ij")
    row, column = y.astype(int), x.astype(int)
    y, x = y - row, x - column

    def corner(down: int, right: int) -> Plane:
        at = row + down, column + right
        return gradient_y[at] * (y - down) + gradient_x[at] * (x - right)

    ease_y, ease_x = plain_fade(y), plain_fade(x)
    top = corner(0, 0) + ease_x * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + ease_x * (corner(1, 1) - corner(1, 0))
    return math.sqrt(2) * (top + ease_y * (bottom - top))


def plain_fade(t: Plane) -> Plane:
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def plain_corrupt(
    image: Image, texture: Image, config: CorruptionConfig, generator: np.random.Generator
) -> tuple[Image, Image]:
    """One corrupted image (S, S, 3) and its mask (S, S, 1)."""
    down, right = 2 ** generator.integers(0, config.max_cells_log2 + 1, 2)
    noise = plain_perlin((int(down), int(right)), len(image), generator)
    degrees = generator.uniform(-config.rotation, config.rotation)
    turned = ndimage.rotate(noise, degrees, reshape=False, order=1)
    mask = (turned > config.threshold).astype(np.float32)[:, :, None]
    opacity = np.float32(generator.uniform(*config.opacity))
    blended = (1 - opacity) * image + opacity * texture
    return image * (1 - mask) + blended * mask, mask


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Of each repeat, after one to warm up."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return spent


def peak_mib() -> float:
    """The most memory this process has held, MiB; the operating system counts it."""
    status = psutil.Process().memory_info()
    return getattr(status, "peak_wset", status.rss) / 2**20


def main() -> None:
    pass


if __name__ == "__main__":
    main()
