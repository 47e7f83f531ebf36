"""Parts a and b of ``gpu.py``: what depends on the device and not on the data."""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from destseg_lib.batches import PHASES, Phase, TrainingImages, draw_batch
from destseg_lib.config import METRIC_SIZE, PhaseConfig, TrainingConfig
from destseg_lib.device import autocast
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.metrics import anomaly_metrics
from destseg_lib.model import DeSTSeg, predict_maps
from destseg_lib.runs.checkpoint import load_checkpoint, save_checkpoint
from destseg_lib.runs.run import trained_weights
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.studies.trial import Trial
from destseg_lib.teacher import load_teacher
from destseg_lib.textures import procedural_textures
from destseg_lib.training import LOSSES, move_to_device, start_phase, train_only, train_phase

COMPILING = 20.0  # seconds; with less left compiling is not begun
WARM_UP, BLOCKS = 3, 3  # steps before timing, and blocks of steps that are timed
CPU = torch.device("cpu")
# How far the device may be from the CPU in fp32, relative and in norm.
BOUNDS = {
    "map": {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1},
    "loss": {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.04},
    "metrics": {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.02},
}

Record = dict[str, Any]
Save = Callable[[], None]


@dataclass(frozen=True)
class Bench:
    """What the parts share: the paper's configuration or a smaller one, and images for a and b."""

    options: argparse.Namespace
    device: torch.device
    where: Record  # provenance
    config: TrainingConfig
    trials: list[Trial]
    images: TrainingImages

    def model(self, seed: int = 0, *, compiled: bool = False) -> DeSTSeg:
        """An untrained model on the device."""
        model = DeSTSeg(load_teacher("builtin"), self.config.model, generator(seed))
        return move_to_device(model, self.device, compile_networks=compiled)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Part a: is it right?


def checks(bench: Bench, record: Record, save: Save, until: float) -> None:
    record["checks"] = []
    for work in (agreement, loss_scaling, resuming):
        try:
            for check in work(bench):
                record["checks"].append(check)
                verdict = "passed" if check["passed"] else "FAILED"
                print(f"  {verdict} {check['name']}: {check['value']}, bound {check['bound']:g}")
                save()
        except Exception as error:  # the other checks are still worth making
            said = first_line(error)
            record["checks"].append({"name": work.__name__, "error": said, "passed": False})
            print(f"  FAILED {work.__name__}: {said}")


def check(name: str, value: float, bound: float, **more: Any) -> Record:
    """A measured value and the most it may be; a value that is not a number never passes."""
    plain = value if math.isfinite(value) else str(value)
    return {"name": name, "value": plain, "bound": bound, "passed": bool(value <= bound), **more}


