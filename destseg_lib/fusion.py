"""Fusion: from the features of student and teacher at several levels to one map, or to one input.

Without a segmentation network the levels' cosine distances are multiplied (or added) into one map
(section 3.2, equation 3). With one, it is given how the two agree, channel by channel, at every
level (section 3.3, equation 4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from destseg_lib.config import TEACHER_CHANNELS, SegmentationInput, StudentMap
from destseg_lib.losses import cosine_distance


def distance_map(
    teacher: tuple[Tensor, ...],
    student: tuple[Tensor, ...],
    kind: StudentMap,
    size: tuple[int, int],
) -> Tensor:
    """The levels' cosine distances as one map.

    Args:
        teacher: features per level, (B, C_k, H_k, W_k).
        student: the same of the student.
        kind: ``product`` multiplies the distances, as the paper does (equation 3); ``sum`` adds
            them.
        size: (H, W) to which every distance is resized first.

    Returns:
        (B, 1, H, W); in [0, 2^K] for the product of K levels, in [0, 2K] for their sum.
    """
    distances = torch.cat(
        [
            _resized(cosine_distance(s, t)[:, None], size)
            for s, t in zip(student, teacher, strict=True)
        ],
        dim=1,
    )
    combine = torch.sum if kind == "sum" else torch.prod
    return combine(distances, dim=1, keepdim=True)


def largest_distance(levels: int, kind: StudentMap) -> float:
    """The largest value that ``distance_map`` can have: a cosine distance is at most 2."""
    return 2.0 * levels if kind == "sum" else 2.0**levels


def fuse(
    teacher: tuple[Tensor, ...],
    student: tuple[Tensor, ...],
    kind: SegmentationInput,
    size: tuple[int, int],
) -> Tensor:
    """The input of the segmentation network: all levels at one size, concatenated.

    Args:
        teacher: L2-normalised features per level, (B, C_k, H_k, W_k).
        student: the same of the student.
        kind: ``product``, the method: minus the feature product (equation 4), whose sum over
            channels would be minus the cosine similarity; ``concatenation`` of both features;
            ``cosine`` distance, one channel per level (table 6).
        size: (H, W) of the result, a quarter of the image.

    Returns:
        (B, C, H, W) with C as ``fused_channels`` says.
    """
    parts = []
    for t, s in zip(teacher, student, strict=True):
        if kind == "product":
            part = -t * s
        elif kind == "concatenation":
            part = torch.cat([t, s], dim=1)
        else:
            part = 1 - (t * s).sum(dim=1, keepdim=True)
        parts.append(_resized(part, size))
    return torch.cat(parts, dim=1)


def fused_channels(levels: tuple[int, ...], kind: SegmentationInput) -> int:
    """Channels of ``fuse``'s result; 448 for the method."""
    if kind == "cosine":
        return len(levels)
    return sum(TEACHER_CHANNELS[level] for level in levels) * (2 if kind == "concatenation" else 1)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
