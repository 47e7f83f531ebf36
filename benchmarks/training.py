"""One step of each training phase against a plain loop that computes everything in both phases.

The plain loop is the authors' order of work, in fp32 and torch's own memory order: in both phases
the teacher sees the clean and the corrupted image, student and segmentation network run, and both
losses are computed. The student phase goes back through the cosine loss; the segmentation phase
goes back through the segmentation network and, as nobody switched its gradients off, the student.
Photographs are corrupted one at a time in numpy, as in ``benchmarks/corruption.py``. Ours is
``train_phase`` as ``destseg train`` runs it once the teacher has seen each clean image, which it
does once: each phase only what it needs, precision ``auto``, channels-last, corruption batched, a
fused optimiser, freed memory kept.

Run: ``python benchmarks/training.py [--batch N] [--json FILE]``; minutes. Linux.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from corruption import plain_corrupt
from measuring import command_line, in_own_process, memory_mib, report
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig
from destseg_lib.corruption import shrink_masks
from destseg_lib.device import keep_freed_memory, resolve_precision
from destseg_lib.losses import feature_loss, segmentation_loss
from destseg_lib.model import DeSTSeg, quarter
from destseg_lib.teacher import load_teacher, normalise
from destseg_lib.training import move_to_device, start_phase, train_phase

CPU = torch.device("cpu")
SIDES = ("ours", "plain")
WARM_UP = 1  # steps


def random_images(config: TrainingConfig) -> TrainingImages:
    """One batch of good images and one of textures; arithmetic takes as long on any pixels."""
    shape = (2, config.batch_size, config.image_size, config.image_size, 3)
    good, textures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return TrainingImages(good, textures)


def plain_batch(
    images: TrainingImages, config: TrainingConfig, generator: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean, corrupted, masks: as ``draw_batch``, but one image at a time."""
    clean, corrupted, masks = [], [], []
    for _ in range(config.batch_size):
        one, texture = (
            pixels[generator.integers(len(pixels))].astype(np.float32) / 255
            for pixels in (images.good, images.textures)
        )
        blended, mask = plain_corrupt(one, texture, config.corruption, generator)
        clean.append(channels_first(one))
        corrupted.append(channels_first(blended))
        masks.append(channels_first(mask))
    return normalise(torch.stack(clean)), normalise(torch.stack(corrupted)), torch.stack(masks)


def channels_first(image: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def plain_step(
    model: DeSTSeg,
    config: TrainingConfig,
    phase: Phase,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    clean, corrupted, masks = batch
    student = model.student(corrupted)
    cosine = feature_loss(student, model.teacher(clean))
    unit = torch.nn.functional.normalize
    agreement = (
        tuple(unit(level) for level in features) for features in (model.teacher(corrupted), student)
    )
    logits = model.logits(*agreement, quarter(corrupted))
    anomaly = segmentation_loss(logits, shrink_masks(masks), config.focal_gamma)
    optimiser.zero_grad()
    (cosine if phase == "student" else anomaly).backward()
    optimiser.step()


def measure(side: str, phase: Phase, config: TrainingConfig, threads: int) -> dict[str, Any]:
    """Seconds per step after warming up, and this process's peak memory."""
    torch.set_num_threads(threads)
    model, images = DeSTSeg(load_teacher("random"), config.model), random_images(config)
    steps = config.student.steps
    times = [time.perf_counter()]
    bar = tqdm(total=steps, desc=f"{phase} phase, {side}", unit="step")
    if side == "ours":
        keep_freed_memory()
        model = move_to_device(model, CPU)
        config = replace(config, precision=resolve_precision(config.precision, CPU))
        times = [time.perf_counter()]
        for _ in train_phase(model, images, config, start_phase(model, config, phase)):
            times.append(time.perf_counter())
            bar.update()
    else:
        generator = np.random.default_rng(0)
        with patch("destseg_lib.training.FUSED", ()):
            optimiser = start_phase(model, config, phase).optimiser
        model.student.train(phase == "student")
        model.segmentation.train(phase == "segmentation")
        for _ in range(steps):
            plain_step(model, config, phase, optimiser, plain_batch(images, config, generator))
            times.append(time.perf_counter())
            bar.update()
    bar.close()
    spent = np.diff(times)[WARM_UP:].tolist()
    return {
        "precision": config.precision if side == "ours" else "fp32",
        "seconds_a_step": statistics.median(spent),
        "seconds_a_step_repeats": spent,
        "peak_mib": memory_mib("VmHWM"),
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=3, help="timed, after one to warm up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--phase", choices=PHASES, action="append", help="default: both")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # for the provenance
    steps = WARM_UP + options.steps
    # On noise the paper's rates might end in NaN; a step takes as long at any rate.
    phase_config = PhaseConfig(steps=steps, lr=1e-3)
    config = TrainingConfig(
        student=phase_config,
        segmentation=phase_config,
        model=ModelConfig(width=options.width),
        image_size=options.size,
        batch_size=options.batch,
    )
    record: dict[str, Any] = {
        "what": f"batches of {options.batch} images of {options.size}x{options.size}, width "
        f"{options.width}, {options.threads} threads, median of {options.steps} steps",
    }
    for phase in options.phase or PHASES:
        sides = {
            side: in_own_process(measure, side, phase, config, options.threads) for side in SIDES
        }
        ratio = sides["plain"]["seconds_a_step"] / sides["ours"]["seconds_a_step"]
        record[phase] = {**sides, "ratio": ratio}
    report(record, options.json)


if __name__ == "__main__":
    main()
