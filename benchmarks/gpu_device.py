"""Parts a and b of ``gpu.py``: what depends on the device and not on the data."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import PhaseConfig, TrainingConfig
from destseg_lib.drawn.dataset import DrawnImages, ImageCounts, draw_category
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.metrics import anomaly_metrics
from destseg_lib.model import DeSTSeg, predict_maps
from destseg_lib.runs import checkpoint
from destseg_lib.runs.run import trained_weights
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.teacher import load_teacher
from destseg_lib.textures import procedural_textures
from destseg_lib.training import move_to_device, start_phase, train_phase

TIMED = 15  # steps
HUGE = 2.0**60  # a loss scale at which every gradient overflows
# How far the device may be from the CPU in fp32: the norm of the difference over that of the CPU's.
BOUNDS = {
    "map": {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1},
    "loss": {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.04},
    "metrics": {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.02},
}

Record = dict[str, Any]
Job = tuple[str, Callable[[], Record]]  # a title, and work whose result is recorded


@dataclass(frozen=True, eq=False)
class Bench:
    """What parts a and b share: the paper's configuration or a smaller one, and its images."""

    device: torch.device
    precisions: list[str]
    config: TrainingConfig
    images: TrainingImages

    def model(self, seed: int = 0, *, compiled: bool = False) -> DeSTSeg:
        """An untrained model on the device."""
        generator = torch.Generator().manual_seed(seed)
        model = DeSTSeg(load_teacher("builtin"), self.config.model, generator)
        return move_to_device(model, self.device, compile_networks=compiled)


@cache
def draw_images(size: int, number: int) -> tuple[DrawnImages, TrainingImages]:
    """A drawn category with so many images to train on, and these together with textures."""
    counts = ImageCounts(number, good=2, defective=1)
    drawn = draw_category("component", size, counts, progress=False)
    textures = procedural_textures(number, size, torch.Generator().manual_seed(0))
    return drawn, TrainingImages(drawn.train, textures)


# Part a: is it right?


def checks(bench: Bench) -> Iterator[Job]:
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to be exact
    torch.set_deterministic_debug_mode("warn")
    yield "agreement with the CPU", partial(agreement, bench)
    if "fp16" in bench.precisions:
        yield "loss scaling in fp16", partial(loss_scaling, bench)
    for precision in bench.precisions:
        config = replace(bench.config, precision=precision)
        yield f"stopped and resumed in {precision}", partial(resuming, bench, config)


def verdict(found: dict[str, tuple[float, float]]) -> Record:
    """Values and the most they may be; a value that is not a number never passes."""
    passed = all(value <= bound for value, bound in found.values())
    values = {key: v if math.isfinite(v) else str(v) for key, (v, _) in found.items()}
    bounds = {key: bound for key, (_, bound) in found.items()}
    return {"status": "passed" if passed else "failed", "values": values, "bounds": bounds}


def agreement(bench: Bench) -> Record:
    """The same weights, which ship, on the same images: the device against the CPU in fp32."""
    found, expected = {}, outputs(torch.device("cpu"), "fp32")
    for precision in bench.precisions:
        for name, there in outputs(bench.device, precision).items():
            error = np.linalg.norm(there - expected[name]) / np.linalg.norm(expected[name])
            bound = BOUNDS[name.split()[-1]][precision]
            found[f"{name} in {precision}"] = float(error), bound
    return verdict(found)


def outputs(device: torch.device, precision: str) -> dict[str, Any]:
    """Maps of drawn images and their metrics, and the loss of the first batch of each phase."""
    run = load_pretrained("component", device)
    config = replace(run.config, batch_size=4, precision=precision)
    drawn, images = draw_images(size := config.image_size, config.batch_size)
    (maps,) = predict_maps(run.model, drawn.test, precision=precision, size=size, progress=False)
    metrics = anomaly_metrics(maps.final, drawn.masks)
    found = {"final map": maps.final, "student map": maps.student}
    found["metrics"] = np.array([metrics[name] for name in METRIC_NAMES])
    for phase in reversed(PHASES):  # the student takes no step before its maps are used
        steps = train_phase(run.model, images, config, start_phase(run.model, config, phase))
        found[f"{phase} loss"] = next(steps).cpu().numpy()
    return found


