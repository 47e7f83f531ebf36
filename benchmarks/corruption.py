"""Batched corruption against the same algorithm one image at a time in numpy and scipy.

Each side does all that ``corrupt`` does with decoded photographs and textures in [0, 1]: draw a
lattice, evaluate Perlin noise, turn it, threshold it, draw an opacity and blend. ``plain`` is the
usual way to write it, one image after the other and every pixel of an image at once: each pixel is
given the gradients of its four corners and four dot products. ``lean`` looks the gradients up and
keeps the offsets along y and x apart, which is about as fast as numpy gets. Each side runs in a
process of its own, the batches on ``--threads`` threads; numpy and scipy use one.

Run: ``python benchmarks/corruption.py [--json FILE]``; about half a minute. Linux.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import command_line, in_own_process, memory_mib, report, timed
from numpy.typing import NDArray
from scipy import ndimage

from destseg_lib.config import CorruptionConfig
from destseg_lib.corruption import corrupt
from destseg_lib.device import keep_freed_memory

Image = NDArray[np.float32]  # (S, S, 3) in [0, 1]
Plane = NDArray[np.float64]  # (S, S)


def plain_perlin(cells: tuple[int, int], size: int, generator: np.random.Generator) -> Plane:
    """Perlin noise of (S, S) pixels on a lattice of ``cells`` along y and x, which divide S."""
    angles = generator.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    lines = (np.arange(size) * c / size for c in cells)
    offsets = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1) % 1

    def corner(down: int, right: int) -> Plane:
        spread = gradients[down : cells[0] + down, right : cells[1] + right]
        for axis in (0, 1):
            spread = spread.repeat(size // cells[axis], axis)
        return (spread * (offsets - (down, right))).sum(axis=-1)

    ease = plain_fade(offsets)
    return between(
        corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1), ease[..., 0], ease[..., 1]
    )


def lean_perlin(cells: tuple[int, int], size: int, generator: np.random.Generator) -> Plane:
    """The same noise, for any S."""
    angles = generator.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradient_y, gradient_x = np.sin(angles), np.cos(angles)
    y, x = np.ogrid[:size, :size]
    y, x = y * cells[0] / size, x * cells[1] / size
    row, column = y.astype(int), x.astype(int)
    y, x = y - row, x - column

    def corner(down: int, right: int) -> Plane:
        at = row + down, column + right
        return gradient_y[at] * (y - down) + gradient_x[at] * (x - right)

    return between(
        corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1), plain_fade(y), plain_fade(x)
    )


def between(a: Plane, b: Plane, c: Plane, d: Plane, ease_y: Plane, ease_x: Plane) -> Plane:
    """From the dot products of the upper and lower corners, left and right, to the noise."""
    top, bottom = a + ease_x * (b - a), c + ease_x * (d - c)
    return math.sqrt(2) * (top + ease_y * (bottom - top))


def plain_fade(t: Plane) -> Plane:
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def plain_corrupt(
    image: Image,
    texture: Image,
    config: CorruptionConfig,
    generator: np.random.Generator,
    perlin: Callable[..., Plane] = plain_perlin,
) -> tuple[Image, Image]:
    """One corrupted image (S, S, 3) and its mask (S, S, 1)."""
    down, right = 2 ** generator.integers(0, config.max_cells_log2 + 1, 2)
    noise = perlin((int(down), int(right)), len(image), generator)
    degrees = generator.uniform(-config.rotation, config.rotation)
    turned = ndimage.rotate(noise, degrees, reshape=False, order=1)
    mask = (turned > config.threshold).astype(np.float32)[:, :, None]
    opacity = np.float32(generator.uniform(*config.opacity))
    blended = (1 - opacity) * image + opacity * texture
    return image * (1 - mask) + blended * mask, mask


def measure(side: str, size: int, batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """Milliseconds per image, repeat by repeat, and peak memory; in a process of its own."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    config = CorruptionConfig()
    pixels = np.random.default_rng(0).random((2, batch, size, size, 3), dtype=np.float32)

    if side == "batched":
        images, textures = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).contiguous()
        draws = torch.Generator().manual_seed(0)

        def work() -> None:
            corrupt(images, textures, config, draws)
    else:
        perlin = {"plain": plain_perlin, "lean": lean_perlin}[side]
        generator = np.random.default_rng(0)

        def work() -> None:
            for image, texture in zip(*pixels, strict=True):
                plain_corrupt(image, texture, config, generator, perlin)

    before = memory_mib("VmRSS")
    work()  # to warm up
    spent, _ = timed(work, times=repeats)
    return {
        "ms_an_image": statistics.median(spent) / batch * 1e3,
        "ms_an_image_repeats": [s / batch * 1e3 for s in spent],
        "peak_mib_beyond_inputs": memory_mib("VmHWM") - before,
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # for the provenance
    sizes = options.size, options.batch, options.threads
    sides = {
        side: in_own_process(measure, side, *sizes, options.repeats)
        for side in ("batched", "plain", "lean")
    }
    record = {
        "what": f"{options.batch} images of {options.size}x{options.size}, "
        f"{options.threads} threads, median of {options.repeats}",
        **sides,
        "ratio": {
            side: sides[side]["ms_an_image"] / sides["batched"]["ms_an_image"]
            for side in ("plain", "lean")
        },
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
