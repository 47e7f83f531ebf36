"""A trained model on the labelled test images of one category, or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS
from destseg_lib.device import resolve_device
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.named_file import named_file
from destseg_lib.evaluation.pictures import case_sheet, heat_scale, pick_cases
from destseg_lib.evaluation.predict import score_files
from destseg_lib.evaluation.result import (
    DefectMetrics,
    Evaluation,
    ImageCounts,
    MapMetrics,
    Summary,
    skipped_file,
)
from destseg_lib.evaluation.streaming import ExactMetrics, StreamingMetrics
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.files.outputs import is_inside, outputs
from destseg_lib.images.folders import Category, TestImage, find_categories
from destseg_lib.images.load import white_level_advice
from destseg_lib.images.read import Mask, image_size, read_mask
from destseg_lib.metrics import image_scores
from destseg_lib.runs.exported import AnyRun
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import CONFIG, READ, load_run
from destseg_lib.threshold import apply_threshold, threshold_at

# Both maps and the mask are kept (9 bytes); one map at a time is put together with its masks (5),
# and the metrics keep sorted scores and numbered regions of it (16).
BYTES_PER_PIXEL = 30
COMMAND = "evaluate"  # as the lists of written files name it
GOOD = "good"  # the name of normal images' folder, where defective ones have a defect type


def evaluate_category(
    run: AnyRun,
    category: Category,
    *,
    fpr: float | None = None,
    memory_share: float = 0.25,
    figure: Path | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Measure a run on a category's test images, at 256 pixels for any size it was trained at.

    Args:
        run: the trained model.
        category: with test images.
        fpr: false-positive rate of the threshold, as ``threshold_at`` takes it.
        memory_share: of the available memory; maps that need more are not kept but streamed, and
            the metrics come with bounds on their error.
        figure: a PNG of the best and worst cases.
        skip_unreadable: leave unreadable images, and images with unreadable masks, out.
        overwrite: replace a file at ``figure`` that is not a picture of an earlier evaluation.
        progress: show bars.

    Raises:
        DeSTSegError: no test images, an unreadable file, a figure that may not be written, or a
            rate that cannot be resolved.
    """
    # Bad input is refused before the work, not after it.
    threshold = threshold_at(run.calibration_scores, fpr)
    if not category.test:
        raise DeSTSegError(
            f"{category.root} has no test images. Expected test/good and test/<defect> next to "
            "train/good."
        )
    if figure is not None:
        folder, read = figure.parent, _files_of([category])
        drawn = outputs(
            folder, [figure.name], read, by=COMMAND, option="--figures", overwrite=overwrite
        )
        drawn.prepare()
    if advice := white_level_advice([image.path for image in category.test], run.white_level):
        print(advice)
    skipped: list[tuple[Path, str]] | None = [] if skip_unreadable else None
    tested = _test(run, category, memory_share, skipped, progress)
    counts = Counter(image.defect for image in tested.images)
    good, defects = counts.pop(GOOD, 0), sorted(counts)
    measured = [tested.final, tested.student, *(tested.by_defect[defect] for defect in defects)]
    bar = tqdm(measured, "measuring", unit="set", disable=not progress, leave=False)
    final, student, *of_defects = (metrics.compute() for metrics in bar)
    scores = np.array(tested.scores)
    labels = np.array([image.defect != GOOD for image in tested.images])
    if figure is not None:
        cases = pick_cases(run, tested.images, labels, scores, threshold)
        sheet = case_sheet(cases, scale=heat_scale(run, threshold))
        drawn.write(figure.name, lambda file: sheet.savefig(file, dpi=100, format="png"))
    return Evaluation(
        category=category.name,
        final=_map_metrics(final),
        student=_map_metrics(student),
        reasons=final["reasons"],
        exact=tested.exact,
        images=ImageCounts(good, counts.total(), {defect: counts[defect] for defect in defects}),
        defects={
            defect: DefectMetrics(found["image_auroc"], found["pixel_ap"])
            for defect, found in zip(defects, of_defects, strict=True)
        },
        regions=final["regions"],
        regions_before_resizing=tested.regions_before,
        regions_lost=tested.regions_lost,
        skipped=[skipped_file(path, why, category.root) for path, why in skipped or ()],
        threshold=None if threshold is None else apply_threshold(threshold, scores, labels),
        teacher=Path(run.teacher_name).name,
        seed=run.config.seed,
        config=run.config,
        provenance=provenance(run.device),
        error_bounds=None
        if tested.exact
        else (_map_metrics(final["error_bound"]), _map_metrics(student["error_bound"])),
    )


