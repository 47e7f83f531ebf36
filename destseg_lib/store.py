"""Every image decoded once and kept as uint8: in memory, or in a file mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.cache import on_disk
from destseg_lib.decoding import Progress, Task, decode
from destseg_lib.errors import DeSTSegError


@dataclass(frozen=True)
class ImageSet:
    """Decoded images: ``pixels`` (N, S, S, 3) uint8 RGB, ``paths`` in the same order.

    ``skipped`` holds (path, reason) of files that could not be read, if skipping was asked for.
    """

    pixels: NDArray[np.uint8]
    paths: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)


def load_images(
    paths: Sequence[Path],
    size: int,
    *,
    cache_dir: Path | None = None,
    memory_share: float = 0.25,
    skip_unreadable: bool = False,
    progress: bool = True,
    description: str = "decoding",
) -> ImageSet:
    """Decode images once, in parallel, to (N, size, size, 3) uint8.

    If they need more than ``memory_share`` of the available memory they are kept in a
    memory-mapped file under ``cache_dir`` (default: the platform's cache folder), which a later
    call with the same unchanged files reuses, and which resumes an interrupted call.

    Raises:
        DeSTSegError: no paths, an unreadable file (unless ``skip_unreadable``), none readable,
            or no room on the disk.
    """
    paths = tuple(map(Path, paths))
    if not paths:
        raise DeSTSegError("There are no images to load: the list of files is empty.")
    if size < 1:
        raise DeSTSegError(f"The image size is {size}, expected a positive number of pixels.")
    with tqdm(total=len(paths), desc=description, unit="image", disable=not progress) as bar:
        task = Task(paths, size, skip_unreadable, bar)
        if len(paths) * task.row <= memory_share * psutil.virtual_memory().available:
            pixels, state = _in_memory(task)
        else:
            pixels, state = on_disk(task, Path(cache_dir) if cache_dir else _default_folder())
    failed = dict(state.failed)
    if not state.written:
        raise DeSTSegError(f"None of the {len(paths)} images can be read. The first: {failed[0]}")
    kept = tuple(path for index, path in enumerate(paths) if index not in failed)
    return ImageSet(pixels, kept, tuple((paths[index], why) for index, why in state.failed))


def _in_memory(task: Task) -> tuple[NDArray[np.uint8], Progress]:
    pixels = np.empty((len(task.paths), task.size, task.size, 3), dtype=np.uint8)
    state = Progress()
    for images, now in decode(task, state):
        pixels[state.written : now.written] = images
        state = now
    return pixels[: state.written], state


def _default_folder() -> Path:
    import pooch  # here, because images that fit into memory need no folder and no pooch

    return Path(pooch.os_cache("destseg"))
