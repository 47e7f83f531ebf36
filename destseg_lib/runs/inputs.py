"""The images of a run: rows of an array, textures, and how --resume recognises them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from destseg_lib.runs.tiles import cut
from destseg_lib.textures import procedural_textures

PROCEDURAL_TEXTURES = 512


class Selection:
    """Rows of an image array without copying it: the array may be larger than memory.

    With ``tiles``, the T x T tiles of each of these rows, one after another.
    """

    def __init__(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64], tiles: int = 1) -> None:
        self.pixels = pixels
        self.rows = rows
        self.tiles = tiles

    def __len__(self) -> int:
        return len(self.rows) * self.tiles**2

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        rows, places = np.divmod(index, self.tiles**2)
        chosen: NDArray[np.uint8] = self.pixels[self.rows[rows]]
        if self.tiles == 1:
            return chosen
        pairs = zip(chosen, places, strict=True)
        return np.concatenate([cut(image[None], self.tiles, int(place)) for image, place in pairs])


def draw_textures(size: int, seed: int) -> NDArray[np.uint8]:
    """Procedural textures (512, size, size, 3), for training without a folder of textures."""
    return procedural_textures(PROCEDURAL_TEXTURES, size, torch.Generator().manual_seed(seed))


def fingerprint_files(paths: Sequence[Path]) -> str:
    """Digest of the names and sizes of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        line = f"{path.name}:{path.stat().st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def fingerprint_pixels(pixels: NDArray[np.uint8]) -> str:
    """Digest of decoded images (N, S, S, 3), in order: names, places and dates do not matter."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for image in pixels:  # one at a time: they may be larger than memory
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:16]
