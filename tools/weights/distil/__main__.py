"""The command: ``python -m tools.weights.distil --out runs/distil``."""

from __future__ import annotations

import argparse
from pathlib import Path

from destseg_lib.device import keep_freed_memory
from destseg_lib.teacher import load_teacher
from tools.weights.distil.train import Distillation, distil


def main() -> None:
    """Distil, or go on distilling, the ImageNet teacher."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="state, curve and weights")
    parser.add_argument("--teacher", default="imagenet", help="or a file of its weights")
    parser.add_argument("--steps", type=int, default=Distillation.steps)
    parser.add_argument("--fall", type=float, default=Distillation.fall, help="share of the steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    plan = Distillation(steps=options.steps, fall=options.fall, seed=options.seed)
    distil(load_teacher(options.teacher), plan, options.out)


if __name__ == "__main__":
    main()
