"""A trained model on the labelled test images of one category, or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from destseg_lib.device import check_threads, resolve_device
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.named_file import named_file
from destseg_lib.evaluation.pictures import case_sheet, heat_scale, pick_cases
from destseg_lib.evaluation.result import (
    DefectMetrics,
    Evaluation,
    ImageCounts,
    MapMetrics,
    Summary,
    skipped_file,
)
from destseg_lib.evaluation.scoring import print_advice
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.evaluation.tested import GOOD, score_test_images
from destseg_lib.files.outputs import is_inside, outputs
from destseg_lib.images.folders import Category, find_categories
from destseg_lib.runs.exported import AnyRun, looking_at
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import CONFIG, READ, load_run
from destseg_lib.runs.threads import Threads
from destseg_lib.runs.tiles import map_size
from destseg_lib.threshold import apply_threshold, threshold_at

COMMAND = "evaluate"  # as the lists of written files name it


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
    threads: Threads = None,
    save: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """Measure a run on a category's test images, at 256 pixels for any size it was trained at.

    With tiles it is measured on the stitched maps, at their size.

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
        threads: of the network on a CPU: a number, ``auto`` for one or all, whichever is faster at
            the moment, or None for as many as torch has.
        save: given the metrics before the figure is drawn: a figure that fails does not cost them.

    Raises:
        DeSTSegError: no test images, an unreadable file, a figure that may not be written, or a
            rate that cannot be resolved.
    """
    # Bad input is refused before the work, not after it.
    check_threads(threads)
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
    print_advice(run, [image.path for image in category.test])
    skipped: list[tuple[Path, str]] | None = [] if skip_unreadable else None
    tested = score_test_images(run, category, memory_share, skipped, progress, threads)
    counts = Counter(image.defect for image in tested.images)
    good, defects = counts.pop(GOOD, 0), sorted(counts)
    measured = [tested.final, tested.student, *(tested.by_defect[defect] for defect in defects)]
    bar = tqdm(measured, "measuring", unit="set", disable=not progress, leave=False)
    final, student, *of_defects = (metrics.compute() for metrics in bar)
    scores = np.array(tested.scores)
    labels = np.array([image.defect != GOOD for image in tested.images])
    evaluation = Evaluation(
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
        metric_size=map_size(run.config),
        regions_before_resizing=tested.regions_before,
        regions_lost=tested.regions_lost,
        skipped=[skipped_file(path, why, category.root) for path, why in skipped or ()],
        threshold=None if threshold is None else apply_threshold(threshold, scores, labels),
        teacher=Path(run.teacher_name).name,
        seed=run.config.seed,
        config=run.config,
        provenance=provenance(run.device) | ({} if threads is None else {"threads": threads}),
        error_bounds=None
        if tested.exact
        else (_map_metrics(final["error_bound"]), _map_metrics(student["error_bound"])),
    )
    if save is not None:
        save(evaluation)
    if figure is not None:
        cases = pick_cases(run, tested.images, labels, scores, threshold)
        sheet = case_sheet(cases, scale=heat_scale(run, threshold))
        drawn.write(figure.name, lambda file: sheet.savefig(file, dpi=100, format="png"))
    return evaluation


def evaluate(
    run: Path | AnyRun,
    data: Path,
    *,
    device: torch.device | None = None,
    fpr: float | None = None,
    crop: tuple[int, int, int, int] | None = None,
    tiles: int | None = None,
    figures: Path | None = None,
    json: Path | None = None,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    progress: bool = True,
    threads: Threads = None,
) -> Evaluation | Summary:
    """Evaluate on one category, or on each of a folder of several.

    Args:
        run: a run or its folder, used for every category; or a folder of runs named like the
            categories.
        data: one category, or a folder of them.
        device: None chooses.
        fpr: like the options not described here, as ``evaluate_category`` takes it.
        crop: another part than the run's own, as ``looking_at`` takes it.
        tiles: the same for tiles.
        figures: a folder for one PNG per category.
        json: a file for the results; after each category it is written with those so far.
        overwrite: replace files that are not from an earlier evaluation; never one that is read.
        skip_unreadable: leave unreadable files out.
        progress: show bars.
        threads: as ``evaluate_category`` takes them.

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

    def results() -> Evaluation | Summary:
        return Summary(tuple(evaluations)) if len(categories) > 1 else evaluations[0]

    def save(evaluation: Evaluation) -> None:
        evaluations.append(evaluation)
        if file is not None and (len(evaluations) == len(categories) or not file.stream):
            file.write_json(results().to_dict())

    for category in categories:
        trained = run if isinstance(run, AnyRun) else load_run(folders[category.name], device)
        evaluate_category(
            looking_at(trained, crop, tiles),
            category,
            fpr=fpr,
            figure=None if figures is None else figures / f"{category.name}.png",
            skip_unreadable=skip_unreadable,
            overwrite=overwrite,
            progress=progress,
            threads=threads,
            save=save,
        )
    return results()


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


def _map_metrics(found: dict[str, Any]) -> MapMetrics:
    return MapMetrics(**{name: found[name] for name in METRIC_NAMES})
