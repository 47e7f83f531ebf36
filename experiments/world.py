"""How hard the drawn categories are: two trivial detectors, and DeSTSeg at a small fixed budget.

The trivial detectors are the distance to the pixel-wise mean image and to the nearest neighbour
among downsampled good images. DeSTSeg is the tiny recipe; from the same student every level alone,
their product and their sum are measured too, for the paper's observation on MVTec AD's transistor.
One JSON file per category and seed, written as soon as it is finished; a category and seed with a
file are not run again.

Run: ``python experiments/world.py --records results/world [--categories nut wood] [--seeds 0 1 2]``
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from destseg_lib.config import METRIC_SIZE, RECIPES, TOP_PIXELS, config_to_dict
from destseg_lib.device import autocast, keep_freed_memory, resolve_device
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import DrawnImages, draw_category, find_drawn, write_category
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.files import write_json
from destseg_lib.fusion import distance_map
from destseg_lib.images.folders import find_category
from destseg_lib.metrics import anomaly_metrics, image_auroc, image_scores
from destseg_lib.model import quarter, to_tensor
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run, load_run, read_run
from destseg_lib.runs.train import TrainingJob, train_and_calibrate
from destseg_lib.teacher import normalise

SMALL = 32  # side of the downsampled images of the nearest neighbour


def trivial(images: DrawnImages) -> dict[str, float]:
    """Image AUROC of the two detectors that know nothing."""
    labels = np.array([defect != "good" for defect in images.defects])
    mean = images.train.mean(0, dtype=np.float32)
    distances = np.stack([((test - mean) ** 2).sum(-1) for test in images.test])
    parts = (_resized(part, SMALL).astype(np.float32) for part in (images.train, images.test))
    small = [part.reshape(len(part), -1) for part in parts]
    nearest = NearestNeighbors(n_neighbors=1).fit(small[0])
    return {
        "mean_image": image_auroc(image_scores(distances, TOP_PIXELS), labels),
        "nearest_neighbour": image_auroc(nearest.kneighbors(small[1])[0][:, 0], labels),
    }


def by_level(run: Run, images: DrawnImages) -> dict[str, dict[str, Any]]:
    """Metrics of each level's cosine distance alone, of their product and of their sum."""
    every = slice(None)
    wanted = {f"level{k}": slice(n, n + 1) for n, k in enumerate(run.config.model.levels)}
    wanted |= {"product": every, "sum": every}
    device = next(run.model.student.parameters()).device
    maps: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    for start in range(0, len(images.test), 16):
        pixels = _resized(images.test[start : start + 16], run.config.image_size)
        x = normalise(to_tensor(pixels, device))
        with torch.no_grad(), autocast(device, run.config.precision):
            teacher, student = run.model.features(x)
        # At a quarter of the image, where the levels meet, and only then at the metrics' size.
        for name, levels in wanted.items():
            kind = "sum" if name == "sum" else "product"
            found = distance_map(teacher[levels], student[levels], kind, quarter(x))
            full = F.interpolate(found, (METRIC_SIZE, METRIC_SIZE), mode="bilinear")[:, 0]
            maps[name].append(full.cpu().numpy())
    return {name: _measured(np.concatenate(parts), images) for name, parts in maps.items()}


def _measured(maps: NDArray[np.float32], images: DrawnImages) -> dict[str, Any]:
    """Metrics of all test images, and of each type of defect against the good images."""
    kinds = np.array(images.defects)

    def metrics(rows: NDArray[np.bool_]) -> dict[str, Any]:
        found = anomaly_metrics(maps[rows], images.masks[rows], labels=kinds[rows] != "good")
        return {k: found[k] for k in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap")}

    defects = sorted(set(images.defects) - {"good"})
    by_defect = {one: metrics((kinds == "good") | (kinds == one)) for one in defects}
    return {**metrics(np.ones(len(kinds), bool)), "defects": by_defect}


def measure(name: str, seed: int, runs: Path, world: Path, teacher: str) -> dict[str, Any]:
    """Train on one category with one seed and measure everything."""
    images = draw_category(name, METRIC_SIZE)
    config = replace(RECIPES["tiny"](), rotation=find_drawn(name).rotation, seed=seed)
    category = find_category(write_category(name, world))
    out = runs / f"{name}-{teacher}-seed{seed}"
    started = time.perf_counter()
    train_and_calibrate(category, out, config, TrainingJob(teacher=teacher))
    seconds = time.perf_counter() - started
    run = load_run(out, resolve_device())
    evaluation = evaluate_category(run, category)
    return {
        "product": name,
        "seed": seed,
        "teacher": teacher,
        "seconds": round(seconds, 1),
        "images": {"train": len(images.train), **asdict(evaluation.images)},
        "trivial": trivial(images),
        "final": asdict(evaluation.final),
        "defects": {name: asdict(found) for name, found in evaluation.defects.items()},
        "student": by_level(run, images),
        "config": config_to_dict(run.config),
        "teacher_fingerprint": read_run(out)["teacher"]["fingerprint"],
        "provenance": provenance(resolve_device()),
    }


def _resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(p).resize((size, size), box)) for p in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/world"))
    parser.add_argument("--world", type=Path, default=Path("data/world"))
    parser.add_argument("--categories", nargs="*", default=[p.name for p in CATEGORIES])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--teacher", default="builtin")
    options = parser.parse_args()
    keep_freed_memory()
    options.records.mkdir(parents=True, exist_ok=True)
    # Seed by seed, so that an early stop leaves every category measured.
    for seed in options.seeds:
        for name in options.categories:
            path = options.records / f"{name}-{options.teacher}-seed{seed}.json"
            if path.exists():
                continue
            record = measure(name, seed, options.runs, options.world, options.teacher)
            write_json(path, record)
            print(path.name, record["trivial"], record["final"], flush=True)


if __name__ == "__main__":
    main()
