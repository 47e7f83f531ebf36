"""One run of a study, and what runs share: decoded images, and students trained once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors

from destseg_lib.batches import Phase, TrainingImages
from destseg_lib.config import TrainingConfig, config_to_dict
from destseg_lib.device import resolve_precision
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.files import write_whole
from destseg_lib.images.folders import Category, find_category, find_images
from destseg_lib.images.load import load_images
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.inputs import draw_textures, hold_out
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run, trained_weights
from destseg_lib.studies.study import Trial
from destseg_lib.teacher import Teacher, load_teacher, read_weights_file
from destseg_lib.training import move_to_device, start_phase, train_phase

Pixels = NDArray[np.uint8]


class Workbench:
    """What trials on one machine share.

    Args:
        students: a folder for the weights of trained students; machines may share it.
        world: where drawn products are kept.
        device: trials run on.
        decoded: a folder for decoded images and drawn textures, mapped into memory, so that all
            workers of a machine make them once and hold one copy; None keeps them in this process.
        progress: show bars.
    """

    def __init__(
        self,
        students: Path,
        world: Path,
        device: torch.device,
        *,
        decoded: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.students = students
        self.world = world
        self.device = device
        self.decoded = decoded
        self.progress = progress
        self._made: dict[object, Any] = {}

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What ``make`` gave the first time this key was asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def category(self, name: str) -> Category:
        """A drawn product by name, or a folder."""
        if name not in {product.name for product in CATEGORIES}:
            category = self.once(("category", name), lambda: find_category(Path(name)))
            assert isinstance(category, Category)
            return category
        self.world.mkdir(parents=True, exist_ok=True)
        with FileLock(self.world / f".{name}.lock"):  # trials beside this one may draw it too
            return find_category(write_category(name, self.world, progress=self.progress))

    def good(self, trial: Trial) -> Pixels:
        """The good images a trial trains on, (N, S, S, 3)."""
        config, category = trial.config, self.category(trial.category)
        pixels: Pixels = self.once(
            ("good", trial.category, config.image_size),
            lambda: self._decode(category.train, config.image_size),
        )
        kept, _ = hold_out(len(pixels), config.holdout, config.seed)
        if trial.good_images is not None:
            if not 1 <= trial.good_images <= len(kept):
                raise DeSTSegError(
                    f"{trial.variant}: good_images is {trial.good_images}, and {trial.category} "
                    f"has {len(kept)} to train on"
                )
            # The first of one shuffle, so that a smaller set is a part of a larger one.
            shuffled = np.random.default_rng([config.seed, 7]).permutation(kept)
            kept = np.sort(shuffled[: trial.good_images])
        return pixels[kept]

    def textures(self, trial: Trial) -> Pixels:
        """What anomalies are filled with: drawn ones, or a folder's."""
        size, seed, folder = trial.config.image_size, trial.config.seed, trial.textures
        if folder in (None, "procedural"):
            drawn: Pixels = self.once(("textures", size, seed), lambda: self._draw(size, seed))
            return drawn
        assert folder is not None
        read: Pixels = self.once(
            ("textures", size, folder),
            lambda: self._decode(find_images([Path(folder)]), size),
        )
        return read

    def _draw(self, size: int, seed: int) -> Pixels:
        def draw() -> Pixels:
            return draw_textures(size, seed)

        if self.decoded is None:
            return draw()
        self.decoded.mkdir(parents=True, exist_ok=True)
        file = self.decoded / f"textures-{size}-{seed}.npy"
        with FileLock(f"{file}.lock"):  # workers beside this one want the same
            if not file.exists():
                pixels = draw()
                write_whole(file, lambda opened: np.save(opened, pixels))
        mapped: Pixels = np.load(file, mmap_mode="r")
        return mapped

    def _decode(self, paths: Sequence[Path], size: int) -> Pixels:
        if self.decoded is None:
            return load_images(paths, size, progress=self.progress).pixels
        kept = load_images(
            paths, size, cache_dir=self.decoded, memory_share=0.0, progress=self.progress
        )
        return kept.pixels

    def teacher(self, name: str) -> Teacher:
        """A teacher, loaded once."""
        teacher = self.once(("teacher", name), lambda: load_teacher(name))
        assert isinstance(teacher, Teacher)
        return teacher


def run_trial(trial: Trial, bench: Workbench) -> dict[str, Any]:
    """Train and measure one trial.

    Returns:
        plain JSON values: what was run, its figures, ``seconds`` and provenance. Another trial of
        the same study, device and number of threads gives the same figures wherever it runs.

    Raises:
        DeSTSegError: bad input, or training diverged.
    """
    started = time.perf_counter()
    precision = resolve_precision(trial.config.precision, bench.device)
    config = replace(trial.config, precision=precision)
    category = bench.category(trial.category)
    images = TrainingImages(bench.good(trial), bench.textures(trial))
    teacher = bench.teacher(trial.teacher)
    model = DeSTSeg(teacher, config.model, torch.Generator().manual_seed(config.seed))
    model = move_to_device(model, bench.device)
    seconds = {"setup": round(time.perf_counter() - started, 2)}
    seconds["student"] = _shared_student(trial, model, images, config, bench)
    seconds["segmentation"] = 0.0
    if config.model.segmentation:
        seconds["segmentation"] = _train(model, images, config, "segmentation", bench)
    started = time.perf_counter()
    model.eval()
    run = Run(model, config, teacher.name, ())
    evaluation = evaluate_category(run, category, progress=bench.progress)
    seconds["evaluation"] = round(time.perf_counter() - started, 2)
    return {
        "study": trial.study,
        "variant": trial.variant,
        "category": Path(trial.category).name,
        "seed": trial.seed,
        "status": "done",
        **asdict(evaluation.final),
        "cosine_product": asdict(evaluation.student),
        "defects": {name: asdict(found) for name, found in evaluation.defects.items()},
        "images": {"train": len(images.good), **asdict(evaluation.images)},
        "teacher": {"name": Path(trial.teacher).name, "fingerprint": teacher.fingerprint()},
        "textures": "procedural" if trial.textures is None else Path(trial.textures).name,
        "student": trial.student,
        "config": config_to_dict(config),
        "seconds": seconds,
        "provenance": provenance(bench.device),
    }


def student_file(students: Path, trial: Trial) -> Path:
    """Where a trial's trained student is kept; its precision must be settled."""
    # Another arithmetic gives another student.
    return students / f"{trial.student}-{trial.config.precision}.safetensors"


def _shared_student(
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
        kept = {
            name.removeprefix("student."): tensor.cpu().contiguous()
            for name, tensor in trained_weights(model).items()
            if name.startswith("student.")
        }
        content = to_safetensors(kept)
        write_whole(file, lambda opened: opened.write(content))
        return seconds


def _train(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, phase: Phase, bench: Workbench
) -> float:
    started = time.perf_counter()
    state = start_phase(model, config, phase)
    for _ in train_phase(model, images, config, state, progress=bench.progress):
        pass
    return round(time.perf_counter() - started, 2)
