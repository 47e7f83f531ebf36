"""Make the trained models that ship: train on a drawn category, measure, save.

python -m tools.weights.pretrain component nut wood
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from destseg_lib.config import RECIPES
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import ImageCounts, find_drawn, write_category
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.images.folders import find_category
from destseg_lib.runs.run import load_run
from destseg_lib.runs.shipped import PREFIX, SUFFIX, WEIGHTS, save_pretrained
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

WIDTH, SEGMENTATION_WIDTH = 0.25, 0.125  # together 3.7 MB at half precision


def main() -> None:
    """Train, measure and save each category that is named."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("categories", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrain"))
    parser.add_argument("--world", type=Path, default=Path("data/world"))
    parser.add_argument("--images", type=int, default=120, help="good ones to train on")
    parser.add_argument("--student-steps", type=int, default=1000)
    parser.add_argument("--segmentation-steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    recipe = RECIPES["tiny"]()
    for name in options.categories:
        config = replace(
            recipe,
            student=replace(recipe.student, steps=options.student_steps),
            segmentation=replace(recipe.segmentation, steps=options.segmentation_steps),
            model=replace(recipe.model, width=WIDTH, segmentation_width=SEGMENTATION_WIDTH),
            rotation=find_drawn(name).rotation,
            seed=options.seed,
            recipe="custom",
        )
        counts = replace(ImageCounts(), train=options.images)
        category = find_category(write_category(name, options.world, counts=counts))
        out = options.runs / name
        train_and_calibrate(category, out, config, TrainingJob(teacher="builtin"))
        evaluation = evaluate_category(load_run(out, resolve_device()), category)
        known = {
            "product": name,
            "figures": asdict(evaluation.final),
            "cosine_product": asdict(evaluation.student),
            "command": f"python -m tools.weights.pretrain {name} "
            f"--images {options.images} --student-steps {options.student_steps} "
            f"--segmentation-steps {options.segmentation_steps} --seed {options.seed}",
        }
        path = WEIGHTS / f"{PREFIX}{name}{SUFFIX}"
        save_pretrained(out, path, known)
        print(path.name, path.stat().st_size, known["figures"], flush=True)


if __name__ == "__main__":
    main()
