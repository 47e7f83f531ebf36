"""The test images of a category, scored: what its metrics are computed from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from destseg_lib.config import TOP_PIXELS
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.scoring import score_files
from destseg_lib.evaluation.streaming import ExactMetrics, StreamingMetrics
from destseg_lib.images.folders import Category, TestImage
from destseg_lib.images.read import Mask, image_size, read_mask
from destseg_lib.metrics import image_scores
from destseg_lib.runs.exported import AnyRun
from destseg_lib.runs.threads import Threads
from destseg_lib.runs.tiles import map_size

# Both maps and the mask are kept (9 bytes); one map at a time is put together with its masks (5),
# and the metrics keep sorted scores and numbered regions of it (16).
BYTES_PER_PIXEL = 30
GOOD = "good"  # the name of normal images' folder, where defective ones have a defect type


class Tested:
    """Metrics of both maps and of each defect type, fed one test image at a time."""

    def __init__(self, category: Category, size: int, memory_share: float) -> None:
        needed = len(category.test) * size**2 * BYTES_PER_PIXEL
        available = psutil.virtual_memory().available
        self.exact = not category.has_masks or needed <= memory_share * available
        new = ExactMetrics if self.exact else StreamingMetrics
        self.final, self.student = new(), new()
        self.by_defect = {image.defect: new() for image in category.test if image.defect != GOOD}
        self.images: list[TestImage] = []
        self.scores: list[float] = []
        self.regions_before = self.regions_lost = 0

    def add(self, image: TestImage, mask: Mask | None, final: Scored, student: Scored) -> None:
        """Take an image; ``mask`` is None where the category has no masks."""
        pixels = None if mask is None else mask.pixels
        self.final.update(final.map, pixels, final.score, image.defect != GOOD)
        self.student.update(student.map, pixels, student.score, image.defect != GOOD)
        for defect, metrics in self.by_defect.items():
            if image.defect in (defect, GOOD):
                metrics.update(final.map, pixels, final.score, image.defect != GOOD)
        self.images.append(image)
        self.scores.append(final.score)
        if mask is not None:
            self.regions_before += mask.regions_before
            self.regions_lost += max(0, mask.regions_before - mask.regions_after)


class Scored(NamedTuple):
    """One image's map (256, 256) and image score."""

    map: NDArray[np.float32]
    score: float


def score_test_images(
    run: AnyRun,
    category: Category,
    memory_share: float,
    skipped: list[tuple[Path, str]] | None,
    progress: bool,
    threads: Threads = None,
) -> Tested:
    """Score a category's test images and give them, one at a time, to the metrics.

    Args:
        run: the trained model.
        category: with test images.
        memory_share: of the available memory; maps that need more are streamed.
        skipped: collects (file, why) of unreadable files; None: the first one is an error.
        progress: show a bar.
        threads: as ``score_files`` takes them.

    Raises:
        DeSTSegError: an unreadable image or mask, or nothing is left of them.
    """
    size = map_size(run.config)
    tested = Tested(category, size, memory_share)
    empty = Mask(np.zeros((size, size), np.uint8), 0, 0)
    empty_masks: list[Path] = []
    paths, name = [image.path for image in category.test], f"testing {category.name}"
    batches = score_files(
        run, paths, skipped=skipped, progress=progress, description=name, threads=threads
    )
    for batch in batches:
        student_scores = image_scores(batch.maps.student, TOP_PIXELS)
        for row, index in enumerate(batch.indices):
            image = category.test[index]
            mask = empty if category.has_masks else None  # a good image has nothing to mark
            try:
                if image.mask is not None:
                    mask = read_mask(image.mask, size, image_size(image.path), run.view)
                    if not mask.regions_before:
                        empty_masks.append(image.mask)
            except DeSTSegError as error:
                if skipped is None:
                    raise
                skipped.append((image.path, str(error)))
                continue
            final = Scored(batch.maps.final[row], float(batch.scores[row]))
            student = Scored(batch.maps.student[row], float(student_scores[row]))
            tested.add(image, mask, final, student)
    if empty_masks:
        print(
            f"note: masks of defective images that mark nothing: {len(empty_masks)}, the first is "
            f"{empty_masks[0]}; these images count as defective, all their pixels as normal"
        )
    if not tested.images:
        assert skipped
        raise DeSTSegError(f"None of the masks of {category.root} can be read: {skipped[0][1]}")
    return tested
