"""The memory bank on folders of photographs: the rival's metrics, as those of a trained run.

The bank sees the same good images as a run with this seed (the held-out ones left out), at the same
size, through the same teacher. Its map is brought to the size of the metrics and smoothed by a
Gaussian of four pixels, its image score is the highest value before that, both as in PatchCore. One
JSON file per folder and seed; what is there already is not measured again.

Run: ``python experiments/memory_bank.py data/mvtec-ad/screw --teacher imagenet --size 192``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, quick_recipe
from destseg_lib.evaluation.memory_bank import CORESET_SHARE, memory_map, remember
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.files import write_json
from destseg_lib.images.folders import find_category
from destseg_lib.images.load import load_images
from destseg_lib.images.read import read_mask
from destseg_lib.metrics import anomaly_metrics
from destseg_lib.model import to_tensor
from destseg_lib.runs.holdout import hold_out
from destseg_lib.runs.provenance import provenance
from destseg_lib.teacher import Teacher, load_teacher, normalise

BATCH, SMOOTHING = 16, 4.0


def batches(pixels: NDArray[np.uint8], what: str) -> Iterator[Tensor]:
    """Normalised images (B, 3, S, S) of (N, S, S, 3) bytes."""
    for start in tqdm(range(0, len(pixels), BATCH), desc=what, unit="batch"):
        yield normalise(to_tensor(pixels[start : start + BATCH]))


def measure(data: Path, teacher: Teacher, size: int, seed: int) -> dict[str, object]:
    """Fill a bank with a folder's good images and measure it on the test images."""
    started = time.perf_counter()
    category = find_category(data)
    good = load_images(category.train, size).pixels
    kept, _ = hold_out(len(good), quick_recipe().holdout, seed)
    generator = torch.Generator().manual_seed(seed)
    bank = remember(teacher, batches(good[kept], "remembering"), generator)
    test = load_images([image.path for image in category.test], size).pixels
    found = [memory_map(teacher, bank, images) for images in batches(test, "measuring")]
    scores = torch.cat(found).amax(dim=(1, 2, 3)).numpy()
    shape = (METRIC_SIZE, METRIC_SIZE)
    resized = [F.interpolate(maps, shape, mode="bilinear")[:, 0].numpy() for maps in found]
    maps = np.stack([gaussian_filter(m, SMOOTHING) for m in np.concatenate(resized)])
    masks = np.zeros(maps.shape, np.uint8)
    for mask, image in zip(masks, category.test, strict=True):
        if image.mask is not None:
            mask[:] = read_mask(image.mask, METRIC_SIZE).pixels
    metrics = anomaly_metrics(
        maps, masks, scores, labels=[image.defect != "good" for image in category.test]
    )
    return {
        "category": data.name,
        "seed": seed,
        **{name: metrics[name] for name in METRIC_NAMES},
        "images": {"remembered": len(kept), "test": len(test)},
        "bank": {"features": len(bank), "share": CORESET_SHARE, "smoothing": SMOOTHING},
        "image_size": size,
        "teacher": {"name": Path(teacher.name).name, "fingerprint": teacher.fingerprint()},
        "seconds": round(time.perf_counter() - started, 1),
        "provenance": provenance(torch.device("cpu")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders in MVTec AD's layout")
    parser.add_argument("--teacher", default="builtin")
    parser.add_argument("--size", type=int, default=quick_recipe().image_size)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="records depend on it slightly")
    parser.add_argument("--records", type=Path, default=Path("results/memory_bank"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    teacher = load_teacher(options.teacher)
    options.records.mkdir(parents=True, exist_ok=True)
    for data in options.data:
        for seed in options.seeds:
            record = options.records / f"{data.name}-{options.size}-seed{seed}.json"
            if not record.exists():
                write_json(record, measure(data, teacher, options.size, seed))
                print(record, flush=True)


if __name__ == "__main__":
    main()
