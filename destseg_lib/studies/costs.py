"""What a run costs: seconds a step by phase and kind of network, measured or read from records.

A run takes ``setup + student steps x seconds + segmentation steps x seconds + images x seconds``.
Seconds a step depend on the network (the student's kind, and what the segmentation network sees)
and go with the pixels of a batch; other widths are other networks and must be measured.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from destseg_lib.batches import TrainingImages
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig, config_from_dict
from destseg_lib.device import describe_device, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import PREDICTION_BATCH, DeSTSeg, predict_maps
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.studies.schedule import Job
from destseg_lib.studies.study import Trial
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device


@dataclass(frozen=True)
class Costs:
    """Measured seconds on one kind of device.

    Attributes:
        student: a step of the student phase, by ``student_kind``.
        segmentation: a step of the segmentation phase, by ``segmentation_kind``.
        evaluation: a test image, scored and measured.
        setup: a run, before its first step.
        pixels: of the batches that were timed: images x side x side.
        image_size: of the images that were timed, in pixels.
        widths: of student and segmentation network.
        source: what was timed and on what, in words.
    """

    student: dict[str, float]
    segmentation: dict[str, float]
    evaluation: float
    setup: float
    pixels: int
    image_size: int
    widths: tuple[float, float]
    source: str

    def job(self, config: TrainingConfig, student: str, images: int) -> Job:
        """What a run with this configuration costs.

        Args:
            config: of the run.
            student: the same for runs that share one, as ``Trial.student``.
            images: to test on.

        Raises:
            DeSTSegError: its kind of network, or its width, was not timed.
        """
        if widths(config.model) != self.widths:
            raise DeSTSegError(
                f"steps were timed at the widths {self.widths}, and the runs have "
                f"{widths(config.model)}; time them anew, without --timing"
            )
        scale = config.batch_size * config.image_size**2 / self.pixels
        training = config.student.steps * scale * _of(self.student, student_kind(config.model))
        rest = self.setup + images * self.evaluation * (config.image_size / self.image_size) ** 2
        if config.model.segmentation:
            kind = segmentation_kind(config.model)
            rest += config.segmentation.steps * scale * _of(self.segmentation, kind)
        return Job(student, training, rest)

    def jobs(self, trials: Iterable[Trial], images: dict[str, int]) -> list[Job]:
        """One job a trial; ``images`` has the number of test images by category."""
        return [self.job(t.config, t.student, images[t.category]) for t in trials]


def student_kind(model: ModelConfig) -> str:
    """What decides how long a step of the student phase takes."""
    levels = "" if model.levels == (1, 2, 3) else f" to {','.join(map(str, model.levels))}"
    return ("encoder-decoder" if model.encoder_decoder else "plain") + levels


def segmentation_kind(model: ModelConfig) -> str:
    """What decides how long a step of the segmentation phase takes."""
    return f"{student_kind(model)}, {model.segmentation_input}"


def widths(model: ModelConfig) -> tuple[float, float]:
    """Of student and segmentation network."""
    own = model.segmentation_width
    return model.width, model.width if own is None else own


def measure_costs(
    configs: Sequence[TrainingConfig],
    device: torch.device,
    *,
    steps: int = 3,
    progress: bool = True,
) -> Costs:
    """Time a few steps of each kind of network among these, on noise.

    Reading and decoding files is not timed, so ``setup`` is 0 and test images cost their scoring.

    Args:
        configs: of the runs; they share batch, image size and width.
        device: to time on.
        steps: timed of each phase, after one to warm up.
        progress: show a bar.
    """
    first = configs[0]
    # On noise the paper's rates might end in NaN; a step takes as long at any rate.
    phase = PhaseConfig(steps=steps + 1, lr=1e-4)
    student: defaultdict[str, list[float]] = defaultdict(list)
    segmentation: dict[str, float] = {}
    evaluation = []
    images = _noise(first)
    kinds = {segmentation_kind(c.model): c for c in configs}
    for kind, one in tqdm(kinds.items(), "timing steps", unit="kind", disable=not progress):
        config = replace(
            one,
            student=phase,
            segmentation=phase,
            model=replace(one.model, segmentation=True),
            precision=resolve_precision(one.precision, device),
        )
        model = move_to_device(DeSTSeg(load_teacher("random"), config.model), device)
        found = seconds_per_step(model, images, config, steps)
        student[student_kind(config.model)].append(found["student"])
        segmentation[kind] = found["segmentation"]
        evaluation.append(_seconds_an_image(model, images, config))
    return Costs(
        {kind: statistics.median(times) for kind, times in student.items()},
        segmentation,
        statistics.median(evaluation),
        0.0,
        first.batch_size * first.image_size**2,
        first.image_size,
        widths(first.model),
        f"{steps} steps of each phase timed on {describe_device(device)}",
    )


def fit_costs(records: Sequence[dict[str, Any]]) -> Costs:
    """The costs that a study's records tell: total seconds by total steps, of each kind.

    Raises:
        DeSTSegError: no run has finished, or the runs differ in batch, image size or width.
    """
    done = [r for r in records if r["status"] == "done"]
    configs = [config_from_dict(r["config"]) for r in done]
    shapes = {(c.batch_size, c.image_size, widths(c.model)) for c in configs}
    if len(shapes) != 1:
        raise DeSTSegError(
            f"the records hold runs of {len(shapes)} sizes; costs are fitted to finished runs of "
            "one batch, image size and width"
        )
    ((batch, size, wide),) = shapes
    seconds: dict[str, defaultdict[str, float]] = {}
    steps: dict[str, defaultdict[str, float]] = {}
    for phase in ("student", "segmentation"):
        seconds[phase], steps[phase] = defaultdict(float), defaultdict(float)
        for record, config in zip(done, configs, strict=True):
            took = record["seconds"][phase]
            if took:  # else the student was another run's, or there is no segmentation network
                kind = (student_kind if phase == "student" else segmentation_kind)(config.model)
                seconds[phase][kind] += took
                steps[phase][kind] += getattr(config, phase).steps
    rates = {
        phase: {kind: total / steps[phase][kind] for kind, total in seconds[phase].items()}
        for phase in seconds
    }
    images = sum(r["images"]["good"] + r["images"]["defective"] for r in done)
    return Costs(
        rates["student"],
        rates["segmentation"],
        sum(r["seconds"]["evaluation"] for r in done) / images,
        statistics.fmean(r["seconds"].get("setup", 0.0) for r in done),
        batch * size**2,
        size,
        wide,
        f"{len(done)} finished runs on {done[0]['provenance']['device']}",
    )


def read_costs(path: Path) -> Costs:
    """Costs from a file: a study's records.jsonl, or what ``destseg reproduce`` wrote.

    Raises:
        DeSTSegError: it is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return fit_costs([json.loads(line) for line in text.splitlines()])
        values = json.loads(text)
        return Costs(**{**values, "widths": tuple(values["widths"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DeSTSegError(
            f"{path} holds no timing ({error}); give a study's records.jsonl, or the timing.json "
            "that 'destseg reproduce' writes"
        ) from None


def costs_to_dict(costs: Costs) -> dict[str, Any]:
    """Plain JSON values, for ``read_costs``."""
    return dataclasses.asdict(costs)


def _of(rates: dict[str, float], kind: str) -> float:
    if kind not in rates:
        raise DeSTSegError(
            f"no step of {kind!r} was timed, only of {', '.join(rates) or 'nothing'}; time them "
            "anew, without --timing"
        )
    return rates[kind]


def _noise(config: TrainingConfig) -> TrainingImages:
    """A batch of good images and one of textures; arithmetic takes as long on any pixels."""
    shape = (2, config.batch_size, config.image_size, config.image_size, 3)
    good, textures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return TrainingImages(good, textures)


def _seconds_an_image(model: DeSTSeg, images: TrainingImages, config: TrainingConfig) -> float:
    pixels = images.good[np.arange(2 * PREDICTION_BATCH) % len(images.good)]
    times = [time.perf_counter()]
    for _ in predict_maps(model, pixels, precision=config.precision, progress=False):
        times.append(time.perf_counter())
    return (times[-1] - times[1]) / PREDICTION_BATCH  # the first batch warms up
