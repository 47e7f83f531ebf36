"""How near a distilled teacher is to the real one, on photographs that it never saw.

python -m tools.weights.distil.measure --weights runs/distil --photographs dtd=DIR tile=DIR \
        --record results/builtin_teacher/similarity.json
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch

from destseg_lib.config import TEACHER_CHANNELS
from destseg_lib.device import resolve_device
from destseg_lib.files import write_json
from destseg_lib.images.load import load_images
from destseg_lib.resnet import ResNetTrunk
from destseg_lib.runs.provenance import provenance
from destseg_lib.teacher import Teacher, load_teacher
from tools.weights.distil.train import similarities

SHOWN_STEPS = (0, 500, 1000, 2500, 5000)


def at_step(file: Path) -> Teacher:
    """The distilled network as it stood at a step."""
    trunk = ResNetTrunk(tuple(TEACHER_CHANNELS.values()))
    trunk.load_state_dict(torch.load(file, weights_only=True))
    return Teacher(trunk, file.stem)


def main() -> None:
    """Measure every kept step, the built-in teacher and a random one, on every folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--teacher", default="imagenet", help="the real one, or its file")
    parser.add_argument("--weights", type=Path, help="of the distillation, for its steps")
    parser.add_argument("--photographs", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--sizes", nargs="*", type=int, default=[128, 256])
    parser.add_argument("--most", type=int, default=1200, help="photographs of a folder")
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    real = load_teacher(options.teacher)
    others = {"random": load_teacher("random"), "builtin": load_teacher("builtin")}
    if options.weights is not None:
        for file in sorted(options.weights.glob("weights_*.pt")):
            step = int(re.findall(r"\d+", file.stem)[0])
            if step in SHOWN_STEPS:
                others[f"step {step}"] = at_step(file)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    counts: dict[str, int] = {}
    for given in options.photographs:
        name, _, folder = given.partition("=")
        paths = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".jpg", ".png"))
        chosen = np.linspace(0, len(paths) - 1, min(options.most, len(paths))).astype(int)
        counts[name] = len(chosen)
        for size in options.sizes:
            pixels = load_images([paths[n] for n in chosen], size, description=name).pixels
            for label, teacher in others.items():
                if label.startswith("step") and size != options.sizes[0]:
                    continue
                values = [round(v, 4) for v in similarities(teacher, real, pixels)]
                found.setdefault(name, {}).setdefault(str(size), {})[label] = values
                print(name, size, label, values, flush=True)
    record = {
        "what": "mean cosine similarity to the real teacher's features at layer1, layer2, layer3",
        "photographs": counts,
        "similarity": found,
        "builtin_fingerprint": others["builtin"].fingerprint(),
        "provenance": provenance(resolve_device("cpu")),
    }
    if options.weights is not None:
        lines = (options.weights / "curve.jsonl").read_text().splitlines()
        record["curve"] = [json.loads(line) for line in lines]
        state = torch.load(options.weights / "state.pt", weights_only=True)
        record["plan"] = state["plan"]
    options.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.record, record)


if __name__ == "__main__":
    main()
