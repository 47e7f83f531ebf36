"""How similar a distilled teacher is to the real one: its features, and its filters.

Features are compared on photographs that it never saw; filters in the same place, and each with
the real one most like it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from destseg_lib.config import TEACHER_CHANNELS
from destseg_lib.device import resolve_device
from destseg_lib.images.load import load_images
from destseg_lib.resnet import ResNetTrunk
from destseg_lib.runs.provenance import provenance
from destseg_lib.teacher import Teacher, load_teacher
from tools.weights.distil.train import similarities

SIMILARITY = Path(__file__).resolve().parents[3] / "results/builtin_teacher/similarity.json"
FILTERS = SIMILARITY.with_name("filters.json")
SHOWN_STEPS = (0, 500, 1000, 2500, 5000)


def at_step(weights: Path, step: int) -> Teacher:
    """The distilled network after a step."""
    trunk = ResNetTrunk(tuple(TEACHER_CHANNELS.values()))
    file = weights / f"weights_{step:06d}.pt"
    trunk.load_state_dict(torch.load(file, weights_only=True))
    return Teacher(trunk, file.stem)


def similarity_record(
    real: Teacher, weights: Path, folders: dict[str, str], sizes: list[int], most: int
) -> dict[str, Any]:
    """Mean cosine similarity to the real features, by folder of photographs, size and network.

    Args:
        real: the teacher that was distilled.
        weights: the folder of the distillation.
        folders: of photographs, by name.
        sizes: of the photographs; the distillation's steps are measured at the first one alone.
        most: photographs of a folder.
    """
    finished = {"random": load_teacher("random"), "builtin": load_teacher("builtin")}
    learning = {f"step {step}": at_step(weights, step) for step in SHOWN_STEPS}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    counts: dict[str, int] = {}
    for name, folder in folders.items():
        paths = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".jpg", ".png"))
        chosen = np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)
        counts[name], found[name] = len(chosen), {}
        for size in sizes:
            pixels = load_images([paths[n] for n in chosen], size, description=name).pixels
            networks = finished | learning if size == sizes[0] else finished
            found[name][str(size)] = {
                label: [round(v, 4) for v in similarities(network, real, pixels)]
                for label, network in networks.items()
            }
            print(name, size, found[name][str(size)], flush=True)
    return {
        "what": "mean cosine similarity to the real teacher's features at layer1, layer2, layer3",
        "photographs": counts,
        "similarity": found,
        "builtin_fingerprint": finished["builtin"].fingerprint(),
        "provenance": provenance(resolve_device("cpu")),
        "curve": [json.loads(line) for line in (weights / "curve.jsonl").read_text().splitlines()],
        "plan": torch.load(weights / "state.pt", weights_only=True)["plan"],
    }


def folded_filters(teacher: Teacher) -> dict[str, Tensor]:
    """Every convolution's weights (out, in, k, k) with its batch norm's gain multiplied in."""
    parts = dict(teacher.trunk.named_modules())
    filters = {}
    for name, part in parts.items():
        if isinstance(part, nn.Conv2d):
            norm = parts[name.replace("conv", "bn").replace("downsample.0", "downsample.1")]
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            filters[name] = (part.weight * gain[:, None, None, None]).detach()
    return filters


def likeness(own: Tensor, real: Tensor) -> tuple[float, float]:
    """Median cosine similarity of filters in the same place, and of each with its most alike."""
    a, b = F.normalize(own.flatten(1)), F.normalize(real.flatten(1))
    in_place = (a * b).sum(1).abs().median()
    return round(float(in_place), 3), round(float((a @ b.T).max(1).values.median()), 3)


def filters_record(real: Teacher, weights: Path) -> dict[str, Any]:
    """The likeness of the filters to the real ones, at step 0 and of the built-in teacher."""
    networks = {"step 0": at_step(weights, 0), "builtin": load_teacher("builtin")}
    theirs = folded_filters(real)
    return {
        "what": "median cosine similarity to the real teacher's filters: in the same place, and of "
        "each filter with the real one most like it",
        "likeness": {
            label: {name: likeness(own, theirs[name]) for name, own in folded_filters(one).items()}
            for label, one in networks.items()
        },
        "builtin_fingerprint": networks["builtin"].fingerprint(),
        "provenance": provenance(resolve_device("cpu")),
    }
