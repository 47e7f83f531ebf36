"""A training that takes a moment, for the tests of training and of runs."""

from __future__ import annotations

import numpy as np
import torch

from destseg_lib.batches import TrainingImages
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig
from destseg_lib.model import DeSTSeg
from destseg_lib.teacher import load_teacher

TINY = TrainingConfig(
    student=PhaseConfig(6, 1e-3, optimiser="adamw", schedule="one_cycle"),
    segmentation=PhaseConfig(5, 1e-3, optimiser="sgd"),
    model=ModelConfig(width=1 / 16),
    image_size=32,
    batch_size=2,
    precision="fp32",
)


def noise() -> TrainingImages:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return TrainingImages(pixels, pixels)


def tiny_model(config: TrainingConfig = TINY, seed: int = 0) -> DeSTSeg:
    return DeSTSeg(load_teacher("random"), config.model, torch.Generator().manual_seed(seed))
