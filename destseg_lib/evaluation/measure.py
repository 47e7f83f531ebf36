"""One pass over a category's test images, and every figure of the final and the student map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.score import score_files
from destseg_lib.evaluation.streaming import StreamingMetrics
from destseg_lib.images.folders import Category, TestImage
from destseg_lib.images.read import Mask, image_size, read_mask
from destseg_lib.metrics import anomaly_metrics, image_scores
from destseg_lib.runs.run import Run

GOOD = "good"
# Both maps and the mask are kept (9 bytes); of one map at a time the metrics keep sorted scores
# and numbered regions (16).
BYTES_A_PIXEL = 25

Figures = dict[str, Any]


class Measured(NamedTuple):
    """A test set's scores and figures.

    ``final`` and ``student`` are what ``anomaly_metrics`` returns, with ``error_bound`` where
    ``exact`` is False; ``defects`` holds the final map's for each defect type against the good
    images. ``scores`` (N,) are the final map's, in the order of ``images``.
    """

    images: tuple[TestImage, ...]
    scores: NDArray[np.float64]
    final: Figures
    student: Figures
    defects: dict[str, Figures]
    exact: bool
    regions_before: int
    regions_lost: int
    skipped: tuple[tuple[Path, str], ...]


class _Subset(NamedTuple):
    """Which map (0 the final, 1 the student's) on which images: all, or one defect and the good."""

    which: int
    defect: str | None = None

    def holds(self, image: TestImage) -> bool:
        return self.defect is None or image.defect in (self.defect, GOOD)


class _Seen(NamedTuple):
    """One test image: maps (256, 256) and image scores, final and student, and its mask."""

    image: TestImage
    maps: tuple[NDArray[np.float32], NDArray[np.float32]]
    scores: tuple[float, float]
    mask: Mask | None


def measure(
    run: Run,
    category: Category,
    *,
    memory_share: float = 0.25,
    skip_unreadable: bool = False,
    progress: bool = True,
) -> Measured:
    """Measure a run on a category's test images, at 256 pixels whatever it was trained at.

    Args:
        run: the trained model.
        category: with test images.
        memory_share: of the available memory; maps that need more are counted as they come, with
            a bound on the error.
        skip_unreadable: leave unreadable images, and images with unreadable masks, out.
        progress: show bars.

    Raises:
        DeSTSegError: an unreadable file, or no test images.
    """
    if not category.test:
        raise DeSTSegError(
            f"{category.root} has no test images. Expected test/good and test/<defect> beside "
            "train/good."
        )
    defects = sorted({image.defect for image in category.test} - {GOOD})
    subsets = [_Subset(0), _Subset(1), *(_Subset(0, defect) for defect in defects)]
    needed = len(category.test) * METRIC_SIZE**2 * BYTES_A_PIXEL
    exact = not category.has_masks or needed <= memory_share * psutil.virtual_memory().available
    collected = _Kept(category) if exact else _Streamed(subsets)
    skipped: list[tuple[Path, str]] = []
    images: list[TestImage] = []
    scores: list[float] = []
    before = lost = 0
    for seen in _look(run, category, skipped, skip_unreadable, progress):
        collected.add(seen)
        images.append(seen.image)
        scores.append(seen.scores[0])
        if seen.mask is not None:
            before += seen.mask.regions_before
            lost += max(0, seen.mask.regions_before - seen.mask.regions_after)
    if not images:
        raise DeSTSegError(f"None of the masks of {category.root} can be read: {skipped[0][1]}")
    present = [s for s in subsets if s.defect is None or any(i.defect == s.defect for i in images)]
    bar = tqdm(present, desc="measuring", unit="set", disable=not progress, leave=False)
    final, student, *rest = (collected.figures(subset) for subset in bar)
    by_defect = {str(s.defect): figures for s, figures in zip(present[2:], rest, strict=True)}
    return Measured(
        tuple(images),
        np.array(scores),
        final,
        student,
        by_defect,
        exact,
        before,
        lost,
        tuple(skipped),
    )


def _look(
    run: Run,
    category: Category,
    skipped: list[tuple[Path, str]],
    skip_unreadable: bool,
    progress: bool,
) -> Iterator[_Seen]:
    batches = score_files(
        run,
        [image.path for image in category.test],
        skipped=skipped if skip_unreadable else None,
        progress=progress,
        description=f"testing {category.name}",
    )
    for batch in batches:
        student_scores = image_scores(batch.maps.student, TOP_PIXELS)
        for row, index in enumerate(batch.indices):
            image = category.test[index]
            try:
                mask = _truth(image)
            except DeSTSegError as error:
                if not skip_unreadable:
                    raise
                skipped.append((image.path, str(error)))
                continue
            maps = batch.maps.final[row], batch.maps.student[row]
            yield _Seen(image, maps, (float(batch.scores[row]), float(student_scores[row])), mask)


def _truth(image: TestImage) -> Mask | None:
    if image.mask is None:
        return None
    return read_mask(image.mask, METRIC_SIZE, image_size(image.path))


class _Kept:
    """All maps in memory, for exact figures. Without masks only the image scores matter."""

    def __init__(self, category: Category) -> None:
        side = METRIC_SIZE if category.has_masks else 1
        shape = (len(category.test), side, side)
        self.maps = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.masks = np.zeros(shape, np.uint8) if category.has_masks else None
        self.images: list[TestImage] = []
        self.scores: list[tuple[float, float]] = []

    def add(self, seen: _Seen) -> None:
        place = len(self.images)
        if self.masks is not None:
            for kept, new in zip(self.maps, seen.maps, strict=True):
                kept[place] = new
            if seen.mask is not None:
                self.masks[place] = seen.mask.pixels
        self.images.append(seen.image)
        self.scores.append(seen.scores)

    def figures(self, subset: _Subset) -> Figures:
        rows = [place for place, image in enumerate(self.images) if subset.holds(image)]
        # All of them are looked at where they are; only a part is copied.
        chosen = slice(len(rows)) if len(rows) == len(self.images) else rows
        return anomaly_metrics(
            self.maps[subset.which][chosen],
            None if self.masks is None else self.masks[chosen],
            np.array(self.scores)[rows, subset.which],
            labels=[self.images[place].defect != GOOD for place in rows],
        )


class _Streamed:
    """Maps are counted and forgotten, for figures with a bound on their error."""

    def __init__(self, subsets: list[_Subset]) -> None:
        self.streams = {subset: StreamingMetrics() for subset in subsets}

    def add(self, seen: _Seen) -> None:
        # A set with masks has one for every defective image; a good one has nothing to mark.
        empty = np.zeros((METRIC_SIZE, METRIC_SIZE), np.uint8)
        mask = empty if seen.mask is None else seen.mask.pixels
        for subset, stream in self.streams.items():
            if subset.holds(seen.image):
                score = seen.scores[subset.which]
                stream.update(seen.maps[subset.which], mask, score, seen.image.defect != GOOD)

    def figures(self, subset: _Subset) -> Figures:
        return self.streams[subset].compute()