def agreement(bench: Bench) -> Iterator[Record]:
    """The CPU in fp32 against the device: a model that ships, and the paper's before training."""
    run, few = load_pretrained("component", CPU), min(8, bench.config.batch_size)
    size, counts = run.config.image_size, ImageCounts(few, few // 2, max(1, few // 4))
    drawn = draw_category("component", size, counts, progress=False)
    images = TrainingImages(drawn.train, procedural_textures(few, size, generator()))
    masks = np.kron(drawn.masks, np.ones((METRIC_SIZE // size,) * 2, np.uint8))
    shipped, paper = (replace(config, batch_size=few) for config in (run.config, bench.config))
    test = bench.images.good[np.arange(few)]
    for case, arguments in {
        "shipped model": (run.model, shipped, images, drawn.test, masks),
        "paper's model": (bench.model(), paper, bench.images, test, None),
    }.items():
        wanted = outputs(*arguments, "fp32", CPU)
        for precision in bench.options.precisions:
            with tf32(False):
                got = outputs(*arguments, precision, bench.device)
            for name, want in wanted.items():
                error = float(np.linalg.norm(got[name] - want) / np.linalg.norm(want))
                bound = BOUNDS[name.split()[-1]][precision]
                yield check(f"{case}, {name} in {precision}", error, bound)


def outputs(
    model: DeSTSeg,
    config: TrainingConfig,
    images: TrainingImages,
    test: NDArray[np.uint8],
    masks: NDArray[np.uint8] | None,
    precision: str,
    device: torch.device,
) -> dict[str, NDArray[np.floating[Any]]]:
    """Maps of the test images, their six metrics if there are masks, and a loss of each phase."""
    model = move_to_device(copy.deepcopy(model), device)
    maps = list(predict_maps(model, test, precision=precision, progress=False))
    found = {
        "final map": np.concatenate([m.final for m in maps]),
        "student map": np.concatenate([m.student for m in maps]),
    }
    if masks is not None:
        metrics = anomaly_metrics(found["final map"], masks)
        found["metrics"] = np.array([metrics[key] for key in METRIC_NAMES])
    for phase in PHASES:
        found[f"{phase} loss"] = np.array(loss_of(model, config, images, phase, precision))
    return found


def loss_of(
    model: DeSTSeg, config: TrainingConfig, images: TrainingImages, phase: Phase, precision: str
) -> float:
    """The loss of a phase's first batch."""
    device = next(model.student.parameters()).device
    batch = draw_batch(images, config, phase, 0, device)
    train_only(model, phase)
    with torch.no_grad(), autocast(device, precision):
        return float(LOSSES[phase](model, batch, config))


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether fp32 convolutions and products may be shortened to a mantissa of 10 bits."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def resuming(bench: Bench) -> Iterator[Record]:
    """A run that is stopped and goes on from a file ends where one that is not stopped does."""
    for precision in bench.options.precisions:
        config = replace(bench.config, precision=precision)
        torch.set_deterministic_debug_mode("warn")
        try:
            models = [trained(bench, config, stop=stop) for stop in (False, False, True)]
        finally:
            torch.set_deterministic_debug_mode("default")
        whole, again, resumed = (trained_weights(model) for model in models)
        # Where two unbroken runs differ the device is not deterministic, and no more can be asked.
        repeat, found = largest(whole, again), largest(whole, resumed)
        yield check(f"resumed weights in {precision}", found, 3 * repeat, unbroken_twice=repeat)


def trained(bench: Bench, config: TrainingConfig, *, stop: bool = False) -> DeSTSeg:
    """A model after both phases; each can be stopped half-way and resumed by another model."""
    model = bench.model()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pt"
        for phase in PHASES:
            state = start_phase(model, config, phase)
            for _ in train_phase(model, bench.images, config, state):
                if stop and state.step == bench.options.check_steps // 2:
                    break
            if stop:
                save_checkpoint(file, model, config, state)
                model = bench.model(seed=1)  # all that it knows is to come from the file
                state = load_checkpoint(file, model, config)
                for _ in train_phase(model, bench.images, config, state):
                    pass
    return model


def largest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two sets of weights."""
    return max(float((one[key] - other[key]).detach().abs().max()) for key in one)


def loss_scaling(bench: Bench) -> Iterator[Record]:
    """fp16 learns with finite losses, and a step that overflows changes nothing but the scale."""
    steps, model = bench.options.check_steps, bench.model()
    config = replace(bench.config, precision="fp16")
    for phase in PHASES:
        state = start_phase(model, config, phase)
        before = loss_of(model, config, bench.images, phase, "fp16")
        for _ in train_phase(model, bench.images, config, state):
            pass  # it raises where a loss is not finite
        after = loss_of(model, config, bench.images, phase, "fp16")
        more = {"before": before, "after": after, "scale": state.scaler.get_scale()}
        yield check(
            f"fp16, {phase} loss, share left after {steps} steps", after / before, 0.95, **more
        )
        state = start_phase(model, config, phase)
        state.scaler = torch.amp.GradScaler(bench.device.type, init_scale=2.0**60)
        weights = {key: value.clone() for key, value in model.named_parameters()}
        next(train_phase(model, bench.images, config, state))
        moved = largest(weights, dict(model.named_parameters()))
        yield check(f"fp16, {phase}, weights moved by an overflow", moved, 0)
        shrunk = state.scaler.get_scale() / 2.0**60
        yield check(f"fp16, {phase}, scale after an overflow", shrunk, 0.5)


# Part b: how fast is it?


def speed(bench: Bench, record: Record, save: Save, until: float) -> None:
    rate = product_rate(bench.device)
    flop = {phase: flop_a_step(bench, phase) for phase in PHASES}
    record["bf16_product_flop_per_second"], record["flop_a_step"] = rate, flop
    record["tf32_in_fp32_convolutions"] = torch.backends.cudnn.allow_tf32
    record["steps"] = []
    for compiled in (False,) if bench.options.no_compile else (False, True):
        for precision in bench.options.precisions:
            for phase in PHASES:
                one: Record = {"phase": phase, "precision": precision, "compiled": compiled}
                record["steps"].append(one | {"skipped": "the time was up"})
                try:
                    if compiled and (left := until - time.monotonic()) < COMPILING:
                        raise RuntimeError(f"{left:.0f} s are left, too few to compile")
                    one |= timed(bench, phase, precision, compiled)
                    one["share_of_bf16_product"] = flop[phase] / one["seconds_a_step"] / rate
                    said = f"{one['images_per_second']:.1f} images/s"
                except Exception as error:  # no memory, no compiler: what cannot be done, is said
                    said = one["skipped"] = first_line(error)
                record["steps"][-1] = one
                print(f"  {phase}, {precision}{', compiled' * compiled}: {said}")
                save()


def product_rate(device: torch.device) -> float:
    """Operations per second of the bf16 product of two large random square matrices."""
    size, each = (8192 if device.type == "cuda" else 256), 5
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    times = [now(device)]
    for _ in range(BLOCKS + 1):  # the first warms up
        for _ in range(each):
            a @ b
        times.append(now(device))
    return 2 * size**3 * each / statistics.median(np.diff(times)[1:].tolist())


def flop_a_step(bench: Bench, phase: Phase) -> int:
    """Operations of a step's convolutions and matrix products, forward and backward."""
    config, model = replace(bench.config, precision="fp32"), bench.model()
    with FlopCounterMode(display=False) as counter:
        next(train_phase(model, bench.images, config, start_phase(model, config, phase)))
    return counter.get_total_flops()


def timed(bench: Bench, phase: Phase, precision: str, compiled: bool) -> Record:
    """The median over blocks of steps, corruption and transfer included."""
    on_gpu, each = bench.device.type == "cuda", bench.options.timed_steps
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if compiled:
        torch.compiler.reset()
    slow = PhaseConfig(steps=WARM_UP + BLOCKS * each, lr=1e-4)  # a step takes as long at any rate
    config = replace(bench.config, student=slow, segmentation=slow, precision=precision)
    model = bench.model(compiled=compiled)
    times = [now(bench.device)]
    steps = train_phase(model, bench.images, config, start_phase(model, config, phase))
    for done, _ in enumerate(steps, start=1 - WARM_UP):
        if done >= 0 and done % each == 0:
            times.append(now(bench.device))
    blocks = (np.diff(times[1:]) / each).tolist()
    return {
        "seconds_a_step": statistics.median(blocks),
        "seconds_a_step_by_block": blocks,
        "images_per_second": config.batch_size / statistics.median(blocks),
        "warm_up_seconds": times[1] - times[0],
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
    }


def now(device: torch.device) -> float:
    """The time once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
