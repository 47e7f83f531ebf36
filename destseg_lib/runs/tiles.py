"""Large photographs in overlapping tiles, so that small defects keep their pixels.

A photograph is decoded to a square that T x T tiles cover. Each tile has the size that the networks
were trained at, and shares a quarter of its side with the next one. Their maps are stitched; where
two tiles overlap, the one whose edge is farther away counts more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from destseg_lib.config import METRIC_SIZE, TrainingConfig
from destseg_lib.model import PredictedMaps


def covered(side: int, tiles: int) -> int:
    """Pixels along a row of overlapping tiles, each ``side`` (a multiple of 4) wide."""
    return side + (tiles - 1) * _stride(side)


def decoded_size(config: TrainingConfig) -> int:
    """The side of the square that a run's photographs are decoded to."""
    return covered(config.image_size, config.tiles)


def map_size(config: TrainingConfig) -> int:
    """The side of a run's maps: 256, or more where tiles are stitched."""
    return covered(METRIC_SIZE, config.tiles)


def cut(pixels: NDArray[np.uint8], tiles: int, tile: int) -> NDArray[np.uint8]:
    """One tile of each image: (N, C, C, 3) to (N, S, S, 3); tiles are counted row by row."""
    side = 4 * pixels.shape[1] // (3 * tiles + 1)  # of a tile: solved from ``covered``
    top, left = (place * _stride(side) for place in divmod(tile, tiles))
    return pixels[:, top : top + side, left : left + side]


def stitch(maps: NDArray[np.float32], tiles: int) -> NDArray[np.float32]:
    """The maps (T * T, M, M) of an image's tiles as one map of the image."""
    side = maps.shape[1]
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5  # from the tile's edge
    ramp = np.minimum(distance / (side - _stride(side)), 1)
    weight = np.outer(ramp, ramp)
    total = np.zeros((covered(side, tiles),) * 2)
    weights = np.zeros_like(total)
    for tile, part in enumerate(maps):
        top, left = (place * _stride(side) for place in divmod(tile, tiles))
        place = np.s_[top : top + side, left : left + side]
        total[place] += weight * part
        weights[place] += weight
    return (total / weights).astype(np.float32)


def tiled_maps(
    predict: Callable[[NDArray[np.uint8]], Iterator[PredictedMaps]],
    pixels: NDArray[np.uint8],
    tiles: int,
) -> Iterator[PredictedMaps]:
    """Stitched maps of images (N, C, C, 3) from a function that gives the maps of tiles."""
    if tiles == 1:
        yield from predict(pixels)
        return
    for image in pixels:  # one at a time: its tiles fill a batch
        parts = np.concatenate([cut(image[None], tiles, tile) for tile in range(tiles**2)])
        final, student = zip(*predict(parts), strict=True)
        yield PredictedMaps(
            stitch(np.concatenate(final), tiles)[None], stitch(np.concatenate(student), tiles)[None]
        )


def _stride(side: int) -> int:
    return side - side // 4
