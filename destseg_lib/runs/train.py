"""``destseg train`` for one category: decode, choose, train, calibrate."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.batches import TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.device import (
    check_threads,
    describe_device,
    resolve_device,
    resolve_precision,
    torch_threads,
)
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import Category, find_images
from destseg_lib.images.load import ImageSet, load_images, white_level
from destseg_lib.images.view import WHITE, View
from destseg_lib.model import DeSTSeg, map_scores
from destseg_lib.runs.budget import fit_to_budget, seconds_per_step
from destseg_lib.runs.checkpoint import train_with_checkpoints
from destseg_lib.runs.holdout import split_images
from destseg_lib.runs.inputs import (
    Selection,
    draw_textures,
    fingerprint_files,
    fingerprint_pixels,
)
from destseg_lib.runs.run import (
    CALIBRATION,
    CONFIG,
    DRAWN,
    HELD_OUT,
    load_run,
    read_run,
    run_teacher,
    save_calibration,
    start_run,
)
from destseg_lib.runs.threads import THREADS, Threads, choose_threads, kept_threads
from destseg_lib.runs.tiles import decoded_size
from destseg_lib.teacher import load_teacher
from destseg_lib.threshold import describe_held_out
from destseg_lib.training import move_to_device, phase_config, phases_of


@dataclass(frozen=True)
class TrainingJob:
    """Options of one training that are not part of its configuration.

    Attributes:
        textures: a folder of images to blend in; None draws procedural ones.
        teacher: as ``load_teacher`` takes it.
        time_budget: minutes that training may take; None takes all steps of the recipe.
        checkpoint_every: steps between checkpoints.
        drawn: what the category was drawn with; None for photographs.
        threads: of a CPU; ``auto`` takes one or all, whichever is faster in a few steps, None as
            many as torch has. A run that is continued keeps the number that it began with.
    """

    textures: Path | None = None
    teacher: str = "builtin"
    device: str = "auto"
    time_budget: float | None = None
    checkpoint_every: int = 250
    compile_networks: bool = False
    tensorboard: bool = False
    skip_unreadable: bool = False
    progress: bool = True
    drawn: dict[str, Any] | None = None
    threads: Threads = None

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        if self.checkpoint_every < 1:
            raise DeSTSegError(
                f"checkpoints come every {self.checkpoint_every} steps; give one step or more"
            )
        check_threads(self.threads)
        if self.time_budget is not None and not 0 < self.time_budget < math.inf:
            raise DeSTSegError(
                f"the time budget is {self.time_budget:g} minutes; give a positive number"
            )


def train_and_calibrate(
    category: Category, out: Path, config: TrainingConfig, job: TrainingJob
) -> None:
    """Train on a category's good images and calibrate, or continue the run in ``out``.

    Args:
        category: its ``train`` images are decoded once; the test images are not read.
        out: the run's folder. If it holds this run already, the run is continued.
        config: for a new run; an existing run keeps its own.
        job: all other options.

    Raises:
        DeSTSegError: bad input, or ``out`` holds a run on other images.
        InterruptedRunError: stopped on request, and saved.
        NonFiniteLossError: training diverged.
    """
    resumed = (out / CONFIG).exists()
    config = read_run(out)["config"] if resumed else config
    device = resolve_device(job.device)
    if resumed and (out / CALIBRATION).exists():
        print(f"{out} is complete; nothing is left to do")
        return
    teacher = run_teacher(out) if resumed else load_teacher(job.teacher)
    # A run of version 0.1 took 65535 for white whatever its images held.
    white = read_run(out)["inputs"].get("white_level", WHITE) if resumed else None
    white = white or white_level(category.train)
    size, view = decoded_size(config), View(white, config.crop)
    good = _decode(category.train, size, job, f"good images of {category.name}", view)
    textures, described = _textures(job, config)
    inputs = {
        "category": category.name,
        "good_images": len(good),
        "good_fingerprint": fingerprint_files(good.paths),
        "good_pixels": fingerprint_pixels(good.pixels),
        **described,
        **({} if white == WHITE else {"white_level": white}),
        "skipped": [
            {"file": path.name, "reason": why.replace(f"{path.parent}{os.sep}", "")}
            for path, why in good.skipped
        ],
    }
    kept, held_out = _split(good, config, out if resumed else None)
    images = TrainingImages(Selection(good.pixels, kept, config.tiles), textures)
    model = DeSTSeg(teacher, config.model, torch.Generator().manual_seed(config.seed))
    model = move_to_device(model, device, compile_networks=job.compile_networks)
    if resumed:
        _check_inputs(out, inputs)
        threads = kept_threads(out, job.threads)
    else:
        config, threads = _fit_to_machine(config, model, images, device, job)
        single = config.group_by is None and config.holdout_by == "photographs"
        chosen = {} if single else {HELD_OUT: held_out.tolist()}
        start_run(out, config, teacher, {**inputs, **chosen, DRAWN: job.drawn, THREADS: threads})
    with torch_threads(threads):
        # Flushed, so that it is seen at once when the output is a file or a pipe.
        summary = _summary(category, config, teacher.name, inputs, len(held_out), device)
        print(summary, flush=True)
        train_with_checkpoints(
            out,
            model,
            images,
            config,
            checkpoint_every=job.checkpoint_every,
            tensorboard=job.tensorboard,
            progress=job.progress,
        )
        # The model as loaded from the folder: threshold and later scores come from the same one.
        run = load_run(out, device, calibrated=False)
        batches = run.maps(good.pixels[held_out])
        scores = map_scores(tqdm(batches, "calibrating", unit="batch", disable=not job.progress))
        save_calibration(out, scores.tolist())
        if advice := describe_held_out(len(scores)):
            print(advice)


def _decode(
    paths: tuple[Path, ...], size: int, job: TrainingJob, what: str, view: View
) -> ImageSet:
    images = load_images(
        paths,
        size,
        skip_unreadable=job.skip_unreadable,
        progress=job.progress,
        description=what,
        view=view,
    )
    for path, why in images.skipped:
        print(f"skipped {path}: {why}")
    return images


def _split(
    good: ImageSet, config: TrainingConfig, begun: Path | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images are trained on and which held out; a run that was begun keeps its own."""
    if begun is not None and (places := read_run(begun)["inputs"].get(HELD_OUT)) is not None:
        held_out = np.asarray(places, np.int64)
        return np.setdiff1d(np.arange(len(good)), held_out), held_out
    return split_images([path.name for path in good.paths], config)


