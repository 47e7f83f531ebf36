"""The embedded world: products to train and test on that need no download.

Every image is drawn from a seed (``destseg_lib.drawn``): the same numbers in memory as on disk.
On disk a product has MVTec AD's layout, so that nothing else needs to know where it came from.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from destseg_lib.config import MVTEC_ROTATION, Rotation
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.photograph import DefectivePhotograph, photograph, photograph_defect
from destseg_lib.errors import DeSTSegError

WORLD = Path("data/world")  # where drawn categories are kept
GOOD = "good"
MANIFEST = "made.json"
VERSION = 1  # of the drawings: raised when a change gives other pixels for the same seed
_TRAIN, _TEST = 0, 1


@dataclass(frozen=True)
class Counts:
    """How many images of a product are drawn.

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
    """A product's images in memory.

    Attributes:
        train: (N, S, S, 3) uint8 RGB, all good.
        test: (M, S, S, 3) uint8 RGB, the good ones first.
        masks: (M, S, S) bool, where test images are defective.
        defects: M defect types, ``good`` for none.
    """

    name: str
    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    defects: tuple[str, ...]


def find_drawn(name: str) -> DrawnCategory:
    """A product by name.

    Raises:
        DeSTSegError: there is none of this name.
    """
    for product in CATEGORIES:
        if product.name == name:
            return product
    known = ", ".join(product.name for product in CATEGORIES)
    raise DeSTSegError(f"there is no product {name!r}; choose one of {known}")


def rotation_for(category: str, otherwise: Rotation) -> Rotation:
    """How far images of a category may be turned: a drawn product's or MVTec AD's, by name."""
    drawn = {product.name: product.rotation for product in CATEGORIES}
    return (MVTEC_ROTATION | drawn).get(category, otherwise)


def draw_category(
    name: str,
    size: int = 256,
    counts: Counts | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
) -> DrawnImages:
    """Draw a product's images into memory.

    Args:
        name: of one of ``CATEGORIES``.
        size: S, the side in pixels.
        counts: how many of each.
        seed: another seed is another delivery of the same product.
        progress: show a bar.

    Raises:
        DeSTSegError: no such product, or a size that is too small.
    """
    product, counts = find_drawn(name), counts or Counts()
    total = counts.train + counts.good + counts.defective * len(product.defects)
    train = np.empty((counts.train, size, size, 3), np.uint8)
    test = np.empty((total - counts.train, size, size, 3), np.uint8)
    masks = np.zeros(test.shape[:3], bool)
    defects: list[str] = []
    with tqdm(total=total, desc=f"drawing {name}", unit="image", disable=not progress) as bar:
        for n, drawn in enumerate(_in_order(product, size, counts, seed)):
            bar.update()
            if n < counts.train:
                train[n] = drawn.image
                continue
            place = n - counts.train
            test[place] = drawn.image
            if drawn.mask is not None:
                masks[place] = drawn.mask
            defects.append(drawn.defect)
    return DrawnImages(name, train, test, masks, tuple(defects))


def write_category(
    name: str,
    folder: Path,
    size: int = 256,
    counts: Counts | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
) -> Path:
    """Write a product to ``folder``/name in MVTec AD's layout; what is there already is kept.

    Args:
        name: of one of ``CATEGORIES``.
        folder: of the products; made if need be.
        size: S, the side in pixels.
        counts: how many of each.
        seed: as ``draw_category``.
        progress: show a bar.

    Returns:
        the product's folder.

    Raises:
        DeSTSegError: no such product, the folder holds something else, or cannot be written.
    """
    product, counts = find_drawn(name), counts or Counts()
    root = Path(folder) / name
    made = {"version": VERSION, "size": size, "seed": seed, **asdict(counts)}
    if (root / MANIFEST).exists():
        there = json.loads((root / MANIFEST).read_text())
        if there != made:
            raise DeSTSegError(
                f"{root} holds {name} drawn otherwise ({_differences(there, made)}); remove the "
                "folder, or choose another"
            )
        return root
    if root.exists() and any(p.is_file() and p.suffix != ".png" for p in root.rglob("*")):
        raise DeSTSegError(f"{root} holds files that are not {name}'s; choose another folder")
    total = counts.train + counts.good + counts.defective * len(product.defects)
    with tqdm(total=total, desc=f"drawing {name}", unit="image", disable=not progress) as bar:
        for _ in _in_order(product, size, counts, seed, save=root):
            bar.update()
    # Last, and in one go: a folder without it was interrupted, and is drawn again.
    partial = root / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(made, indent=2) + "\n")
    partial.replace(root / MANIFEST)
    return root


@dataclass(frozen=True)
class _Drawn:
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    defect: str


def _in_order(
    product: DrawnCategory, size: int, counts: Counts, seed: int, save: Path | None = None
) -> Iterator[_Drawn]:
    """Draw in threads, most of numpy's work being outside Python's lock; give out in order."""
    jobs = [("train", GOOD, n) for n in range(counts.train)]
    jobs += [("test", GOOD, n) for n in range(counts.good)]
    jobs += [("test", defect, n) for defect in product.defects for n in range(counts.defective)]

    def draw(job: tuple[str, str, int]) -> _Drawn:
        part, defect, n = job
        drawn = _draw(product, size, seed, *job)
        if save is not None:
            _write(drawn.image, save / part / defect / f"{n:03d}.png")
            if drawn.mask is not None:
                mask = drawn.mask.astype(np.uint8) * np.uint8(255)
                _write(mask, save / "ground_truth" / defect / f"{n:03d}_mask.png")
        return drawn

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as threads:
        try:
            # A few rounds ahead and no more: a whole product need not wait in memory.
            ahead = [threads.submit(draw, job) for job in jobs[: 4 * workers]]
            for n in range(len(jobs)):
                drawn = ahead.pop(0).result()
                if n + 4 * workers < len(jobs):
                    ahead.append(threads.submit(draw, jobs[n + 4 * workers]))
                yield drawn
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _draw(product: DrawnCategory, size: int, seed: int, part: str, defect: str, n: int) -> _Drawn:
    # By name, not by place: adding a product or a defect leaves the others' images as they are.
    names = zlib.crc32(product.name.encode()), zlib.crc32(defect.encode())
    place = (seed, *names, _TRAIN if part == "train" else _TEST, n)
    if defect == GOOD:
        return _Drawn(photograph(product, size, place), None, GOOD)
    drawn: DefectivePhotograph = photograph_defect(product, defect, size, place)
    return _Drawn(drawn.image, drawn.mask, defect)


def _write(pixels: NDArray[np.uint8], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
    except OSError as error:
        raise DeSTSegError(
            f"{path} could not be written ({error}); free some space or choose another folder"
        ) from error


def _differences(there: dict[str, int], wanted: dict[str, int]) -> str:
    return ", ".join(
        f"{key} {there.get(key)} instead of {value}"
        for key, value in wanted.items()
        if there.get(key) != value
    )
