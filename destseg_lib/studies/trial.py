"""One run of a study: a variant on a category with a seed, trained and measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save as to_safetensors

from destseg_lib.batches import Phase, TrainingImages
from destseg_lib.config import TrainingConfig, config_to_dict
from destseg_lib.device import resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.files import write_whole
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.holdout import split_images
from destseg_lib.runs.inputs import Selection
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run, trained_weights
from destseg_lib.studies.study import TEACHER, Study
from destseg_lib.studies.workbench import Workbench
from destseg_lib.teacher import read_weights_file
from destseg_lib.training import move_to_device, start_phase, train_phase

# Beside the images and the teacher, these decide how a student comes out.
STUDENT_SETTINGS = (
    "student", "corruption", "image_size", "batch_size", "denoising", "rotation", "holdout", "seed",
    "precision",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One run of a study; it can run anywhere and gives the same metrics everywhere.

    Attributes:
        study: name of the study.
        variant: name of the variant.
        category: name of a drawn category, or a folder.
        seed: seed of the run.
        config: configuration of the run.
        teacher: the teacher, as ``load_teacher`` takes it.
        textures: a folder of textures; ``procedural`` or None draws them.
        good_images: number of good images to train on; None takes all.
        student: the same for trials that share a trained student.
    """

    study: str
    variant: str
    category: str
    seed: int
    config: TrainingConfig
    teacher: str
    textures: str | None
    good_images: int | None
    student: str

    @property
    def key(self) -> tuple[str, str, int]:
        """Identity of a trial within its study."""
        return self.variant, self.category, self.seed

    @property
    def textures_name(self) -> str:
        """The textures' name in records, without the folders of this machine."""
        return "procedural" if self.textures is None else Path(self.textures).name


def trials(study: Study) -> tuple[Trial, ...]:
    """Every run of a study, in the order of ``Study.keys``."""
    every = []
    for variant, category, seed in study.keys:
        config, inputs = study.configure(variant, category, seed)
        inputs["teacher"] = inputs["teacher"] or TEACHER
        student = _student_key(category, config, inputs)
        every.append(Trial(study.name, variant, category, seed, config, student=student, **inputs))
    return tuple(every)


def untrained(trial: Trial, bench: Workbench) -> tuple[DeSTSeg, TrainingImages, TrainingConfig]:
    """What a trial's training begins with: model on its device, images, configuration resolved.

    Raises:
        DeSTSegError: bad input.
    """
    precision = resolve_precision(trial.config.precision, bench.device)
    config = replace(trial.config, precision=precision)
    images, teacher = training_images(trial, bench), bench.teacher(trial.teacher)
    model = DeSTSeg(teacher, config.model, torch.Generator().manual_seed(config.seed))
    return move_to_device(model, bench.device), images, config


