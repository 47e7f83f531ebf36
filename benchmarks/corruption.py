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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
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


def measure(side: str, size: int, batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """Milliseconds an image, repeat by repeat, and peak memory; in a process of its own."""
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
        generator = np.random.default_rng(0)

        def work() -> None:
            for image, texture in zip(*pixels, strict=True):
                plain_corrupt(image, texture, config, generator)

    before = memory_mib("VmRSS")
    spent = timed(work, repeats)
    return {
        "ms_an_image": statistics.median(spent) / batch * 1e3,
        "ms_an_image_repeats": [s / batch * 1e3 for s in spent],
        "peak_mib_beyond_inputs": memory_mib("VmHWM") - before,
    }


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each repeat, after one to warm up."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return spent


def memory_mib(field: str) -> float:
    """VmRSS, what this process holds now, or VmHWM, the most it has held; MiB, Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` returns in a fresh interpreter, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # for the provenance
    sizes = options.size, options.batch, options.threads
    sides = {
        side: in_own_process(measure, side, *sizes, options.repeats)
        for side in ("batched", "plain")
    }
    record = {
        "what": f"{options.batch} images of {options.size}x{options.size}, "
        f"{options.threads} threads, median of {options.repeats}",
        **sides,
        "ratio": sides["plain"]["ms_an_image"] / sides["batched"]["ms_an_image"],
        "provenance": provenance(torch.device("cpu")),
    }
    print(record["what"])
    for name, side in sides.items():
        print(
            f"  {name:8} {side['ms_an_image']:8.3f} ms an image "
            f"{side['peak_mib_beyond_inputs']:8.1f} MiB beyond the inputs"
        )
    print(f"  ratio    {record['ratio']:8.1f}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
