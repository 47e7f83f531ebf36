"""Every image decoded once to uint8: in memory, or in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import PARTIAL, read_json, write_json
from destseg_lib.images.read import brightest, read_image
from destseg_lib.images.view import WHITE, View

_WORKERS = min(16, os.cpu_count() or 1)
_AHEAD = 4 * _WORKERS  # decoded images that may wait for their turn
_CHUNK_BYTES = 32 * 2**20  # what a process that is killed loses at most
_FORMAT = 1  # raise it when decoding changes, so that files decoded before are not reused


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


class _Task(NamedTuple):
    """The files to decode, how, and the bar."""

    paths: Sequence[Path]
    size: int
    skip_unreadable: bool
    bar: tqdm[None]
    view: View


_Unreadable = dict[int, str]  # from a file's place among the paths to the reason


def load_images(
    paths: Sequence[Path],
    size: int,
    *,
    cache_dir: Path | None = None,
    memory_share: float = 0.25,
    skip_unreadable: bool = False,
    progress: bool = True,
    description: str = "decoding",
    view: View | None = None,
) -> ImageSet:
    """Decode images once, in parallel, to (N, size, size, 3) uint8.

    If they need more than ``memory_share`` of the available memory they are kept in a
    memory-mapped file under ``cache_dir`` (default: the platform's cache folder). A later call
    with the same unchanged files reuses this file, or continues it if the first was interrupted.
    ``view`` says how a file becomes pixels.

    Raises:
        DeSTSegError: no paths, an unreadable file (unless ``skip_unreadable``), no readable file,
            or too little room on the disk.
    """
    paths = tuple(map(Path, paths))
    if not paths:
        raise DeSTSegError("There are no images to load: the list of files is empty. Name some.")
    if size < 1:
        raise DeSTSegError(f"The image size is {size}, expected a positive number of pixels.")
    shape = (len(paths), size, size, 3)
    with tqdm(total=len(paths), desc=description, unit="image", disable=not progress) as bar:
        task = _Task(paths, size, skip_unreadable, bar, view or View())
        if np.prod(shape) <= memory_share * psutil.virtual_memory().available:
            pixels, unreadable = np.empty(shape, np.uint8), _Unreadable()
            for row, image in enumerate(_readable(task, range(len(paths)), unreadable)):
                pixels[row] = image
        else:
            pixels, unreadable = _load_on_disk(task, cache_dir)
    if len(unreadable) == len(paths):
        raise DeSTSegError(
            f"None of the {len(paths)} images can be read. The first: {unreadable[0]}"
        )
    kept = tuple(path for index, path in enumerate(paths) if index not in unreadable)
    skipped = tuple((paths[index], why) for index, why in unreadable.items())
    return ImageSet(pixels[: len(kept)], kept, skipped)


def decode_files(
    paths: Sequence[Path], size: int, view: View | None = None
) -> Iterator[NDArray[np.uint8] | DeSTSegError]:
    """Yield each file's (size, size, 3) image, or the error if it is unreadable, in order.

    Files are decoded in parallel; the number of images that wait for their turn is bounded.
    """

    def image_or_error(path: Path) -> NDArray[np.uint8] | DeSTSegError:
        try:
            return read_image(path, size, view)
        except DeSTSegError as error:
            return error

    waiting: deque[Future[NDArray[np.uint8] | DeSTSegError]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for path in paths:
            waiting.append(pool.submit(image_or_error, path))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def white_level(paths: Sequence[Path]) -> int:
    """What is white in a training set's 16-bit images: 2^k - 1, the least that none exceeds.

    Cameras write 10, 12 or 14 bits into files of 16; read as 16 bits they would be nearly black.
    65535 for a set without 16-bit images.
    """
    found = _brightest(paths)
    return WHITE if found is None else max(255, (1 << found.bit_length()) - 1)


def white_level_advice(paths: Sequence[Path], white: int) -> str | None:
    """What to say of 16-bit images that are much brighter or darker than those trained on."""
    found = _brightest(paths)
    if found is None or white / 4 <= found <= white:
        return None
    much = "their brightest parts are cut off" if found > white else "they are read nearly black"
    return (
        f"warning: the brightest value of these 16-bit images is {found}, but the run takes "
        f"{white} for white, so {much}. Take them as the training images were taken, or train on "
        "images like these"
    )


def _brightest(paths: Sequence[Path]) -> int | None:
    """The largest value of all 16-bit images; None if there are none. Unreadable ones are left."""

    def value(path: Path) -> int | None:
        try:
            return brightest(path)
        except DeSTSegError:  # it is reported when it is decoded
            return None

    with ThreadPoolExecutor(_WORKERS) as pool:
        return max((v for v in pool.map(value, paths) if v is not None), default=None)


def chunks(count: int, size: int, start: int = 0) -> Iterator[range]:
    """Split the files from ``start`` to ``count`` into chunks of at most 32 MB of decoded images.

    Results must not depend on the machine, and a model's last bits depend on how images are put
    into batches, so the length depends on ``size`` only (below 800 pixels, on any machine).
    """
    length = max(_WORKERS, _CHUNK_BYTES // (3 * size**2))
    return (range(first, min(first + length, count)) for first in range(start, count, length))


def check_free_space(folder: Path, needed: int) -> None:
    """Raise DeSTSegError if a folder's disk has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DeSTSegError(
            f"About {needed / 1e9:.1f} GB are needed in {folder}, which has {free / 1e9:.1f} GB "
            "free. Make room or choose another folder."
        )


