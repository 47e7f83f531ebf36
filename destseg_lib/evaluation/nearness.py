"""How near held-out photographs are to those trained on, against how near new ones are.

A threshold's promise rests on held-out photographs being to the student what new ones will be. If a
part was photographed several times, a held-out photograph has likenesses in training that a new one
has not; if new ones are of another day, no held-out one is like them. The features of the teacher
tell both, before anything is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from destseg_lib.errors import DeSTSegError
from destseg_lib.teacher import Teacher

Distances = NDArray[np.float64]


@torch.no_grad()
def pooled_features(teacher: Teacher, images: Tensor) -> Tensor:
    """Levels 2 and 3, each averaged over the image and brought to length one, one after another.

    Args:
        teacher: any.
        images: (B, 3, H, W), normalised.

    Returns:
        (B, 384).
    """
    _, two, three = (F.normalize(level.mean(dim=(2, 3)), dim=1) for level in teacher(images))
    return torch.cat([two, three], dim=1)


@dataclass(frozen=True)
class Nearness:
    """Distances to the training photographs, of held-out and of new ones.

    Attributes:
        held_out: the median of the held-out ones.
        new: the median of the new ones.
        farther: the share of pairs of both in which the new one is farther, ties counted half;
            one half if they are alike.
    """

    held_out: float
    new: float
    farther: float

    @property
    def ratio(self) -> float:
        """The medians' ratio, below one if the held-out ones are nearer."""
        return self.held_out / self.new if self.new else float("nan")


def nearness(held_out: Distances, new: Distances, neighbour: int = 1) -> Nearness:
    """Compare the distances to the nearest training photograph, or to a later neighbour.

    A likeness in training shows in the first neighbour alone, another day in all of them.

    Args:
        held_out: distances (H, K) of the held-out photographs to the K that are trained on.
        new: distances (N, K) of the new ones to the same.
        neighbour: 1 for the nearest, up to K.

    Raises:
        DeSTSegError: one of them is empty, or there is no such neighbour.
    """
    one, other = nearest(held_out, neighbour), nearest(new, neighbour)
    if not len(one) or not len(other):
        raise DeSTSegError(
            "to compare held-out photographs with new ones, give one or more of each"
        )
    order = np.sign(other[:, None] - one[None])
    farther = float((order.mean() + 1) / 2)
    return Nearness(float(np.median(one)), float(np.median(other)), farther)


def nearest(distances: Distances, neighbour: int = 1) -> Distances:
    """The distance (N,) of each of N photographs to its first or a later neighbour of (N, K).

    Raises:
        DeSTSegError: there is no such neighbour.
    """
    if not 1 <= neighbour <= distances.shape[1]:
        raise DeSTSegError(
            f"there is no neighbour {neighbour} among {distances.shape[1]} photographs; give 1 to "
            f"{distances.shape[1]}"
        )
    return np.partition(distances, neighbour - 1, axis=1)[:, neighbour - 1]


def own_kind(among: Distances, to_training: Distances) -> tuple[float, float]:
    """The share of new photographs whose nearest other photograph is a new one, and by chance.

    Args:
        among: distances (N, N) between new photographs.
        to_training: distances (N, K) to those trained on.

    Returns:
        the share, and what it would be if new and old ones were alike.
    """
    others = among + np.diag(np.full(len(among), np.inf))
    share = float((others.min(axis=1) < to_training.min(axis=1)).mean())
    return share, (len(among) - 1) / (len(among) - 1 + to_training.shape[1])


def shift(
    good: Distances,
    to_new: Distances,
    new: Distances,
    random: np.random.Generator,
    tries: int = 999,
) -> tuple[float, float]:
    """Whether new photographs are other ones as a whole: their energy distance to the good ones.

    Args:
        good: distances (K, K) between good photographs.
        to_new: distances (N, K) of the new ones to them.
        new: distances (N, N) between new photographs.
        random: of the permutations.
        tries: how many permutations.

    Returns:
        twice the mean distance between both kinds less the mean distances within each, and the
        share of permutations of new and good photographs in which it is as large.
    """
    every = np.block([[good, to_new.T], [to_new, new]])
    is_new = np.arange(len(every)) >= len(good)

    def energy(labels: NDArray[np.bool_]) -> float:
        ones = labels.astype(np.float64)
        reached = every @ ones
        within = float(ones @ reached)
        between = float((1 - ones) @ reached)
        rest = float(every.sum()) - within - 2 * between
        n, k = ones.sum(), (1 - ones).sum()
        return float(2 * between / (n * k) - within / n**2 - rest / k**2)

    observed = energy(is_new)
    as_large = sum(energy(random.permutation(is_new)) >= observed for _ in range(tries))
    return observed, (1 + as_large) / (1 + tries)


@dataclass(frozen=True)
class Repeats:
    """The distances in file order at which most photographs have their nearest other one.

    Attributes:
        first: the least of these numbers of files.
        last: the largest.
        share: of photographs whose nearest other one is so many files away.
        chance: the same share in a random order.
    """

    first: int
    last: int
    share: float
    chance: float


def repeats(among: Distances, width: int = 11) -> Repeats:
    """Find at how many files' distance photographs repeat.

    Args:
        among: distances (K, K) between photographs in file order.
        width: how many numbers of files are taken together.
    """
    count = len(among)
    others = among + np.diag(np.full(count, np.inf))
    apart = np.abs(others.argmin(axis=1) - np.arange(count))
    found = np.bincount(apart, minlength=count)[1:] / count
    expected = 2 * (count - np.arange(1, count)) / (count * (count - 1))
    width = min(width, count - 1)
    shares, chances = (np.convolve(f, np.ones(width), "valid") for f in (found, expected))
    best = int(np.argmax(shares - chances))
    return Repeats(best + 1, best + width, float(shares[best]), float(chances[best]))
