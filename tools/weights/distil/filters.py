"""Are the distilled filters the real teacher's? In place, and after looking for the most alike.

python -m tools.weights.distil.filters --teacher FILE --weights runs/distil
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from destseg_lib.device import resolve_device
from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance
from destseg_lib.teacher import Teacher, load_teacher
from tools.weights.distil.measure import at_step

RECORD = Path(__file__).resolve().parents[3] / "results" / "builtin_teacher" / "filters.json"


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


def main() -> None:
    """Record the likeness at step 0 and of the built-in teacher."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--teacher", default="imagenet", help="the real one, or its file")
    parser.add_argument("--weights", type=Path, required=True, help="of the distillation")
    options = parser.parse_args()
    real = folded_filters(load_teacher(options.teacher))
    networks = {
        "step 0": at_step(options.weights / "weights_000000.pt"),
        "builtin": load_teacher("builtin"),
    }
    found = {
        label: {name: likeness(own, real[name]) for name, own in folded_filters(network).items()}
        for label, network in networks.items()
    }
    record = {
        "what": "median cosine similarity to the real teacher's filters: in the same place, and of "
        "each filter with the real one most like it",
        "likeness": found,
        "builtin_fingerprint": networks["builtin"].fingerprint(),
        "provenance": provenance(resolve_device("cpu")),
    }
    write_json(RECORD, record)


if __name__ == "__main__":
    main()
