"""A memory bank of the teacher's features: the rival that needs no training.

As in PatchCore (Roth et al., CVPR 2022): remember the features of good photographs, thinned to a
coreset; a position is as anomalous as its features are far from the nearest remembered ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from destseg_lib.teacher import Teacher

CORESET_SHARE = 0.01
PROJECTED = 128  # dimensions in which the coreset is chosen


@torch.no_grad()
def local_features(teacher: Teacher, images: Tensor) -> Tensor:
    """Levels 2 and 3, each averaged over 3x3 positions, concatenated at the size of level 2.

    Args:
        teacher: any; the same as DeSTSeg's for a fair comparison.
        images: (B, 3, H, W), normalised.

    Returns:
        (B, 384, H/8, W/8).
    """
    _, two, three = (F.avg_pool2d(level, 3, stride=1, padding=1) for level in teacher(images))
    three = F.interpolate(three, size=two.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([two, three], dim=1)


def coreset(features: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Greedily choose the feature farthest from all chosen ones, until enough are chosen.

    Args:
        features: (N, C).
        share: of N, at least one feature; distances are taken after a random projection.
        generator: of the projection and the first choice.

    Returns:
        (max(1, round(share N)), C).
    """
    random = torch.randn(features.shape[1], PROJECTED, generator=generator)
    seen = features @ (random / PROJECTED**0.5).to(features)
    chosen = [int(torch.randint(len(seen), (), generator=generator))]
    nearest = torch.full((len(seen),), torch.inf, device=seen.device)
    while len(chosen) < round(share * len(seen)):
        nearest = torch.minimum(nearest, (seen - seen[chosen[-1]]).square().sum(dim=1))
        chosen.append(int(nearest.argmax()))
    return features[chosen]


def remember(
    teacher: Teacher,
    good: Iterable[Tensor],
    generator: torch.Generator,
    share: float = CORESET_SHARE,
) -> Tensor:
    """The memory bank (M, 384) of batches of good, normalised images (B, 3, H, W)."""
    rows = [local_features(teacher, images).permute(0, 2, 3, 1).flatten(0, 2) for images in good]
    return coreset(torch.cat(rows), share, generator)


def memory_map(teacher: Teacher, bank: Tensor, images: Tensor) -> Tensor:
    """Distance to the nearest remembered feature, (B, 1, H/8, W/8), of normalised images."""
    features = local_features(teacher, images)
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    # In parts, so that the distances need little memory.
    parts = [torch.cdist(part, bank).amin(dim=1) for part in torch.split(rows, 4096)]
    batch, _, height, width = features.shape
    return torch.cat(parts).view(batch, 1, height, width)
