"""Image files to maps and image scores, in bounded memory and in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.config import TOP_PIXELS
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.load import chunks, decode_files, white_level_advice
from destseg_lib.metrics import image_scores
from destseg_lib.model import PREDICTION_BATCH, PredictedMaps
from destseg_lib.runs.exported import AnyRun, precision_advice
from destseg_lib.runs.threads import Pace, Threads
from destseg_lib.runs.tiles import decoded_size


class ScoredBatch(NamedTuple):
    """Maps and image scores of some files; ``indices`` are their places in the list of files."""

    indices: tuple[int, ...]
    maps: PredictedMaps
    scores: NDArray[np.float64]


def idle_cores(run: AnyRun, threads: Threads = None) -> bool:
    """Whether the network leaves cores idle: it is on a GPU, or was given fewer threads than cores.

    Then decoding and writing go on while it computes. Otherwise they take turns with it: threads
    of the network that wait for one whose core is taken lose more than the others gain. With
    ``auto`` they take turns, too: it may take all cores at any moment.
    """
    has = threads if isinstance(threads, int) else torch.get_num_threads()
    return run.device.type != "cpu" or has < (os.cpu_count() or 1)


def print_advice(run: AnyRun, paths: Sequence[Path]) -> None:
    """Say before the work what may make the scores of these files other than expected."""
    for advice in (white_level_advice(paths, run.white_level), precision_advice(run)):
        if advice:
            print(advice)


def score_files(
    run: AnyRun,
    paths: Sequence[Path],
    *,
    skipped: list[tuple[Path, str]] | None = None,
    progress: bool = True,
    description: str = "scoring",
    threads: Threads = None,
) -> Iterator[ScoredBatch]:
    """Decode and score image files in bounded memory, in order.

    Args:
        run: the trained model.
        paths: image files.
        skipped: a list to append (path, reason) of unreadable files to; None refuses them.
        progress: show a bar.
        description: of the bar.
        threads: of the network on a CPU, as ``Pace`` takes them.

    Raises:
        DeSTSegError: a file is unreadable and ``skipped`` is None, or no file is readable.
    """
    paths, size, errors = tuple(paths), decoded_size(run.config), list[str]()
    pace = Pace(run, threads, len(paths) * run.config.tiles**2)
    with tqdm(total=len(paths), desc=description, unit="image", disable=not progress) as bar:
        for chunk in chunks(len(paths), size):
            decoded = zip(
                chunk, decode_files([paths[i] for i in chunk], size, run.view), strict=True
            )
            # Batches begin anew with each chunk, so that results do not depend on the machine.
            most = PREDICTION_BATCH if idle_cores(run, threads) else len(chunk)
            images: dict[int, NDArray[np.uint8]] = {}
            for index, image in decoded:
                if not isinstance(image, DeSTSegError):
                    images[index] = image
                elif skipped is None:
                    raise image
                else:
                    errors.append(str(image))
                    skipped.append((paths[index], str(image)))
                    bar.update()
                if len(images) < most and index != chunk[-1]:
                    continue
                readable, pixels = iter(images), np.array([*images.values()])
                images = {}
                for maps in pace.maps(pixels):
                    indices = tuple(islice(readable, len(maps.final)))
                    yield ScoredBatch(indices, maps, image_scores(maps.final, TOP_PIXELS))
                    bar.update(len(indices))
    if errors and len(errors) == len(paths):
        raise DeSTSegError(f"None of the {len(paths)} images can be read. The first: {errors[0]}")
