"""A trained model on labelled test images: figures with provenance, a table, a sheet of cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS, config_to_dict
from destseg_lib.device import resolve_device
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.measure import GOOD, Figures, Measured, measure
from destseg_lib.evaluation.pictures import Case, evaluation_figure, read_photograph
from destseg_lib.evaluation.predict import heat_scale
from destseg_lib.evaluation.score import predict_maps
from destseg_lib.evaluation.tables import KEYS, results_table, summarise
from destseg_lib.images.folders import Category, find_categories
from destseg_lib.images.read import read_image, read_mask
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import CONFIG, Run, load_run
from destseg_lib.threshold import Threshold, threshold_at

__all__ = ["evaluate", "evaluate_category", "evaluation_figures", "results_table"]

SHOWN = 3  # cases of each kind in a figure
FIGURE_SIDE = 384


def evaluate_category(
    run: Run,
    category: Category,
    *,
    fpr: float | None = None,
    memory_share: float = 0.25,
    figure: Path | None = None,
    skip_unreadable: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Every figure of the paper for one category, as plain JSON values.

    Args:
        run: the trained model.
        category: with test images.
        fpr: false-positive rate of the threshold, as ``threshold_at`` takes it.
        memory_share: of the available memory; above it figures are streamed, ``exact`` is False
            and ``error_bound`` tells how far they can be off.
        figure: a PNG of the best and worst cases.
        skip_unreadable: leave unreadable files out; ``skipped`` lists them.
        progress: show bars.

    Returns:
        the six figures of the final map, the same under ``cosine_product`` for the student map
        (which adds ``student_map`` where the levels are summed), ``reasons`` for those that are
        None, counts, threshold, configuration and provenance.

    Raises:
        DeSTSegError: no test images, an unreadable file, or a rate that cannot be resolved.
    """
    # What can be refused is refused before the work, not after it.
    threshold = threshold_at(run.calibration_scores, fpr)
    if figure is not None:
        try:
            figure.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeSTSegError(
                f"The figure {figure} could not be written ({error}). Choose another --figures."
            ) from error
    measured = measure(
        run,
        category,
        memory_share=memory_share,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    if figure is not None:
        evaluation_figures(run, measured, figure, threshold)
    final, student = measured.final, measured.student
    defects = Counter(image.defect for image in measured.images if image.defect != GOOD)
    good = len(measured.images) - defects.total()
    student_map = {"student_map": "sum"} if run.config.model.student_map == "sum" else {}
    result: dict[str, Any] = {
        "category": category.name,
        **_six(final),
        "cosine_product": _six(student) | student_map,
        "reasons": final["reasons"],
        "exact": measured.exact,
        "images": {
            "good": good,
            "defective": defects.total(),
            "by_defect": dict(sorted(defects.items())),
        },
        "defects": {
            name: {key: figures[key] for key in ("image_auroc", "pixel_ap")}
            for name, figures in measured.defects.items()
        },
        "regions": final["regions"],
        "regions_before_resizing": measured.regions_before,
        "regions_lost": measured.regions_lost,
        "skipped": _relative(measured.skipped, category.root),
        "metric_size": METRIC_SIZE,
        "top_pixels": TOP_PIXELS,
        "threshold": None if threshold is None else _achieved(threshold, measured),
        "teacher": Path(run.teacher_name).name,
        "seed": run.config.seed,
        "config": config_to_dict(run.config),
        "provenance": provenance(next(run.model.student.parameters()).device),
    }
    if not measured.exact:
        bound, of_student = final["error_bound"], student["error_bound"]
        result["error_bound"] = {**_six(bound), "cosine_product": _six(of_student)}
    return result


def evaluate(
    run: Path | Run,
    data: Path,
    *,
    device: torch.device | None = None,
    fpr: float | None = None,
    memory_share: float = 0.25,
    figures: Path | None = None,
    skip_unreadable: bool = False,
    progress: bool = True,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Evaluate on one category, or on each of a folder of several.

    Args:
        run: a run or its folder, used for every category; or a folder of runs named like the
            categories.
        data: one category, or a folder of them.
        device: None chooses.
        fpr: like the options not named here, as ``evaluate_category`` takes it.
        memory_share: of the available memory.
        figures: a folder for one PNG a category.
        skip_unreadable: leave unreadable files out.
        progress: show bars.
        save: called with the results so far after each category.

    Returns:
        ``evaluate_category``'s dict for one category, ``summarise``'s for several.

    Raises:
        DeSTSegError: as ``evaluate_category``; also if a category has no run.
    """
    device = device or resolve_device()
    categories = find_categories(data)
    folders = {} if isinstance(run, Run) else _folders(Path(run), categories, fpr)
    results: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for category in categories:
        results[category.name] = evaluate_category(
            run if isinstance(run, Run) else load_run(folders[category.name], device),
            category,
            fpr=fpr,
            memory_share=memory_share,
            figure=None if figures is None else figures / f"{category.name}.png",
            skip_unreadable=skip_unreadable,
            progress=progress,
        )
        whole = summarise(results) if len(categories) > 1 else results[category.name]
        if save is not None:
            save(whole)
    return whole


def _folders(run: Path, categories: tuple[Category, ...], fpr: float | None) -> dict[str, Path]:
    """The run's folder of each category; what is wrong with the last is known before the first."""
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


def evaluation_figures(
    run: Run, measured: Measured, path: Path, threshold: Threshold | None
) -> None:
    """Draw the surest and the least sure defects, and the good images nearest to an alarm.

    Raises:
        DeSTSegError: an image is unreadable, or the figure cannot be written.
    """
    labels = np.array([image.defect != GOOD for image in measured.images])
    order = np.argsort(-measured.scores, kind="stable")
    defective, good = order[labels[order]], order[~labels[order]]
    kinds = {
        "surest": defective[:SHOWN],
        "least sure": defective[SHOWN:][-SHOWN:],
        "highest good": good[:SHOWN],
    }
    cases = [_case(run, measured, i, kind, threshold) for kind in kinds for i in kinds[kind]]
    evaluation_figure(cases, path, scale=heat_scale(run, threshold))


def _case(run: Run, measured: Measured, index: int, kind: str, threshold: Threshold | None) -> Case:
    image, score = measured.images[index], measured.scores[index]
    pixels = read_image(image.path, run.config.image_size)[None]
    truth = np.zeros((1, 1), np.uint8) if image.defect == GOOD else None
    if image.mask is not None:
        truth = read_mask(image.mask, METRIC_SIZE).pixels
    maps = next(predict_maps(run.model, pixels, precision=run.config.precision, progress=False))
    return Case(
        f"{kind}\n{image.defect}/{image.path.stem}\nscore {score:.3f}",
        read_photograph(image.path, FIGURE_SIDE),
        truth,
        maps.final[0],
        threshold.value if threshold is not None and score > threshold.value else None,
    )


def _achieved(threshold: Threshold, measured: Measured) -> dict[str, Any]:
    """The threshold, and the shares of good and of defective test images above it."""
    labels = np.array([image.defect != GOOD for image in measured.images])
    above = measured.scores > threshold.value
    good, defective = above[~labels], above[labels]
    return {
        **asdict(threshold),
        "achieved_fpr": float(good.mean()) if good.size else None,
        "good_images": good.size,
        "detected": float(defective.mean()) if defective.size else None,
    }


def _relative(skipped: tuple[tuple[Path, str], ...], root: Path) -> list[dict[str, str]]:
    """Where a data set lies on this machine is nobody else's affair."""
    return [
        {"file": path.relative_to(root).as_posix(), "reason": why.replace(f"{root}{os.sep}", "")}
        for path, why in skipped
    ]


def _six(figures: Figures) -> Figures:
    return {key: figures[key] for key in KEYS}
