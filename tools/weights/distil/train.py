"""Distil the ImageNet teacher into a network that has seen only drawn pictures.

The student of this distillation becomes the built-in *teacher* of the library. It starts from
random weights, sees nothing but ``images.Pool``, and learns to give the real teacher's features at
the three levels. Everything is drawn from the seed. State is saved as it goes; the same command
continues a run that was stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from tqdm import tqdm

from destseg_lib.device import autocast, resolve_precision
from destseg_lib.files import write_whole
from destseg_lib.model import to_tensor
from destseg_lib.resnet import ResNetTrunk, initialise
from destseg_lib.teacher import Teacher, normalise
from tools.weights.distil.images import Pool

SIZES = (64, 128, 256)  # channels of the three stages


@dataclass(frozen=True)
class Distillation:
    """One distillation: constant rate after a short rise, then a fall to zero.

    The fall can be entered from any point of the plateau, so that a longer run can go on from
    where a shorter one stood before its fall.
    """

    steps: int = 9_000
    fall: float = 0.35  # the last share of the steps, in which the rate falls to zero
    rise: int = 200
    batch: int = 32
    size: int = 96
    fall_size: int = 128  # side of the pictures during the fall
    lr: float = 5e-2
    weight_decay: float = 1e-2
    seed: int = 0
    pictures: int = 2500
    textures: int = 400
    renewed: int = 2


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal, for the weights of convolutions.

    Every singular value of a layer's update becomes about one (Jordan et al., 2024), so that rare
    directions are learned as fast as common ones. Layers of one shape share a batched product.
    """

    def __init__(self, weights: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weights from their gradients."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for weight in group["params"]:
                shapes.setdefault(tuple(weight.shape), []).append(weight)
            for weights in shapes.values():
                directions = []
                for weight in weights:
                    state = self.state[weight]
                    moment = state.setdefault("moment", torch.zeros_like(weight))
                    moment.lerp_(weight.grad, 1 - group["momentum"])
                    directions.append(weight.grad.lerp(moment, group["momentum"]).flatten(1))
                updates = _orthogonal(torch.stack(directions))
                scale = 0.2 * math.sqrt(max(updates.shape[1:]))  # the size of an Adam step
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices (N, R, C) with orthonormal rows, about, by five Newton-Schulz steps."""
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445
        )
    return (x.mT if tall else x).float()


def similarities(trunk: nn.Module, teacher: nn.Module, images: NDArray[np.uint8]) -> list[float]:
    """Mean cosine similarity of two networks' features at each level over (N, S, S, 3) images."""
    sums, count = [0.0, 0.0, 0.0], 0
    trunk.eval()
    with torch.no_grad():
        for batch in np.array_split(images, math.ceil(len(images) / 32)):
            x = prepared(batch)
            for level, (s, t) in enumerate(zip(trunk(x), teacher(x), strict=True)):
                sums[level] += float(F.cosine_similarity(s.float(), t.float()).mean((1, 2)).sum())
            count += len(batch)
    return [s / count for s in sums]


def prepared(pixels: NDArray[np.uint8]) -> Tensor:
    """(N, S, S, 3) uint8 to normalised (N, 3, S, S), channels last."""
    return normalise(to_tensor(pixels))


def validation_photographs(size: int = 128, count: int = 96) -> NDArray[np.uint8]:
    """Cuts of the two photographs that scikit-learn ships: what progress is judged on."""
    random = np.random.default_rng(1)
    cuts = []
    for n in range(count):
        photograph = load_sample_images().images[n % 2]
        side = int(random.integers(100, 400))
        y = int(random.integers(photograph.shape[0] - side))
        x = int(random.integers(photograph.shape[1] - side))
        cut = Image.fromarray(photograph[y : y + side, x : x + side])
        cuts.append(np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(cuts)


def distil(teacher: Teacher, plan: Distillation, out: Path, *, save_every: int = 500) -> None:
    """Run, or continue, a distillation; ``out`` gets state.pt, curve.jsonl and weights at steps."""
    out.mkdir(parents=True, exist_ok=True)
    trunk = ResNetTrunk(SIZES)
    initialise(trunk, torch.Generator().manual_seed(plan.seed), zero_residual=True)
    trunk.to(memory_format=torch.channels_last)
    teacher.to(memory_format=torch.channels_last)
    optimisers = make_optimisers(trunk, plan)
    start = restore(out / "state.pt", trunk, optimisers, plan)
    precision = resolve_precision("auto", torch.device("cpu"))
    photographs = validation_photographs()
    if start == 0:
        record(out, 0, trunk, teacher, photographs, {"seconds": 0.0})
    began, seconds_before = time.perf_counter(), last_seconds(out)
    losses: list[float] = []
    bar = tqdm(total=plan.steps, initial=start, desc="distilling", unit="step", mininterval=10)
    for step, pixels in zip(range(start, plan.steps), batches(plan, start), strict=False):
        set_rate(optimisers, plan, step)
        x = prepared(pixels).contiguous(memory_format=torch.channels_last)
        trunk.train()
        with autocast(torch.device("cpu"), precision):
            with torch.no_grad():
                targets = [t.float() for t in teacher(x)]
            outputs = [s.float() for s in trunk(x)]
        loss = sum(level_loss(s, t) for s, t in zip(outputs, targets, strict=True))
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
        bar.update()
        done = step + 1
        if done % save_every == 0 or done == plan.steps:
            spent = seconds_before + time.perf_counter() - began
            known = {"seconds": round(spent, 1), "loss": round(float(np.mean(losses)), 5)}
            losses.clear()
            row = record(out, done, trunk, teacher, photographs, known)
            bar.set_postfix_str(" ".join(f"{v:.3f}" for v in row["photographs"]))
            save(out, done, trunk, optimisers, plan)
    bar.close()


def level_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosine distance plus squared error in units of the teacher's mean square."""
    cosine = 1 - F.cosine_similarity(student, teacher).mean()
    return cosine + 0.5 * F.mse_loss(student, teacher) / teacher.square().mean()


def make_optimisers(trunk: nn.Module, plan: Distillation) -> list[torch.optim.Optimizer]:
    """Muon for all convolutions except the first, AdamW for the rest."""
    weights = dict(trunk.named_parameters())
    inner = [w for n, w in weights.items() if w.ndim == 4 and n != "conv1.weight"]
    ids = {id(w) for w in inner}
    rest = [w for w in weights.values() if id(w) not in ids]
    adam = torch.optim.AdamW(rest, lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.98))
    return [adam, Muon(inner, plan.lr, plan.weight_decay)]


def set_rate(optimisers: list[torch.optim.Optimizer], plan: Distillation, step: int) -> None:
    """The rate at a step: up, along, down."""
    up = min(1.0, (step + 1) / plan.rise)
    down = min(1.0, (plan.steps - step) / max(1, plan.fall * plan.steps))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = plan.lr * up * down


def batches(plan: Distillation, start: int) -> Iterator[NDArray[np.uint8]]:
    """One batch per step, drawn one step ahead in a thread while the networks work."""
    pool = Pool(plan.pictures, plan.textures, (plan.seed, start))
    falling = round(plan.steps * (1 - plan.fall))

    def draw(step: int) -> NDArray[np.uint8]:
        pool.renew(plan.renewed)
        return pool.batch(plan.batch, plan.size if step < falling else plan.fall_size)

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(draw, start)
        for step in range(start, plan.steps):
            batch = ahead.result()
            ahead = thread.submit(draw, step + 1)
            yield batch


def record(
    out: Path,
    step: int,
    trunk: nn.Module,
    teacher: nn.Module,
    photographs: NDArray[np.uint8],
    known: dict[str, Any],
) -> dict[str, Any]:
    """Append one point of the curve, and keep the weights where a comparison needs them."""
    row = {"step": step, **known}
    row["photographs"] = [round(v, 4) for v in similarities(trunk, teacher, photographs)]
    with (out / "curve.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    torch.save(trunk.state_dict(), out / f"weights_{step:06d}.pt")
    return row


def save(out: Path, step: int, trunk: nn.Module, optimisers: list[Any], plan: Distillation) -> None:
    """Write all that a continued run needs, whole or not at all."""
    state = {
        "step": step,
        "plan": asdict(plan),
        "trunk": trunk.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    write_whole(out / "state.pt", lambda file: torch.save(state, file))


def restore(path: Path, trunk: nn.Module, optimisers: list[Any], plan: Distillation) -> int:
    """Load a state if there is one; return the steps that are done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    trunk.load_state_dict(state["trunk"])
    for optimiser, values in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(values)
    return int(state["step"])


def last_seconds(out: Path) -> float:
    """Seconds of training before a stopped run was stopped."""
    return float(json.loads((out / "curve.jsonl").read_text().splitlines()[-1])["seconds"])