def _readable(
    task: _Task, indices: Sequence[int], unreadable: _Unreadable
) -> Iterator[NDArray[np.uint8]]:
    """Decode some of the files; those to skip are added to ``unreadable``."""
    images = decode_files([task.paths[index] for index in indices], task.size, task.view)
    for index, image in zip(indices, images, strict=True):
        task.bar.update()
        if not isinstance(image, DeSTSegError):
            yield image
        elif task.skip_unreadable:
            unreadable[index] = str(image)
        else:
            raise image


def _load_on_disk(task: _Task, folder: Path | None) -> tuple[NDArray[np.uint8], _Unreadable]:
    """Return the images as a read-only memory map of a file that is made if it is not there."""
    if folder is None:
        import pooch  # here, because the library must import without it

        folder = pooch.os_cache("destseg")
    whole = Path(folder, f"{_key(task)}.npy")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        # Processes that load the same images at the same time decode them once.
        lock = FileLock(whole.with_suffix(".lock"))
        try:
            held = lock.acquire(timeout=0.5)
        except Timeout:
            task.bar.set_postfix_str("waiting for another process that decodes the same images")
            held = lock.acquire()
        with held:
            unreadable = _complete(task, whole)
        return np.load(whole, mmap_mode="r"), unreadable
    except OSError as error:
        raise DeSTSegError(
            f"The decoded images cannot be kept in {folder}: {error}. Make room there or choose "
            "another folder; the images decoded so far are kept and will be reused."
        ) from error


def _complete(task: _Task, whole: Path) -> _Unreadable:
    """Write the file of decoded images, continuing where an interrupted call left it."""
    partial, note = whole.with_suffix(PARTIAL), whole.with_suffix(".json")
    image_bytes = 3 * task.size**2
    done, unreadable = _earlier_progress(whole if whole.exists() else partial, note)
    # Unreadable files are tried again: permission to read changes neither size nor date.
    repaired = any(True for _ in _readable(task, [*unreadable], {}))
    task.bar.reset()
    if repaired or not done:
        done, unreadable = 0, {}
        for path in (note, whole):
            path.unlink(missing_ok=True)
        shape = (len(task.paths), task.size, task.size, 3)
        np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    task.bar.update(done)
    if whole.exists():
        return unreadable
    check_free_space(whole.parent, (len(task.paths) - done) * image_bytes)
    # Plain writes, not a writable memory map: a full disk is then an error and not a crash.
    with partial.open("r+b") as file:
        file.seek((done - len(unreadable) - len(task.paths)) * image_bytes, os.SEEK_END)
        for chunk in chunks(len(task.paths), task.size, done):
            for image in _readable(task, chunk, unreadable):
                file.write(image.data)
            file.flush()
            os.fsync(file.fileno())
            write_json(note, {"done": chunk.stop, "failed": [*unreadable.items()]})
    partial.replace(whole)
    for leftover in whole.parent.glob(f"{note.name}*{PARTIAL}"):  # of a process that was killed
        leftover.unlink()
    return unreadable


def _earlier_progress(array: Path, note: Path) -> tuple[int, _Unreadable]:
    """Return how many files an earlier call has decoded, and those that it could not read."""
    try:
        np.load(array, mmap_mode="r")  # a file that was cut short cannot be mapped
        saved = read_json(note)
        return saved["done"], {int(index): str(why) for index, why in saved["failed"]}
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return 0, {}


def _key(task: _Task) -> str:
    """Hash what decoding depends on: which files in which order, their size and date, ``size``."""
    view = "" if task.view.white == WHITE else f" {task.view.white}"
    view += "" if task.view.crop is None else f" {task.view.crop}"
    digest = hashlib.sha256(f"{_FORMAT} {task.size}{view}".encode())
    for path in task.paths:
        try:
            status = path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            stamp = "unreadable"  # decoding says why
        digest.update(f"\0{path.absolute()}\0{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
