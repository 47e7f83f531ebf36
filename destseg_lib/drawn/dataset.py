"""The embedded world: drawn categories to train and test on without a download.

Every image is drawn from a seed, with the same numbers in memory as on disk. On disk a category has
MVTec AD's layout, so that the rest of the library reads it like any other.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from destseg_lib.config import MVTEC_ROTATION, Rotation
from destseg_lib.drawn import AVAILABLE
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.manifest import (
    MANIFEST,
    UNFINISHED,
    check_only,
    check_settings,
    drawing_lock,
    files_in,
    read_manifest,
)
from destseg_lib.drawn.photograph import check_drawing, photograph, photograph_defect
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import remove_partial_files
from destseg_lib.files.outputs import Outputs, outputs

WORLD = Path("data/world")  # where drawn categories are kept
GOOD = "good"
VERSION = 1  # of the drawings: raised when a change gives other pixels for the same seed
_TRAIN, _TEST = 0, 1

_Job = tuple[str, str, int]  # part (train or test), defect type or GOOD, number
_Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]  # image, and mask if defective


@dataclass(frozen=True)
class ImageCounts:
    """How many images of a category are drawn.

    Attributes:
        train: good images to train on.
        good: good test images.
        defective: test images of each defect type.
    """

    train: int = 120
    good: int = 30
    defective: int = 10

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a negative count."""
        for name, value in asdict(self).items():
            if value < 0:
                raise DeSTSegError(f"{name} is {value}; give zero or more images")


@dataclass(frozen=True)
class DrawnImages:
    """The images of a category in memory.

    Attributes:
        name: the category's.
        train: (N, S, S, 3) uint8 RGB, all good.
        test: (M, S, S, 3) uint8 RGB, the good ones first.
        masks: (M, S, S) bool, True on the defects of the test images.
        defects: the defect type of each test image, ``good`` for none.
    """

    name: str
    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    defects: tuple[str, ...]


def find_drawn(name: str) -> DrawnCategory:
    """Return the drawn category of this name.

    Raises:
        DeSTSegError: there is none.
    """
    found = {category.name: category for category in AVAILABLE}
    if name not in found:
        raise DeSTSegError(f"there is no drawn category {name!r}; choose one of {', '.join(found)}")
    return found[name]


def rotation_for(category: str, otherwise: Rotation) -> Rotation:
    """How far images may be turned, by the name of a drawn category or one of MVTec AD's."""
    drawn = {category.name: category.rotation for category in AVAILABLE}
    return (MVTEC_ROTATION | drawn).get(category, otherwise)


def draw_category(
    name: str,
    size: int = 256,
    counts: ImageCounts | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
) -> DrawnImages:
    """Draw the images of a category into memory.

    Args:
        name: of one of ``AVAILABLE``.
        size: S, the side in pixels.
        counts: how many of each kind; ``ImageCounts()`` if not given.
        seed: another seed gives other images of the same category.
        progress: show a bar.

    Raises:
        DeSTSegError: there is no such category, the size is not a whole number of at least 32, or
            the seed not one of at least 0.

    Example:
        >>> few = ImageCounts(train=2, good=1, defective=1)
        >>> metal = draw_category("metal", 32, few, progress=False)
        >>> metal.train.shape, metal.test.shape, metal.masks.shape
        ((2, 32, 32, 3), (6, 32, 32, 3), (6, 32, 32))
        >>> metal.defects
        ('good', 'scratch', 'dent', 'rust', 'finger', 'spatter')
    """
    category, counts = find_drawn(name), counts or ImageCounts()
    check_drawing(size, seed)
    defects = tuple(defect for part, defect, _ in _jobs(category, counts) if part == "test")
    images = np.empty((counts.train + len(defects), size, size, 3), np.uint8)
    masks = np.zeros((len(defects), size, size), bool)
    for n, (image, mask) in enumerate(_in_order(category, size, counts, seed, progress)):
        images[n] = image
        if mask is not None:
            masks[n - counts.train] = mask
    return DrawnImages(name, images[: counts.train], images[counts.train :], masks, defects)