def _textures(job: TrainingJob, config: TrainingConfig) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The textures, and their description, which must be the same in a resumed run."""
    if job.textures is None:
        drawn = draw_textures(config.image_size, config.seed)
        return drawn, {"textures": "procedural", "texture_images": len(drawn)}
    paths = find_images([job.textures])
    images = _decode(paths, config.image_size, job, "textures", View(white_level(paths)))
    return images.pixels, {
        "textures": job.textures.resolve().name,
        "texture_images": len(images),
        "texture_fingerprint": fingerprint_files(images.paths),
        "texture_pixels": fingerprint_pixels(images.pixels),
    }


def _fit_to_machine(
    config: TrainingConfig,
    model: DeSTSeg,
    images: TrainingImages,
    device: torch.device,
    job: TrainingJob,
) -> tuple[TrainingConfig, int | None]:
    """Replace ``auto`` and a time budget by precision, threads and steps for this machine."""
    config = replace(config, precision=resolve_precision(config.precision, device))
    threads, known = choose_threads(model, images, config, job.threads)
    if job.time_budget is None:
        return config, threads
    with torch_threads(threads):
        measured = known or seconds_per_step(model, images, config)
    fitted = fit_to_budget(config, measured, 60 * job.time_budget)
    steps = ", ".join(
        f"{phase_config(fitted, phase).steps} of {phase_config(config, phase).steps} {phase} steps "
        f"({measured[phase]:.2f} s each)"
        for phase in phases_of(config)
    )
    print(f"time budget {job.time_budget:g} min: {steps}")
    return fitted, threads


def _check_inputs(out: Path, inputs: dict[str, Any]) -> None:
    before = read_run(out)["inputs"]
    for key, now in inputs.items():
        if now == before.get(key) or (key.endswith("_pixels") and key not in before):
            continue  # version 0.1 did not look at the pixels
        images = "good images" if key.startswith("good") else "textures"
        if key.endswith("_fingerprint"):
            what = f"{images} of other names or file sizes"
        elif key.endswith("_pixels"):
            what = f"{images} of the same names but another content"
        else:
            what = f"{key.replace('_', ' ')} = {before.get(key)}, now it is {now}"
        raise DeSTSegError(
            f"the run in {out} was started with {what}; give the same --data and --textures, "
            "or another --out"
        )


def _summary(
    category: Category,
    config: TrainingConfig,
    teacher: str,
    inputs: dict[str, Any],
    held_out: int,
    device: torch.device,
) -> str:
    lines = [
        f"category      {category.name}: {inputs['good_images']} good images, "
        f"{held_out} of them held out for the threshold{_held_out_as(config)}",
        f"teacher       {teacher}",
        f"textures      {inputs['textures']} ({inputs['texture_images']})",
        f"recipe        {config.recipe}: {config.image_size} pixels{_looked_at(config)}, "
        f"batches of {config.batch_size}, width {config.model.width:g}, "
        f"rotation {config.rotation}, seed {config.seed}",
        *(
            f"{phase:<13} {phase_config(config, phase).steps} steps of "
            f"{phase_config(config, phase).optimiser}"
            for phase in phases_of(config)
        ),
        f"device        {describe_device(device)}, {config.precision}",
    ]
    if not held_out:
        lines.append(
            "note          no image is held out, as in the paper: predict will need --good DIR, "
            "or train with --holdout 0.1"
        )
    return "\n".join(lines)


def _held_out_as(config: TrainingConfig) -> str:
    """How images are held out, where it is not one by one."""
    if config.group_by is not None:
        return f", in the groups that {config.group_by!r} tells"
    return ", in stretches of neighbouring files" if config.holdout_by == "blocks" else ""


def _looked_at(config: TrainingConfig) -> str:
    """The part and the tiles of each photograph, where it is not the whole in one."""
    part = "" if config.crop is None else f" of the part {','.join(map(str, config.crop))}"
    return part + (f" in {config.tiles} x {config.tiles} tiles" if config.tiles > 1 else "")
