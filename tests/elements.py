"""One of each interactive element, on small drawn data, for the tests."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from tiny import tiny_model

from destseg_lib import widgets
from destseg_lib.studies.study import Study


def explorer() -> widgets.ThresholdExplorer:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    masks = np.zeros((2, 24, 32), np.uint8)
    masks[0, 3:9, 4:12] = masks[1, 15:20, 2:5] = masks[1, 2:6, 20:30] = 1
    maps = gaussian_filter(masks.astype(float), (0, 1, 1)) + 0.2 * rng.standard_normal(masks.shape)
    return widgets.ThresholdExplorer(images, maps, masks)


def laboratory() -> widgets.CorruptionLab:
    rng = np.random.default_rng(2)
    image, stripes, dots = rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    return widgets.CorruptionLab(image, {"stripes": stripes, "dots": dots}, rng)


def probe() -> widgets.SimilarityProbe:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    sides = ((16, 8, 10), (32, 4, 5), (64, 2, 2))
    return widgets.SimilarityProbe(image, [rng.standard_normal(side) for side in sides])


def fusion() -> widgets.FusionByHand:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[0, 3:9, 4:12] = 1
    levels = [masks + noise * rng.standard_normal(masks.shape) for noise in (1.5, 1.0, 0.7, 0.4)]
    return widgets.FusionByHand(images, levels[:3], masks, levels[3])


def film() -> widgets.TrainingFilm:
    rng = np.random.default_rng(5)
    panels = {
        name: rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8) for name in ("student", "map")
    }
    still = {"photograph": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)}
    losses = {"loss": [3.0, 1.5, 0.75, 0.4, 0.3125, 0.25]}
    return widgets.TrainingFilm([0, 10, 20, 40, 80, 160], still | panels, losses)


def study() -> tuple[Study, list[dict]]:
    """A study of two categories, one variant of which has not run on the second."""
    variants = {"whole": {}, "without L1": {"l1": False}, "cosine": {"denoising": False}}
    paper = {"whole": {"iap": 76.4}, "without L1": {"iap": 74.4}}
    declared = Study("a study", "tiny", ("metal", "a/tile"), (0, 1), variants, "whole", paper=paper)
    rng = np.random.default_rng(6)
    records = [
        {"variant": variant, "category": category, "seed": seed, "status": "done"}
        | {metric: float(rng.random()) for metric in ("image_auroc", "pixel_ap", "iap", "aupro")}
        for variant in variants
        for category in ("metal", "a/tile")
        for seed in (0, 1)
        if (variant, category) != ("cosine", "a/tile")
    ]
    return declared, records


def ablation() -> widgets.AblationExplorer:
    return widgets.AblationExplorer([study()])


def method() -> widgets.MethodPicture:
    rng = np.random.default_rng(7)
    good, corrupted, photograph = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 20:40] = 1
    return widgets.MethodPicture.of_model(tiny_model(), good, corrupted, mask, photograph, 0.5)


ALL = {
    "AblationExplorer": ablation,
    "ThresholdExplorer": explorer,
    "CorruptionLab": laboratory,
    "SimilarityProbe": probe,
    "FusionByHand": fusion,
    "MethodPicture": method,
    "TrainingFilm": film,
    "TwoVectors": widgets.TwoVectors,
    "DilatedTaps": widgets.DilatedTaps,
}
