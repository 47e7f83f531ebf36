"""Which good photographs are held out of training, for a threshold to be calibrated on.

One at a time, drawn at random; in stretches of neighbouring files; or in whole groups that the file
names tell. A photograph that was held out promises something about new ones only if the student
knows it no better than it will know those. Where one part was photographed several times, a single
photograph held out leaves its likenesses in training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from destseg_lib.config import TrainingConfig
from destseg_lib.errors import DeSTSegError

Indices = NDArray[np.int64]
MOST_BLOCKS, SHORTEST_BLOCK = 3, 5


def split_images(names: Sequence[str], config: TrainingConfig) -> tuple[Indices, Indices]:
    """Indices of the good images to train on and of those held out, as a configuration says.

    Args:
        names: of the files, without folders, in the order of the images.
        config: its ``holdout`` is the share; ``group_by``, ``holdout_by`` and ``seed`` say which.

    Raises:
        DeSTSegError: ``group_by`` does not match a name, or leaves nothing to hold out.
    """
    if config.group_by is not None:
        groups = group_names(names, config.group_by)
        return hold_out_groups(groups, config.holdout, config.seed)
    way = hold_out_blocks if config.holdout_by == "blocks" else hold_out
    return way(len(names), config.holdout, config.seed)


def hold_out(count: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold single images out, drawn at random.

    At least one image is trained on; a share above zero holds out at least one of two or more.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    kept_out = number_held_out(count, share)
    return np.sort(order[kept_out:]), np.sort(order[:kept_out])


def hold_out_blocks(count: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold as many out as ``hold_out``, in one to three stretches of neighbours in file order.

    The list is cut into as many equal parts, and each gives one stretch at a random place in it. A
    stretch is five long or longer where as many are held out; fewer make one stretch.
    """
    kept_out = number_held_out(count, share)
    blocks = max(1, min(MOST_BLOCKS, kept_out // SHORTEST_BLOCK))
    random = np.random.default_rng([seed, count])
    outside = np.zeros(count, bool)
    for block in range(blocks):
        first, end = (place * count // blocks for place in (block, block + 1))
        length = (block + 1) * kept_out // blocks - block * kept_out // blocks
        start = int(random.integers(first, end - length + 1))
        outside[start : start + length] = True
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def hold_out_groups(groups: Sequence[str], share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold whole groups out, drawn at random, about as many images as the share says.

    Groups are gone through in random order, and one is held out if that brings the number nearer to
    the share; if none does, the smallest is.

    Args:
        groups: the name of each image's group.
        share: of the images; zero holds none out.
        seed: of the order of the groups.

    Raises:
        DeSTSegError: there is one group only, or even the smallest is more than half of the images
            and more than the share.
    """
    count = len(groups)
    if share == 0:
        return np.arange(count), np.arange(0)
    names, places, sizes = np.unique(
        np.asarray(groups, dtype=str), return_inverse=True, return_counts=True
    )
    order = np.random.default_rng([seed, count]).permutation(len(names))
    wanted, chosen, total = number_held_out(count, share), list[int](), 0
    most = max(wanted, count // 2)
    for group in order:
        after = total + int(sizes[group])
        if abs(after - wanted) < abs(total - wanted) and after <= most:
            chosen.append(int(group))
            total = after
    chosen = chosen or [int(min(order, key=lambda group: sizes[group]))]
    outside = np.isin(places, chosen)
    if len(names) < 2 or outside.sum() > most:
        groups_found = "one group" if len(names) == 1 else f"{len(names)} groups"
        raise DeSTSegError(
            f"--group-by puts {count} photographs into {groups_found}, the smallest of "
            f"{sizes.min()}, so that none can be held out; give a pattern that tells smaller "
            "groups, leave it out, or train with --holdout 0"
        )
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def group_names(names: Sequence[str], pattern: str) -> tuple[str, ...]:
    """The group of each file: what the pattern's first group matches, or else the whole pattern.

    Raises:
        DeSTSegError: it is no regular expression, or is found nowhere in one of the names.
    """
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise DeSTSegError(
            f"group_by is {pattern!r}, which is not a regular expression ({error}); give one such "
            "as '^[^_]+'"
        ) from None
    groups = []
    for name in names:
        found = search(name)
        group = found and (found[1] if found.re.groups else found[0])
        if group is None:
            raise DeSTSegError(
                f"the pattern {pattern!r} of --group-by does not match {name}, so its group is "
                "unknown; give a pattern that matches every file name"
            )
        groups.append(group)
    return tuple(groups)


def number_held_out(count: int, share: float) -> int:
    """How many of ``count`` images a share is: one at least, and never all."""
    return min(count - 1, max(1, round(share * count))) if share > 0 else 0
