"""How hard the embedded world is: two trivial detectors, and DeSTSeg at a small fixed budget.

The trivial ones are the distance to the pixel-wise mean image and to the nearest neighbour among
downsampled good images. DeSTSeg is the tiny recipe; from the same student every level alone, their
product and their sum are measured too, for the paper's observation on MVTec AD's transistor. One
JSON file a product and seed, written as it is finished; what is there already is not run again.

Run: ``python experiments/world.py --records results/world [--products nut wood] [--seeds 0 1 2]``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
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
from destseg_lib.drawn.dataset import DrawnImages, draw_category, write_category
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.files import write_json
from destseg_lib.images.folders import find_category
from destseg_lib.losses import cosine_distance
from destseg_lib.metrics import anomaly_metrics, image_auroc, image_scores
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run, load_run, read_run
from destseg_lib.runs.train import TrainingJob, train_category
from destseg_lib.teacher import normalise

SMALL = 32  # side of the downsampled images of the nearest neighbour


def trivial(images: DrawnImages) -> dict[str, float]:
    """Image AUROC of the two detectors that know nothing."""
    labels = np.array([defect != "good" for defect in images.defects])
    mean = images.train.mean(0, dtype=np.float32)
    distances = np.stack([((test - mean) ** 2).sum(-1) for test in images.test])
    small = [_small(part) for part in (images.train, images.test)]
    nearest = NearestNeighbors(n_neighbors=1).fit(small[0])
    return {
        "mean_image": image_auroc(image_scores(distances, TOP_PIXELS), labels),
        "nearest_neighbour": image_auroc(nearest.kneighbors(small[1])[0][:, 0], labels),
    }


def by_level(run: Run, images: DrawnImages) -> dict[str, dict[str, Any]]:
    """Figures of each level's cosine distance alone, of their product and of their sum."""
    size = run.config.image_size
    device = next(run.model.student.parameters()).device
    maps: dict[str, list[NDArray[np.float32]]] = {}
    for start in range(0, len(images.test), 16):
        pixels = images.test[start : start + 16]
        resized = np.stack(
            [
                np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BOX))
                for p in pixels
            ]
        )
        x = normalise(torch.from_numpy(resized).permute(0, 3, 1, 2).float().to(device) / 255)
        with torch.no_grad(), autocast(device, run.config.precision):
            teacher, student = run.model.features(x)
        # At a quarter of the image, where the levels meet, and only then at the metrics' size.
        levels = [
            F.interpolate(cosine_distance(s, t)[:, None], (size // 4, size // 4), mode="bilinear")
            for s, t in zip(student, teacher, strict=True)
        ]
        whole = torch.cat(levels, 1)
        named = {f"level{k}": whole[:, k - 1 : k] for k in run.config.model.levels}
        named |= {"product": whole.prod(1, keepdim=True), "sum": whole.sum(1, keepdim=True)}
        for name, chosen in named.items():
            full = F.interpolate(chosen, (METRIC_SIZE, METRIC_SIZE), mode="bilinear")[:, 0]
            maps.setdefault(name, []).append(full.cpu().numpy())
    found = {}
    for name, parts in maps.items():
        stack = np.concatenate(parts)
        found[name] = _figures(stack, images.masks, images.defects)
        found[name]["defects"] = {
            defect: _figures(stack[rows], images.masks[rows], [images.defects[r] for r in rows])
            for defect in sorted(set(images.defects) - {"good"})
            if (rows := [n for n, d in enumerate(images.defects) if d in ("good", defect)])
        }
    return found


def measure(name: str, seed: int, runs: Path, world: Path, teacher: str) -> dict[str, Any]:
    """Train on one product with one seed and measure everything."""
    product = next(p for p in CATEGORIES if p.name == name)
    images = draw_category(name, METRIC_SIZE)
    config = replace(RECIPES["tiny"](), rotation=product.rotation, seed=seed)
    category = find_category(write_category(name, world))
    out = runs / f"{name}-{teacher}-seed{seed}"
    started = time.perf_counter()
    train_category(category, out, config, TrainingJob(teacher=teacher))
    seconds = time.perf_counter() - started
    run = load_run(out, resolve_device())
    whole = evaluate_category(run, category)
    kept = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap90")
    return {
        "product": name,
        "seed": seed,
        "teacher": teacher,
        "seconds": round(seconds, 1),
        "images": {"train": len(images.train), **whole["images"]},
        "trivial": trivial(images),
        "final": {key: whole[key] for key in kept},
        "defects": whole["defects"],
        "student": by_level(run, images),
        "config": config_to_dict(run.config),
        "teacher_fingerprint": read_run(out)["teacher"]["fingerprint"],
        "provenance": provenance(resolve_device()),
    }


def _figures(maps: NDArray[np.float32], masks: NDArray[np.bool_], defects: Any) -> dict[str, Any]:
    figures = anomaly_metrics(maps, masks, labels=[defect != "good" for defect in defects])
    return {key: figures[key] for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap")}


def _small(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.stack([_resized(p, SMALL).astype(np.float32).ravel() for p in images])


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/world"))
    parser.add_argument("--world", type=Path, default=Path("data/world"))
    parser.add_argument("--products", nargs="*", default=[p.name for p in CATEGORIES])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--teacher", default="builtin")
    options = parser.parse_args()
    keep_freed_memory()
    options.records.mkdir(parents=True, exist_ok=True)
    # Seed by seed, so that an early stop leaves every product measured.
    for seed in options.seeds:
        for name in options.products:
            path = options.records / f"{name}-{options.teacher}-seed{seed}.json"
            if path.exists():
                continue
            record = measure(name, seed, options.runs, options.world, options.teacher)
            write_json(path, record)
            print(path.name, record["trivial"], record["final"], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
