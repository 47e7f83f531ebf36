"""A training step by image size, batch and number of images: time, memory, arithmetic a second.

Each case is ``measure`` of ``benchmarks/training.py``, in a process of its own: the step of
``destseg train``, and its plain counterpart at the smallest batch. The arithmetic is that of
convolutions and matrix products, forward and backward, as torch counts it, beside what a product
of two bf16 matrices reaches on the same threads in the same run.

Run: ``python benchmarks/steps.py [--json FILE]``, on an idle machine; four minutes. Linux.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from measuring import command_line, in_own_process, memory_mib, report, timed
from torch.utils.flop_counter import FlopCounterMode
from training import CPU, WARM_UP, measure, random_images

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig
from destseg_lib.device import keep_freed_memory, resolve_precision
from destseg_lib.model import DeSTSeg
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device, start_phase, train_phase

MATRIX = 2048  # rows and columns of the products
PRODUCTS = 5
COUNTED = 2  # images; the arithmetic of more is a multiple


def product_rate(size: int) -> float:
    """Operations per second of the product of two large random bf16 matrices."""
    a, b = (torch.randn(size, size).bfloat16() for _ in range(2))
    timed(torch.matmul, a, b, times=2)
    spent, _ = timed(torch.matmul, a, b, times=PRODUCTS)
    return 2 * size**3 / statistics.median(spent)


def flop_an_image(phase: Phase, config: TrainingConfig) -> float:
    """Operations of a step's convolutions and matrix products, forward and backward, per image."""
    config = replace(config, batch_size=COUNTED, precision="fp32")
    model = DeSTSeg(load_teacher("random"), config.model)
    steps = train_phase(model, random_images(config), config, start_phase(model, config, phase))
    next(steps)  # the teacher has seen the clean images once; the steps that are timed come after
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops() / COUNTED


def with_images(count: int, phase: Phase, config: TrainingConfig, threads: int) -> dict[str, Any]:
    """Seconds of a step that draws its batch from ``count`` good images in memory."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    shape = (count, config.image_size, config.image_size, 3)
    good = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = TrainingImages(good, random_images(config).textures)
    config = replace(config, precision=resolve_precision(config.precision, CPU))
    model = move_to_device(DeSTSeg(load_teacher("random"), config.model), CPU)
    times = []
    for _ in train_phase(model, images, config, start_phase(model, config, phase)):
        times.append(time.perf_counter())
    return {
        "good_images": count,
        "seconds_a_step": statistics.median(np.diff(times)[WARM_UP - 1 :].tolist()),
        "peak_mib": memory_mib("VmHWM"),
    }


def case_record(
    phase: Phase, config: TrainingConfig, ours: dict[str, Any], flop: float, rate: float
) -> dict[str, Any]:
    """A case's row: its time and memory, and its arithmetic beside that of a product."""
    achieved = flop * config.batch_size / ours["seconds_a_step"]
    return {
        "phase": phase,
        "size": config.image_size,
        "batch": config.batch_size,
        **ours,
        "images_a_second": config.batch_size / ours["seconds_a_step"],
        "flop_a_step": flop * config.batch_size,
        "flop_a_second": achieved,
        "share_of_bf16_product": achieved / rate,
    }


def growth(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Time of an image with the larger size or batch over that with the smaller, from the rows.

    Of sizes also per pixel: 1 where the time grows as the number of pixels does.
    """
    found: dict[str, float] = {}
    sizes, batches = (sorted({case[key] for case in cases}) for key in ("size", "batch"))
    time_of = {(c["phase"], c["size"], c["batch"]): c["seconds_a_step"] / c["batch"] for c in cases}
    for phase in dict.fromkeys(case["phase"] for case in cases):
        for batch in batches if len(sizes) > 1 else ():
            ratio = time_of[phase, sizes[-1], batch] / time_of[phase, sizes[0], batch]
            ratio /= (sizes[-1] / sizes[0]) ** 2
            found[f"{phase}, batch {batch}: a pixel at {sizes[-1]} to one at {sizes[0]}"] = ratio
        for size in sizes if len(batches) > 1 else ():
            ratio = time_of[phase, size, batches[-1]] / time_of[phase, size, batches[0]]
            found[f"{phase}, {size} pixels: an image of {batches[-1]} to one of {batches[0]}"] = (
                ratio
            )
    return found


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--size", type=int, nargs="+", default=[128, 256])
    add("--batch", type=int, nargs="+", default=[8, 32])
    add("--images", type=int, nargs="+", default=[32, 512, 8192], help="good images in memory")
    add("--width", type=float, default=1.0)
    add("--steps", type=int, default=2, help="timed, after one to warm up")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--matrix", type=int, default=MATRIX, help="rows of the bf16 product's matrices")
    add("--no-plain", action="store_true", help="leave the plain counterpart out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # for the provenance
    # On noise the paper's rates might end in NaN; a step takes as long at any rate.
    short = PhaseConfig(steps=WARM_UP + options.steps, lr=1e-3)
    base = TrainingConfig(student=short, segmentation=short, model=ModelConfig(width=options.width))
    cases, rates = [], []
    plain: dict[str, Any] = {}
    for size, phase in product(sorted(options.size), PHASES):
        config = replace(base, image_size=size)
        flop = flop_an_image(phase, config)
        for batch in sorted(options.batch):
            config = replace(config, batch_size=batch)
            rates.append(product_rate(options.matrix))
            ours = in_own_process(measure, "ours", phase, config, options.threads)
            cases.append(case_record(phase, config, ours, flop, rates[-1]))
        if not options.no_plain:
            config = replace(config, batch_size=min(options.batch))
            found = in_own_process(measure, "plain", phase, config, options.threads)
            (ours,) = (
                case["seconds_a_step"]
                for case in cases
                if (case["phase"], case["size"], case["batch"]) == (phase, size, min(options.batch))
            )
            plain[f"{phase}, {size} pixels"] = {**found, "ratio": found["seconds_a_step"] / ours}
    smallest = replace(base, image_size=min(options.size), batch_size=min(options.batch))
    record = {
        "what": f"width {options.width:g}, {options.threads} threads, random images, medians of "
        f"{options.steps} steps",
        "bf16_product_flop_a_second": statistics.median(rates),
        "bf16_product_flop_a_second_repeats": rates,
        "cases": cases,
        "plain_at_the_smallest_batch": plain,
        "growth": growth(cases),
        # The student's teacher is asked less often the fewer images there are.
        "counted_phase": "segmentation",
        "number_of_images": [
            in_own_process(with_images, count, "segmentation", smallest, options.threads)
            for count in options.images
        ],
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