def evaluate(
    run: Path | AnyRun,
    data: Path,
    *,
    device: torch.device | None = None,
    fpr: float | None = None,
    figures: Path | None = None,
    json: Path | None = None,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    progress: bool = True,
) -> Evaluation | Summary:
    """Evaluate on one category, or on each of a folder of several.

    Args:
        run: a run or its folder, used for every category; or a folder of runs named like the
            categories.
        data: one category, or a folder of them.
        device: None chooses.
        fpr: like the options not described here, as ``evaluate_category`` takes it.
        figures: a folder for one PNG per category.
        json: a file for the results; after each category it is written with those so far.
        overwrite: replace files that are not from an earlier evaluation; never one that is read.
        skip_unreadable: leave unreadable files out.
        progress: show bars.

    Raises:
        DeSTSegError: as ``evaluate_category``; also if a category has no run, or ``json`` may not
            be written.
    """
    device = device or resolve_device()
    categories = find_categories(data)
    folders = {} if isinstance(run, AnyRun) else _run_folders(Path(run), categories, fpr)
    read = _files_of(categories)
    read += (folder / name for folder in set(folders.values()) for name in READ)
    if figures is not None:
        if is_inside(figures, data):
            raise DeSTSegError(
                f"{figures} is in {data}, whose images are measured; choose another --figures"
            )
        names = [f"{category.name}.png" for category in categories]
        outputs(figures, names, read, by=COMMAND, option="--figures", overwrite=overwrite)
    file = None
    if json is not None:
        file = named_file(json, read, [data], by=COMMAND, option="--json", overwrite=overwrite)
    evaluations: list[Evaluation] = []
    for category in categories:
        evaluations.append(
            evaluate_category(
                run if isinstance(run, AnyRun) else load_run(folders[category.name], device),
                category,
                fpr=fpr,
                figure=None if figures is None else figures / f"{category.name}.png",
                overwrite=overwrite,
                skip_unreadable=skip_unreadable,
                progress=progress,
            )
        )
        several, last = len(categories) > 1, len(evaluations) == len(categories)
        results = Summary(tuple(evaluations)) if several else evaluations[0]
        if file is not None and (last or not file.stream):
            file.write_json(results.to_dict())
    return results


def _files_of(categories: Sequence[Category]) -> list[Path]:
    """Every file of some categories: good images, test images and masks."""
    tested = [image for category in categories for image in category.test]
    masks = [image.mask for image in tested if image.mask is not None]
    good = [path for category in categories for path in category.train]
    return [*good, *(image.path for image in tested), *masks]


def _run_folders(run: Path, categories: tuple[Category, ...], fpr: float | None) -> dict[str, Path]:
    """The run's folder of each category; all are checked before the first is used."""
    folders = {
        category.name: run if (run / CONFIG).exists() else run / category.name
        for category in categories
    }
    for folder in sorted(set(folders.values())):
        if not (folder / CONFIG).exists():
            raise DeSTSegError(
                f"There is no run in {run} nor in {folder}. Train one with: destseg train --out "
                f"{folder}"
            )
        threshold_at(load_run(folder, torch.device("cpu")).calibration_scores, fpr)
    return folders


class _TestSet:
    """Metrics of both maps and of each defect type, fed one test image at a time."""

    def __init__(self, category: Category, memory_share: float) -> None:
        needed = len(category.test) * METRIC_SIZE**2 * BYTES_PER_PIXEL
        available = psutil.virtual_memory().available
        self.exact = not category.has_masks or needed <= memory_share * available
        new = ExactMetrics if self.exact else StreamingMetrics
        self.final, self.student = new(), new()
        self.by_defect = {image.defect: new() for image in category.test if image.defect != GOOD}
        self.images: list[TestImage] = []
        self.scores: list[float] = []
        self.regions_before = self.regions_lost = 0

    def add(self, image: TestImage, mask: Mask | None, final: _Scored, student: _Scored) -> None:
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


class _Scored(NamedTuple):
    """One image's map (256, 256) and image score."""

    map: NDArray[np.float32]
    score: float


def _test(
    run: AnyRun,
    category: Category,
    memory_share: float,
    skipped: list[tuple[Path, str]] | None,
    progress: bool,
) -> _TestSet:
    tested = _TestSet(category, memory_share)
    empty = Mask(np.zeros((METRIC_SIZE, METRIC_SIZE), np.uint8), 0, 0)
    empty_masks: list[Path] = []
    paths, name = [image.path for image in category.test], f"testing {category.name}"
    for batch in score_files(run, paths, skipped=skipped, progress=progress, description=name):
        student_scores = image_scores(batch.maps.student, TOP_PIXELS)
        for row, index in enumerate(batch.indices):
            image = category.test[index]
            mask = empty if category.has_masks else None  # a good image has nothing to mark
            try:
                if image.mask is not None:
                    mask = read_mask(image.mask, METRIC_SIZE, image_size(image.path))
                    if not mask.regions_before:
                        empty_masks.append(image.mask)
            except DeSTSegError as error:
                if skipped is None:
                    raise
                skipped.append((image.path, str(error)))
                continue
            final = _Scored(batch.maps.final[row], float(batch.scores[row]))
            student = _Scored(batch.maps.student[row], float(student_scores[row]))
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


def _map_metrics(found: dict[str, Any]) -> MapMetrics:
    return MapMetrics(**{name: found[name] for name in METRIC_NAMES})
