"""Make the built-in teacher: ``python -m tools.weights.distil train --out runs/distil``, and so on.

``train`` distils, or continues a run that was stopped; ``ship`` puts the result into the package;
``measure`` compares it with the real teacher; ``card`` writes the teacher's card from the records.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from destseg_lib.device import keep_freed_memory
from destseg_lib.files import write_json
from destseg_lib.teacher import BUILTIN, load_teacher
from tools.weights.distil.measure import FILTERS, SIMILARITY, filters_record, similarity_record
from tools.weights.distil.train import Distillation, distil


def card() -> str:
    """The template with the values of the records in it."""
    record, filters = (json.loads(path.read_text()) for path in (SIMILARITY, FILTERS))
    last, alike = record["curve"][-1], filters["likeness"]["builtin"]
    values = {
        "fingerprint": record["builtin_fingerprint"],
        "minutes": f"{last['seconds'] / 60:.0f}",
        "steps": f"{last['step']:,}",
        "processor": record["provenance"]["processor"],
        "conv1": f"{alike['conv1'][1]:.2f}",
        "layer2": f"{alike['layer2.0.conv1'][1]:.2f}",
        "layer3": f"{alike['layer3.1.conv1'][1]:.2f}",
    }
    for name, count in record["photographs"].items():
        values[f"{name}_n"] = f"{count:,}"
        for key, teacher in ((name, "builtin"), (f"{name}_r", "random")):
            found = record["similarity"][name]["128"][teacher]
            values[key] = " / ".join(f"{v:.3f}" for v in found)
    return Path(__file__).with_name("card.md").read_text(encoding="utf-8").format(**values)


def ship(folder: Path) -> None:
    """Write the last weights of a distillation as the built-in teacher, at half precision."""
    state = torch.load(folder / "state.pt", weights_only=True)
    weights = {
        # Batch norm's statistics are few, and half precision would cost them dearly.
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in state["trunk"].items()
        if not name.endswith("num_batches_tracked")
    }
    BUILTIN.parent.mkdir(exist_ok=True)
    save_file(weights, BUILTIN, {"plan": json.dumps(state["plan"]), "steps": str(state["step"])})


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train, measure, shipping, writing = map(
        commands.add_parser, ("train", "measure", "ship", "card")
    )
    for one in (train, measure):
        one.add_argument("--teacher", default="imagenet", help="the real one, or its file")
    for one in (train, measure, shipping):
        one.add_argument("--out", type=Path, required=True, help="state, curve and weights")
    train.add_argument("--steps", type=int, default=Distillation.steps)
    train.add_argument("--fall", type=float, default=Distillation.fall, help="share of the steps")
    train.add_argument("--seed", type=int, default=0)
    measure.add_argument("--photographs", nargs="+", required=True, metavar="NAME=DIR")
    measure.add_argument("--sizes", nargs="*", type=int, default=[128, 256])
    measure.add_argument("--most", type=int, default=1200, help="photographs of a folder")
    writing.add_argument("--check", action="store_true", help="fail if the card would change")
    given = parser.parse_args()
    if given.command == "train":
        keep_freed_memory()
        plan = Distillation(steps=given.steps, fall=given.fall, seed=given.seed)
        distil(load_teacher(given.teacher), plan, given.out)
    elif given.command == "measure":
        real, folders = (
            load_teacher(given.teacher),
            dict(p.split("=", 1) for p in given.photographs),
        )
        write_json(SIMILARITY, similarity_record(real, given.out, folders, given.sizes, given.most))
        write_json(FILTERS, filters_record(real, given.out))
    elif given.command == "ship":
        ship(given.out)
    elif not given.check:
        BUILTIN.with_suffix(".md").write_text(card(), encoding="utf-8")
    elif BUILTIN.with_suffix(".md").read_text(encoding="utf-8") != card():
        sys.exit("The card is stale: python -m tools.weights.distil card")


if __name__ == "__main__":
    main()
