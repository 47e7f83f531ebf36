"""A folder of photographs to scores, decisions and overlays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.pictures import overlay_names, write_overlay
from destseg_lib.evaluation.score import Maps, ScoredBatch, predict_maps, score_files, score_images
from destseg_lib.files import write_json
from destseg_lib.runs.checkpoint import interrupts_wait
from destseg_lib.runs.run import Run
from destseg_lib.threshold import Threshold, describe_threshold, place_of, threshold_at

__all__ = [
    "Maps",
    "ScoredBatch",
    "Threshold",
    "predict",
    "predict_maps",
    "score_files",
    "score_images",
    "threshold_at",
]

SCORES = "scores.json"
SAVE_EVERY = 60.0  # seconds


def predict(
    run: Run,
    paths: Sequence[Path],
    out: Path,
    *,
    fpr: float | None = None,
    good: Sequence[Path] = (),
    skip_unreadable: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Score photographs; write ``scores.json`` and an overlay a photograph to a folder.

    Whatever ends it early, ``scores.json`` holds all that was finished.

    Args:
        run: the trained model.
        paths: image files; none may lie in ``out`` itself.
        out: made if it is not there.
        fpr: false-positive rate of the threshold, as ``threshold_at`` takes it.
        good: more good images to calibrate on, none of which was trained on.
        skip_unreadable: print unreadable files and go on.
        progress: show bars.

    Returns:
        what ``scores.json`` holds: ``path``, ``score``, ``threshold``, ``anomalous`` an image, the
        last two None where there is nothing to calibrate on.

    Raises:
        DeSTSegError: an unreadable image, a folder that cannot be written, or a rate that cannot be
            resolved.
        KeyboardInterrupt: asked to stop.
    """
    paths, out = tuple(map(Path, paths)), Path(out)
    _check_inputs(paths, out)
    if fpr is not None:
        place_of(fpr, len(run.calibration_scores) + len(good))  # before the work, not after it
    _save(out, [])
    skipped: list[tuple[Path, str]] | None = [] if skip_unreadable else None
    more = score_files(
        run, good, skipped=skipped, progress=progress and bool(good), description="calibrating"
    )
    known = np.concatenate([run.calibration_scores, *(batch.scores for batch in more)])
    threshold = threshold_at(known, fpr)
    print(describe_threshold(threshold))
    scale = heat_scale(run, threshold)
    value = None if threshold is None else threshold.value
    names = overlay_names(paths)
    rows: list[dict[str, Any]] = []
    saved = time.monotonic()
    try:
        with interrupts_wait() as stop, ThreadPoolExecutor() as pool:
            for batch in score_files(run, paths, skipped=skipped, progress=progress):
                found = [None if value is None else bool(s > value) for s in batch.scores]
                drawn = pool.map(
                    write_overlay,
                    [out / names[i] for i in batch.indices],
                    [paths[i] for i in batch.indices],
                    batch.maps.final,
                    [value if anomalous else None for anomalous in found],
                    [scale] * len(found),
                )
                for i, score, anomalous, _ in zip(
                    batch.indices, batch.scores, found, drawn, strict=True
                ):
                    row = {"path": str(paths[i]), "score": float(score)}
                    rows.append({**row, "threshold": value, "anomalous": anomalous})
                if stop():
                    raise KeyboardInterrupt(
                        f"stopped; {out / SCORES} holds {len(rows)} of {len(paths)} images"
                    )
                if time.monotonic() - saved > SAVE_EVERY:
                    _save(out, rows)
                    saved = time.monotonic()
    finally:
        _save(out, rows)
        for path, why in skipped or ():
            print(f"skipped {path}: {why}")
    return rows


def heat_scale(run: Run, threshold: Threshold | None) -> float:
    """The map value that a heat panel paints brightest: the same for all images of a model."""
    if run.config.model.segmentation or threshold is None or threshold.value <= 0:
        return 1.0
    return 2 * threshold.value  # cosine distances have no natural top


def _check_inputs(paths: tuple[Path, ...], out: Path) -> None:
    if not paths:
        raise DeSTSegError("There are no images to score: the list of files is empty.")
    for path in paths:
        if path.parent.absolute() == out.absolute():
            raise DeSTSegError(
                f"{path} lies in {out}, where the overlays go and would be taken for photographs "
                "the next time. Choose another --out."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeSTSegError(
            f"{out} cannot be made a folder ({error}). Choose another --out."
        ) from error


def _save(out: Path, rows: list[dict[str, Any]]) -> None:
    try:
        write_json(out / SCORES, rows)
    except DeSTSegError as error:
        raise DeSTSegError(
            f"{out / SCORES} could not be written ({error.__cause__}). Free some space or choose "
            "another --out."
        ) from error
