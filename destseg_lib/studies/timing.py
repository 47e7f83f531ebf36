"""How long runs take: steps times seconds per step, timed here or read from a study's records.

Seconds are kept by what was timed: the phase, the kind and widths of the network, the number and
side of the images in a batch. Networks and sizes that were not timed are not guessed.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from destseg_lib.batches import PHASES, TrainingImages
from destseg_lib.config import PhaseConfig, TrainingConfig, config_from_dict
from destseg_lib.device import describe_device, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category
from destseg_lib.model import PREDICTION_BATCH, DeSTSeg, predict_maps
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.studies.trial import Trial
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device


@dataclass(frozen=True)
class Timing:
    """Seconds measured on one kind of device.

    Attributes:
        seconds: of one step, one test image or the setup of one run, by what was timed.
        source: what was timed and on which device, in words.
    """

    seconds: dict[str, float]
    source: str


def estimate_runs(
    waiting: Sequence[Trial], timing: Timing, trained: Collection[str] = ()
) -> list[float]:
    """Seconds of each run; of those that share a student, the first trains it.

    Args:
        waiting: trials to run, in order.
        timing: seconds of each of their steps.
        trained: students that are trained already.

    Raises:
        DeSTSegError: a kind of step was not timed.
    """
    images = {t.category: len(find_category(Path(t.category)).test) for t in waiting}
    known, found = set(trained), []
    for trial in waiting:
        parts = _parts(trial.config, images[trial.category])
        if trial.student in known:
            del parts["student"]
        known.add(trial.student)
        for kind, _ in parts.values():
            if kind not in timing.seconds:
                raise DeSTSegError(
                    f"no {kind!r} was timed, only {', '.join(map(repr, timing.seconds))}; time it "
                    "on this machine, without --timing"
                )
        found.append(sum(count * timing.seconds[kind] for kind, count in parts.values()))
    return found


def measure_timing(
    configs: Iterable[TrainingConfig],
    device: torch.device,
    *,
    steps: int = 3,
    progress: bool = True,
) -> Timing:
    """Time a few steps of each kind of network among these, on noise.

    Reading files is not timed, so the setup takes no time and a test image costs its scoring.

    Args:
        configs: configurations of the runs.
        device: device to time on.
        steps: number of steps timed of each phase, after one to warm up.
        progress: show a bar.
    """
    # On noise the paper's rates might end in NaN; a step takes as long at any rate.
    phase = PhaseConfig(steps=1, lr=1e-4)
    whole = [replace(one, model=replace(one.model, segmentation=True)) for one in configs]
    kinds = {_parts(config, 1)["segmentation"][0]: config for config in whole}
    timed = []
    for one in tqdm(kinds.values(), "timing steps", unit="kind", disable=not progress):
        precision = resolve_precision(one.precision, device)
        config = replace(one, student=phase, segmentation=phase, precision=precision)
        shape = ((steps + 1) * config.batch_size, config.image_size, config.image_size, 3)
        # Each step has photographs of its own: many categories are turned, and the teacher then
        # looks at them in every step.
        good = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        images = TrainingImages(good, good[: config.batch_size])
        model = move_to_device(DeSTSeg(load_teacher("random"), config.model), device)
        rates = seconds_per_step(model, images, config, steps)
        pixels = good[np.arange(2 * PREDICTION_BATCH) % len(good)]
        maps = predict_maps(model, pixels, precision=precision, progress=False)
        ended = [time.perf_counter() for _ in maps]  # the first batch warms up
        seconds: dict[str, float] = {"evaluation": ended[1] - ended[0]}
        seconds.update((name, rate) for name, rate in rates.items())
        timed.append((config, seconds, PREDICTION_BATCH))
    return _timing(timed, f"{steps} steps of each phase timed on {describe_device(device)}")


def read_timing(path: Path) -> Timing:
    """Timing from a study's records.jsonl, or from the timing.json of ``destseg reproduce``.

    Raises:
        DeSTSegError: the file is neither, or no run in it has finished.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            values = json.loads(text)
            return Timing(**(_older(values) if "widths" in values else values))
        done = [r for r in map(json.loads, text.splitlines()) if r["status"] == "done"]
        timed = [
            (
                config_from_dict(r["config"]),
                r["seconds"],
                r["images"]["good"] + r["images"]["defective"],
            )
            for r in done
        ]
        return _timing(timed, f"{len(done)} finished runs on {done[0]['provenance']['device']}")
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise DeSTSegError(
            f"{path} holds no timing ({error}); give a study's records.jsonl, or the timing.json "
            "that 'destseg reproduce' writes"
        ) from None


def _timing(timed: Sequence[tuple[TrainingConfig, dict[str, float], int]], source: str) -> Timing:
    """Total seconds by total steps, from configurations, seconds of their parts and test images."""
    totals: defaultdict[str, Any] = defaultdict(lambda: np.zeros(2))
    for config, seconds, images in timed:
        for part, (kind, count) in _parts(config, images).items():
            # A student of no seconds is another run's; older records have no setup.
            if part == "setup" or seconds[part]:
                totals[kind] += seconds.get(part, 0.0), count
    return Timing({kind: float(took / count) for kind, (took, count) in totals.items()}, source)


def _parts(config: TrainingConfig, images: int) -> dict[str, tuple[str, int]]:
    """For each part of a run: what is timed, and how many of it there are."""
    model = config.model
    kind = "encoder-decoder" if model.encoder_decoder else "plain"
    if model.levels != (1, 2, 3):
        kind += f" to {','.join(map(str, model.levels))}"
    width = model.width if model.segmentation_width is None else model.segmentation_width
    size = _size(config.batch_size, config.image_size, (model.width, width))
    parts = {
        "setup": ("setup", 1),
        "student": (f"student step, {kind}{size}", config.student.steps),
        "evaluation": (f"test image{size}", images),
    }
    if model.segmentation:
        step = f"segmentation step, {kind}, {model.segmentation_input}{size}"
        parts["segmentation"] = step, config.segmentation.steps
    return parts


def _size(batch: int, side: int, widths: tuple[float, float]) -> str:
    return f", widths {widths[0]:g} and {widths[1]:g}, {batch} images of {side} pixels"


def _older(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a timing.json that an older version wrote, as ``Timing`` has it."""
    side = values["image_size"]
    size = _size(values["pixels"] // side**2, side, values["widths"])
    steps = {f"{p} step, {k}{size}": s for p in PHASES for k, s in values[p].items()}
    others = {"setup": values["setup"], f"test image{size}": values["evaluation"]}
    return {"seconds": steps | others, "source": values["source"]}
