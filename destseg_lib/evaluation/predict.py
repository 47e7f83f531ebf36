"""A folder of photographs to decisions and overlays."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from destseg_lib.device import check_threads
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.pictures import (
    heat_scale,
    largest_value,
    overlay_names,
    write_map,
    write_mask,
    write_overlay,
)
from destseg_lib.evaluation.scoring import ScoredBatch, idle_cores, print_advice, score_files
from destseg_lib.files.outputs import Outputs, identity, outputs, written
from destseg_lib.images.folders import find_images
from destseg_lib.images.read import view_size
from destseg_lib.runs.checkpoint import interrupts_wait
from destseg_lib.runs.exported import AnyRun
from destseg_lib.runs.threads import Threads
from destseg_lib.threshold import (
    Threshold,
    broken_promise,
    describe_threshold,
    place_of,
    threshold_at,
)

SCORES = "scores.json"
SAVE_EVERY = 60.0  # seconds
THUMBNAILS = frozenset({"@eaDir", "__MACOSX"})  # folders that Synology and macOS add to others


def find_photographs(places: Sequence[Path]) -> tuple[Path, ...]:
    """List the images of files and folders as ``find_images``, without what is no photograph.

    Thumbnails in a folder are left out, and pictures that this library drew of photographs; it is
    printed how many.

    Raises:
        DeSTSegError: as ``find_images``; also if nothing is left.
    """
    kept: dict[Path, None] = {}
    left: Counter[str] = Counter()
    for place in places:
        images = find_images([place])
        ours = written(images)
        for path in images:
            below = path.relative_to(place).parts[:-1] if place.is_dir() else ()
            if thumbnails := THUMBNAILS.intersection(below):
                left[f"{place}: thumbnails in {min(thumbnails)}"] += 1
            elif ours.get(path) in ("predict", "evaluate"):
                left[f"{path.parent}: pictures that 'destseg {ours[path]}' wrote"] += 1
            else:
                kept[path] = None
    for what, count in left.items():
        print(f"left out {count} of {what}")
    if not kept:
        raise DeSTSegError(
            f"{places[0]} holds no photographs, only {min(left).partition(': ')[2]}; name a folder "
            "of photographs"
        )
    return tuple(kept)


def predict(
    run: AnyRun,
    paths: Sequence[Path],
    out: Path,
    *,
    fpr: float | None = None,
    good: Sequence[Path] = (),
    skip_unreadable: bool = False,
    maps: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    threads: Threads = None,
) -> list[dict[str, Any]]:
    """Score photographs; write ``scores.json`` and one overlay per photograph to a folder.

    If it is ended early, ``scores.json`` holds every photograph that was finished.

    Args:
        run: the trained model.
        paths: image files; none may be in ``out`` itself.
        out: made if it does not exist.
        fpr: false-positive rate of the threshold, as ``threshold_at`` takes it.
        good: more good images to calibrate on, none of which was trained on.
        skip_unreadable: print unreadable files and go on.
        maps: also write each map to ``maps`` in the folder, as a TIFF of 16 bits, and what is
            outlined to ``masks``, as a PNG of 0 and 255 at the photograph's size.
        overwrite: replace files in ``out`` that no earlier call wrote; never one of ``paths``.
        progress: show bars.
        threads: of the network on a CPU: a number, ``auto`` for one or all, whichever is faster at
            the moment, or None for as many as torch has.

    Returns:
        the content of ``scores.json``: ``path``, ``score``, ``threshold``, ``anomalous`` for each
        image, the last two None where there is nothing to calibrate on.

    Raises:
        DeSTSegError: an unreadable image, a folder that cannot be written or holds other files of
            these names, or a rate that cannot be resolved.
        KeyboardInterrupt: asked to stop.
    """
    check_threads(threads)
    paths, out = tuple(map(Path, paths)), Path(out)
    _check_inputs(paths, out)
    names = overlay_names(paths)
    read = (*paths, *good)
    made = outputs(out, [SCORES, *names], read, by="predict", overwrite=overwrite)
    extra: tuple[Outputs, Outputs] | None = None
    if maps:
        tiffs = [Path(name).with_suffix(".tif").name for name in names]
        extra = (
            outputs(out / "maps", tiffs, read, by="predict", overwrite=overwrite),
            outputs(out / "masks", names, read, by="predict", overwrite=overwrite),
        )
    if fpr is not None:
        place_of(fpr, len(run.calibration_scores) + len(good))  # before the work, not after it
    print_advice(run, paths)
    for folder in (made, *(extra or ())):
        folder.prepare()
    made.write_json(SCORES, [])
    skipped: list[tuple[Path, str]] | None = [] if skip_unreadable else None
    more = score_files(
        run,
        good,
        skipped=skipped,
        progress=progress and bool(good),
        description="calibrating",
        threads=threads,
    )
    known = np.concatenate([run.calibration_scores, *(batch.scores for batch in more)])
    threshold = threshold_at(known, fpr)
    print(describe_threshold(threshold))
    rows: list[dict[str, Any]] = []
    try:
        batches = score_files(run, paths, skipped=skipped, progress=progress, threads=threads)
        write = _Pictures(run, made, extra, heat_scale(run, threshold), threads)
        _write_pictures(batches, rows, paths, names, write, threshold)
    finally:
        made.write_json(SCORES, rows)
        for path, why in skipped or ():
            print(f"skipped {path}: {why}")
    above = sum(row["anomalous"] is True for row in rows)
    if threshold is not None and (
        advice := broken_promise(threshold, above, len(rows), "photographs")
    ):
        print(advice)
    return rows


@dataclass(frozen=True)
class _Pictures:
    """Writes the pictures of one photograph: the overlay, and with ``extra`` its map and mask."""

    run: AnyRun
    overlays: Outputs
    extra: tuple[Outputs, Outputs] | None
    scale: float
    threads: Threads

    def __call__(
        self, name: str, path: Path, anomaly_map: NDArray[np.float32], threshold: float | None
    ) -> None:
        write_overlay(self.overlays, name, path, anomaly_map, threshold, self.scale, self.run.view)
        if self.extra is not None:
            maps, masks = self.extra
            tiff = Path(name).with_suffix(".tif").name
            write_map(maps, tiff, anomaly_map, largest_value(self.run.config.model))
            write_mask(masks, name, anomaly_map, threshold, view_size(path, self.run.view))


def _write_pictures(
    batches: Iterator[ScoredBatch],
    rows: list[dict[str, Any]],
    paths: tuple[Path, ...],
    names: list[str],
    write: _Pictures,
    threshold: Threshold | None,
) -> None:
    """Append each image's row of ``scores.json`` once its pictures are written."""
    value = None if threshold is None else threshold.value
    saved = time.monotonic()
    waiting = deque[tuple[ScoredBatch, list[bool | None], Iterator[None]]]()
    # Batches that may wait for their pictures.
    behind = int(idle_cores(write.run, write.threads))

    def finish(most: int) -> None:
        while len(waiting) > most:
            batch, anomalous, drawn = waiting.popleft()
            for i, score, found, _ in zip(
                batch.indices, batch.scores, anomalous, drawn, strict=True
            ):
                row = {"path": str(paths[i]), "score": float(score)}
                rows.append({**row, "threshold": value, "anomalous": found})

    with interrupts_wait() as stop, ThreadPoolExecutor() as pool:
        try:
            for batch in batches:
                anomalous = [None if value is None else bool(s > value) for s in batch.scores]
                drawn = pool.map(
                    write,
                    [names[i] for i in batch.indices],
                    [paths[i] for i in batch.indices],
                    batch.maps.final,
                    [value if found else None for found in anomalous],
                )
                waiting.append((batch, anomalous, drawn))
                stopped = stop()
                finish(0 if stopped else behind)
                if stopped:
                    raise KeyboardInterrupt(
                        f"stopped; {write.overlays.folder / SCORES} holds {len(rows)} of "
                        f"{len(paths)} images"
                    )
                if time.monotonic() - saved > SAVE_EVERY:
                    write.overlays.write_json(SCORES, rows)
                    saved = time.monotonic()
        finally:
            finish(0)


def _check_inputs(paths: tuple[Path, ...], out: Path) -> None:
    if not paths:
        raise DeSTSegError("There are no images to score: the list of files is empty. Name some.")
    place = identity(out)
    for folder, path in {path.parent: path for path in paths}.items():
        if place is not None and identity(folder) == place:
            raise DeSTSegError(
                f"{path} is in {out}, where the overlays go and would be taken for photographs "
                "the next time. Choose another --out."
            )