def loss_scaling(bench: Bench) -> Record:
    """fp16 learns with finite losses, and a step that overflows changes nothing but the scale."""
    config, model, found = replace(bench.config, precision="fp16"), bench.model(), {}
    for phase in PHASES:
        steps = train_phase(model, bench.images, config, start_phase(model, config, phase))
        losses = [float(loss) for loss in steps]  # it raises where one is not finite
        found[f"{phase}, share of the loss left"] = losses[-1] / losses[0], 0.95
        state = start_phase(model, config, phase)
        state.scaler = torch.amp.GradScaler(bench.device.type, init_scale=HUGE)
        weights = {key: value.clone() for key, value in model.named_parameters()}
        next(train_phase(model, bench.images, config, state))
        moved = difference(weights, dict(model.named_parameters()))
        found[f"{phase}, weights moved by an overflow"] = moved, 0.0
        found[f"{phase}, scale after an overflow"] = state.scaler.get_scale() / HUGE, 0.5
    return verdict(found)


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of weights."""
    return max(float((one[key] - other[key]).detach().abs().max()) for key in one)


def resuming(bench: Bench, config: TrainingConfig) -> Record:
    """A run that is stopped in each phase ends at the weights of one that is not stopped."""
    # More images than a batch holds, so that the resumed run meets them in other company.
    images = draw_images(config.image_size, config.batch_size * 3 // 2)[1]
    bench = replace(bench, images=images)
    never, in_each_phase = 1 << 30, config.student.steps - 1
    whole, again, resumed = (trained(bench, config, n) for n in (never, never, in_each_phase))
    # Where two unbroken runs differ the device is not deterministic, and no more can be asked.
    bound = 3 * difference(whole, again)
    return verdict({"largest difference of weights": (difference(whole, resumed), bound)})


def trained(bench: Bench, config: TrainingConfig, stop_every: int) -> dict[str, torch.Tensor]:
    """Weights after both phases, from runs that are stopped after some steps until one ends."""
    steps = count(1)
    asked = nullcontext(lambda: next(steps) % stop_every == 0)  # in place of Ctrl-C
    waiting = patch.object(checkpoint, "interrupts_wait", lambda: asked)
    with waiting, tempfile.TemporaryDirectory() as folder:
        for seed in count():  # a resumed model must have its weights from the file
            model = bench.model(seed)
            with suppress(checkpoint.InterruptedRunError):
                checkpoint.train_with_checkpoints(
                    Path(folder), model, bench.images, config, progress=False
                )
                return trained_weights(model)


# Part b: how fast is it?


def speed(bench: Bench) -> Iterator[Job]:
    compiling = (False, True) if bench.device.type == "cuda" else (False,)
    for compiled, precision, phase in product(compiling, bench.precisions, PHASES):
        work = partial(time_steps, bench, phase, precision, compiled)
        yield f"{phase}, {precision}{', compiled' * compiled}", work


def time_steps(bench: Bench, phase: Phase, precision: str, compiled: bool) -> Record:
    """Seconds of a step, corruption and transfer included, after some steps to warm up.

    Then the teacher has seen the clean images, which it does once where they are not turned.

    In fp32 convolutions are in TF32, as torch has it.
    """
    rate, flop = product_rate(bench.device), flop_per_step(bench, phase)
    if on_gpu := bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.compiler.reset()
    # A step takes as long at any rate; the timer takes seven more steps to warm up.
    slow = PhaseConfig(steps=TIMED + 8, lr=1e-4)
    config = replace(bench.config, student=slow, segmentation=slow, precision=precision)
    model = bench.model(compiled=compiled)
    steps = train_phase(model, bench.images, config, start_phase(model, config, phase))
    seconds = seconds_of("next(steps)", steps=steps)
    return {
        "images_per_second": config.batch_size / seconds,
        "share_of_bf16_product": flop / seconds / rate,
        "seconds_per_step": seconds,
        "flop_per_step": flop,
        "bf16_product_flop_per_second": rate,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
    }


@cache
def product_rate(device: torch.device) -> float:
    """Operations per second of the bf16 product of two large random square matrices."""
    size = 8192 if device.type == "cuda" else 256
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / seconds_of("a @ b", a=a, b=b)


def seconds_of(statement: str, **names: object) -> float:
    """Mean seconds of a statement, after warming up; a GPU is waited for before and after."""
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    timer.timeit(3)
    return timer.timeit(TIMED).mean


@cache
def flop_per_step(bench: Bench, phase: Phase) -> int:
    """Operations of a step's convolutions and matrix products, forward and backward."""
    model, config = bench.model(), bench.config
    steps = train_phase(model, bench.images, config, start_phase(model, config, phase))
    next(steps)  # the teacher has seen the clean images once; the steps that are timed come after
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops()
