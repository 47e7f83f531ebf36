"""The batch of a training step: good images, turned, with synthetic anomalies.

Every random draw of a step comes from a generator seeded by (seed, phase, step). A run continued
from a checkpoint therefore takes the same steps as a run that was never stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from destseg_lib.config import TrainingConfig
from destseg_lib.corruption import corrupt, turn_photographs
from destseg_lib.model import to_tensor
from destseg_lib.teacher import normalise

Phase = Literal["student", "segmentation"]
PHASES: tuple[Phase, ...] = ("student", "segmentation")


class Batch(NamedTuple):
    """Normalised images (B, 3, S, S), clean and corrupted, and their masks (B, 1, S, S)."""

    clean: Tensor
    corrupted: Tensor
    masks: Tensor


class Pixels(Protocol):
    """Images (N, S, S, 3), uint8: an array, or another object that gives rows by index."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """(B, S, S, 3) of the images at these indices."""


@dataclass(frozen=True)
class TrainingImages:
    """Images that a model is trained on: good ones (N, S, S, 3) and textures (M, S, S, 3)."""

    good: Pixels
    textures: Pixels


def step_generator(seed: int, phase: Phase, step: int) -> torch.Generator:
    """Generator of all random draws of one step."""
    entropy = np.random.SeedSequence([seed, PHASES.index(phase), step])
    return torch.Generator().manual_seed(
        int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
    )


def batch_indices(count: int, config: TrainingConfig, phase: Phase, step: int) -> NDArray[np.int64]:
    """Indices (B,) of the good images of a step, out of ``count``.

    Epochs are shuffles of all images; the last, incomplete batch of an epoch is dropped. Where
    there are fewer images than a batch holds, they are repeated, each time with a corruption of
    its own.
    """
    size = config.batch_size
    per_epoch = max(1, count // size)
    epoch, place = divmod(step, per_epoch)
    # A stream of its own, so that all batches of an epoch agree on the shuffle.
    seeds = np.random.SeedSequence([config.seed, PHASES.index(phase), epoch, 1])
    order = np.random.default_rng(seeds).permutation(count)
    return np.resize(order, max(count, size))[place * size : (place + 1) * size]


def draw_batch(
    images: TrainingImages, config: TrainingConfig, phase: Phase, step: int, device: torch.device
) -> Batch:
    """The batch of a step; it is the same each time it is drawn."""
    generator = step_generator(config.seed, phase, step)
    good = to_tensor(images.good[batch_indices(len(images.good), config, phase, step)], device)
    good = turn_photographs(good, config.rotation, generator)
    choice = torch.randint(0, len(images.textures), (len(good),), generator=generator).numpy()
    textures = to_tensor(images.textures[choice], device)
    corrupted = corrupt(good, textures, config.corruption, generator)
    return Batch(normalise(good), normalise(corrupted.images), corrupted.masks)
