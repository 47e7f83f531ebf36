"""Decoding many images at once: in parallel, in order, a chunk at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.read import read_image

_CHUNK_BYTES = 32 * 2**20
_WORKERS = min(16, os.cpu_count() or 1)


class Task(NamedTuple):
    """What to decode: files, side in pixels, whether to skip the unreadable, the progress bar."""

    paths: tuple[Path, ...]
    size: int
    skip: bool
    bar: tqdm[None]

    @property
    def row(self) -> int:
        """Bytes of one decoded image."""
        return self.size * self.size * 3


class Progress(NamedTuple):
    """Files looked at, and those of them that failed as (index, reason)."""

    done: int = 0
    failed: tuple[tuple[int, str], ...] = ()

    @property
    def written(self) -> int:
        """Images decoded."""
        return self.done - len(self.failed)


def decode(task: Task, state: Progress) -> Iterator[tuple[NDArray[np.uint8], Progress]]:
    """Yield (k, size, size, 3) of readable images and the progress with them, chunk by chunk."""
    chunk = max(_WORKERS, _CHUNK_BYTES // task.row)

    def attempt(path: Path) -> NDArray[np.uint8] | DeSTSegError:
        try:
            return read_image(path, task.size)
        except DeSTSegError as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        while state.done < len(task.paths):
            images: list[NDArray[np.uint8]] = []
            failed = list(state.failed)
            todo = task.paths[state.done : state.done + chunk]
            for index, result in enumerate(pool.map(attempt, todo), start=state.done):
                task.bar.update()
                if not isinstance(result, DeSTSegError):
                    images.append(result)
                elif task.skip:
                    failed.append((index, str(result)))
                else:
                    raise result
            state = Progress(state.done + len(todo), tuple(failed))
            yield np.array(images, np.uint8).reshape(-1, task.size, task.size, 3), state
