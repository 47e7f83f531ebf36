"""The batch of a training step: good images, turned, with synthetic anomalies.

Every random draw of a step comes from a generator seeded by (seed, phase, step). A run continued
from a checkpoint therefore takes the same steps as a run that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from destseg_lib.config import TrainingConfig
from destseg_lib.corruption import corrupt, turn_photographs
from destseg_lib.device import send
from destseg_lib.model import to_tensor
from destseg_lib.teacher import normalise

Phase = Literal["student", "segmentation"]
PHASES: tuple[Phase, ...] = ("student", "segmentation")
COPIED = 16  # images at a time
MOST_REMEMBERED = 2**29  # bytes of the teacher's features


class Batch(NamedTuple):
    """Normalised images (B, 3, S, S), clean and corrupted, and their masks (B, 1, S, S)."""

    clean: Tensor
    corrupted: Tensor
    masks: Tensor


class Pixels(Protocol):
    """Images (N, S, S, 3), uint8: an array, or another object that gives rows by index."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.uint8] | Tensor:
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


# What is the same in every epoch, made ready once


class PixelsOnDevice:
    """Images (N, S, S, 3) that lie where the steps are taken.

    Args:
        pixels: copied a few at a time, as they may be more than memory holds.
        device: where they will lie.
    """

    def __init__(self, pixels: Pixels, device: torch.device) -> None:
        each = _bytes(pixels, np.arange(1))
        self.pixels = torch.empty((len(pixels), *each.shape[1:]), dtype=each.dtype, device=device)
        for start in range(0, len(pixels), COPIED):
            some = np.arange(start, min(start + COPIED, len(pixels)))
            self.pixels[start : start + COPIED] = _bytes(pixels, some).to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: NDArray[np.int64]) -> Tensor:
        return self.pixels[send(torch.from_numpy(index), self.pixels.device)]


def at_hand(images: TrainingImages, device: torch.device) -> TrainingImages:
    """The same images, on a GPU if a quarter of its free memory holds them."""
    if device.type != "cuda":
        return images
    both = (images.good, images.textures)
    needed = sum(len(pixels) * _bytes(pixels, np.arange(1)).numel() for pixels in both)
    if needed > torch.cuda.mem_get_info(device)[0] // 4:
        return images
    return TrainingImages(*(PixelsOnDevice(pixels, device) for pixels in both))


class Targets:
    """The teacher's features of the clean images, the student's target: computed once for each.

    A photograph that is not turned is the same in every epoch, and so is what the teacher says of
    it. Whole batches are computed, so that an image's features do not depend on which ones are
    known already: a resumed run, which begins with none, takes the same steps.

    Args:
        count: number of images, N.
        config: of the training; where photographs are turned, nothing is remembered, nor where
            the features of all of them would take more than ``MOST_REMEMBERED`` bytes.
    """

    def __init__(self, count: int, config: TrainingConfig) -> None:
        self.config = config
        self.most = MOST_REMEMBERED if config.rotation == "none" else 0
        self.known = np.zeros(count, bool)
        self.levels: tuple[Tensor, ...] = ()  # (N, H_k, W_k, C_k)

    def of(self, step: int, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Features (B, C_k, H_k, W_k) of the images of a step of the student phase.

        Args:
            step: counts from 0.
            compute: gives them; it is called where one of the images is not known yet.
        """
        index = batch_indices(len(self.known), self.config, "student", step)
        if self.known[index].all():
            rows = send(torch.from_numpy(index), self.levels[0].device)
            return tuple(level[rows].permute(0, 3, 1, 2) for level in self.levels)
        features = compute()
        if len(self.known) * sum(level[0].nbytes for level in features) <= self.most:
            self._remember(index, [level.permute(0, 2, 3, 1) for level in features])
        return features

    def _remember(self, index: NDArray[np.int64], features: list[Tensor]) -> None:
        if not self.levels:
            shapes = ((len(self.known), *level.shape[1:]) for level in features)
            self.levels = tuple(map(Tensor.new_empty, features, shapes))
        rows = send(torch.from_numpy(index), features[0].device)
        for level, found in zip(self.levels, features, strict=True):
            level[rows] = found
        self.known[index] = True


def _bytes(pixels: Pixels, index: NDArray[np.int64]) -> Tensor:
    """Some of the images as a tensor (B, S, S, 3)."""
    return torch.from_numpy(np.array(pixels[index]))