def write_category(
    name: str,
    folder: Path,
    size: int = 256,
    counts: ImageCounts | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
) -> Path:
    """Write a category to ``folder``/name in MVTec AD's layout.

    A category that is complete is kept; one that was interrupted is drawn again. No other file in
    its folder is touched.

    Args:
        name: of one of ``AVAILABLE``.
        folder: of the categories; it is made if it does not exist.
        size: S, the side in pixels.
        counts: how many of each kind; ``ImageCounts()`` if not given.
        seed: as for ``draw_category``.
        progress: show a bar.

    Returns:
        the category's folder.

    Raises:
        DeSTSegError: as ``draw_category``; also if the folder holds something else, was drawn with
            other settings, or cannot be written.
    """
    category, counts = find_drawn(name), counts or ImageCounts()
    check_drawing(size, seed)
    root, made = Path(folder) / name, _settings(size, seed, counts)
    if drawn_settings(root) == made:
        return root
    with drawing_lock(root):  # another process may be drawing it, too
        check_settings(root, made)
        if drawn_settings(root) == made:
            return root
        files = _files(category, counts)
        check_only(root, files)
        written = outputs(root, [*files, MANIFEST], (), by="make-data", option="folder")
        written.prepare()
        for place in {(root / file).parent for file in files}:
            remove_partial_files(place)
        # First, so that what is interrupted is only continued with the same settings.
        written.write_json(MANIFEST, {**made, UNFINISHED: True})
        for _ in _in_order(category, size, counts, seed, progress, save=written):
            pass
        written.write_json(MANIFEST, made)
    return root


def drawn_settings(root: Path) -> dict[str, Any] | None:
    """What a folder's images were drawn with: version, size, seed and counts.

    None unless the folder holds all files of a drawn category, and no others.
    """
    drawn = {category.name: category for category in AVAILABLE}.get(root.resolve().name)
    if drawn is None:
        return None
    try:
        there = read_manifest(root) or {}
        counts = ImageCounts(there["train"], there["good"], there["defective"])
    except (KeyError, TypeError, DeSTSegError):
        return None
    whole = UNFINISHED not in there and files_in(root) == {*_files(drawn, counts), MANIFEST}
    return there if whole else None


def default_settings() -> dict[str, Any]:
    """What ``write_category`` draws with if nothing is said."""
    return _settings(256, 0, ImageCounts())


def _settings(size: int, seed: int, counts: ImageCounts) -> dict[str, Any]:
    return {"version": VERSION, "size": size, "seed": seed, **asdict(counts)}


def _jobs(category: DrawnCategory, counts: ImageCounts) -> list[_Job]:
    """All images of a category, in order."""
    jobs = [("train", GOOD, n) for n in range(counts.train)]
    jobs += [("test", GOOD, n) for n in range(counts.good)]
    return jobs + [("test", d, n) for d in category.defects for n in range(counts.defective)]


def _files(category: DrawnCategory, counts: ImageCounts) -> list[str]:
    """All files of a category but its manifest, by their paths from its folder."""
    jobs = _jobs(category, counts)
    masks = [_mask_name(job) for job in jobs if job[1] != GOOD]
    return [*map(_image_name, jobs), *masks]


def _image_name(job: _Job) -> str:
    part, defect, n = job
    return f"{part}/{defect}/{n:03d}.png"


def _mask_name(job: _Job) -> str:
    _, defect, n = job
    return f"ground_truth/{defect}/{n:03d}_mask.png"


def _in_order(
    category: DrawnCategory,
    size: int,
    counts: ImageCounts,
    seed: int,
    progress: bool,
    save: Outputs | None = None,
) -> Iterator[_Drawn]:
    """Draw in threads, because NumPy mostly runs without Python's lock; yield images in order."""
    jobs = _jobs(category, counts)

    def draw(job: _Job) -> _Drawn:
        image, mask = _draw(category, size, seed, job)
        if save is not None:
            _write(image, save, _image_name(job))
            if mask is not None:
                _write(mask.astype(np.uint8) * np.uint8(255), save, _mask_name(job))
        return image, mask

    workers = os.cpu_count() or 1
    bar = tqdm(total=len(jobs), desc=f"drawing {category.name}", unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(workers) as threads:
        try:
            # Only a few rounds ahead, so that memory does not fill with images that wait.
            ahead = [threads.submit(draw, job) for job in jobs[: 4 * workers]]
            for n in range(len(jobs)):
                drawn = ahead.pop(0).result()
                if n + 4 * workers < len(jobs):
                    ahead.append(threads.submit(draw, jobs[n + 4 * workers]))
                bar.update()
                yield drawn
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _draw(category: DrawnCategory, size: int, seed: int, job: _Job) -> _Drawn:
    """One image (S, S, 3), and its mask (S, S) if it is defective."""
    part, defect, n = job
    # Seeded by name, not by place: a new category or defect leaves the other images as they are.
    names = zlib.crc32(category.name.encode()), zlib.crc32(defect.encode())
    place = (seed, *names, _TRAIN if part == "train" else _TEST, n)
    if part == "test" and category.draw_test is not None:
        category = replace(category, draw=category.draw_test)
    if defect == GOOD:
        return photograph(category, size, place), None
    drawn = photograph_defect(category, defect, size, place)
    return drawn.image, drawn.mask


def _write(pixels: NDArray[np.uint8], outputs: Outputs, name: str) -> None:
    picture = Image.fromarray(pixels)
    outputs.write(name, lambda file: picture.save(file, "PNG", compress_level=1), sync=False)