def run_trial(
    trial: Trial, bench: Workbench, trained: Callable[[Run], None] | None = None
) -> dict[str, Any]:
    """Train and measure one trial.

    Args:
        trial: what to run.
        bench: what it shares with others.
        trained: given the trained model before it is measured and forgotten.

    Returns:
        plain JSON values: the run, its metrics, ``seconds`` and provenance. The metrics are the
        same wherever the trial runs on the same kind of device and number of threads.

    Raises:
        DeSTSegError: bad input, or training diverged.
    """
    started = time.perf_counter()
    model, images, config = untrained(trial, bench)
    teacher = model.teacher
    inputs = bench.same_inputs(trial.category, config, trial.textures, trial.teacher)
    seconds = {"setup": round(time.perf_counter() - started, 2)}
    seconds["student"] = _train_student(trial, model, images, config, bench)
    seconds["segmentation"] = 0.0
    if config.model.segmentation:
        seconds["segmentation"] = _train(model, images, config, "segmentation", bench)
    model.eval()
    white = bench.white_level(trial.category)
    run = Run(model, config, teacher.name, (), white, emulate=True)
    if trained is not None:
        trained(run)
    started = time.perf_counter()
    evaluation = evaluate_category(run, bench.category(trial.category), progress=bench.progress)
    seconds["evaluation"] = round(time.perf_counter() - started, 2)
    return {
        "study": trial.study,
        "variant": trial.variant,
        "category": trial.category,
        "seed": trial.seed,
        "status": "done",
        **asdict(evaluation.final),
        "cosine_product": asdict(evaluation.student),
        "defects": {name: asdict(found) for name, found in evaluation.defects.items()},
        "images": {"train": len(images.good) // config.tiles**2, **asdict(evaluation.images)},
        "teacher": {"name": Path(trial.teacher).name, "fingerprint": teacher.fingerprint()},
        "textures": trial.textures_name,
        "inputs": inputs,
        "student": trial.student,
        "config": config_to_dict(config),
        "seconds": seconds,
        "provenance": provenance(bench.device),
    }


def training_images(trial: Trial, bench: Workbench) -> TrainingImages:
    """The good images and the textures that a trial trains on.

    Raises:
        DeSTSegError: there are fewer good images than the trial asks for.
    """
    config, wanted = trial.config, trial.good_images
    pixels = bench.good_images(trial.category, config)
    names = [path.name for path in bench.category(trial.category).train]
    kept, _ = split_images(names, config)
    if wanted is not None:
        if not 1 <= wanted <= len(kept):
            raise DeSTSegError(
                f"{trial.variant}: good_images is {wanted}, and {trial.category} has {len(kept)} "
                "to train on; give as many or fewer"
            )
        # The first of one shuffle, so that a smaller set is a part of a larger one.
        kept = np.sort(np.random.default_rng([config.seed, 7]).permutation(kept)[:wanted])
    textures = bench.textures(trial.textures, config.image_size, config.seed)
    return TrainingImages(Selection(pixels, kept, config.tiles), textures)


def student_file(students: Path, trial: Trial) -> Path:
    """File of a trial's trained student; the trial's precision must be resolved."""
    # Another arithmetic gives another student.
    return students / f"{trial.student}-{trial.config.precision}.safetensors"


def _student_key(category: str, config: TrainingConfig, inputs: dict[str, Any]) -> str:
    """The same for trials whose student phase is the same, bit for bit."""
    values = config_to_dict(config)
    model = {key: values["model"][key] for key in ("encoder_decoder", "width", "levels")}
    decides = {
        "category": category, "model": model, **inputs,
        **{key: values[key] for key in STUDENT_SETTINGS},
    }  # fmt: skip
    if config.crop is not None or config.tiles > 1:  # else the key is that of version 0.1
        decides |= {"crop": config.crop, "tiles": config.tiles}
    if config.group_by is not None or config.holdout_by != "photographs":  # for the same reason
        decides |= {"group_by": config.group_by, "holdout_by": config.holdout_by}
    if not config.denoising:
        del decides["corruption"]  # an uncorrupted student never sees it
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _train_student(
    trial: Trial,
    model: DeSTSeg,
    images: TrainingImages,
    config: TrainingConfig,
    bench: Workbench,
) -> float:
    """Load the student if a trial that shares it has trained it, else train and keep it."""
    bench.students.mkdir(parents=True, exist_ok=True)
    file = student_file(bench.students, replace(trial, config=config))
    with FileLock(file.with_suffix(".lock")):
        if file.exists():
            weights = read_weights_file(file)
            assert isinstance(weights, dict)
            model.student.load_state_dict(weights)
            return 0.0
        seconds = _train(model, images, config, "student", bench)
        content = to_safetensors(
            {
                name.removeprefix("student."): tensor.cpu().contiguous()
                for name, tensor in trained_weights(model).items()
                if name.startswith("student.")
            }
        )
        write_whole(file, lambda opened: opened.write(content))
        return seconds


def _train(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, phase: Phase, bench: Workbench
) -> float:
    """Train one phase and return its seconds."""
    started = time.perf_counter()
    state = start_phase(model, config, phase)
    for _ in train_phase(model, images, config, state, progress=bench.progress):
        pass
    return round(time.perf_counter() - started, 2)
