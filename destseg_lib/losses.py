"""The losses of the two phases: on features, then on masks (sections 3.2 and 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine similarity of two feature maps at every position (equation 2).

    Args:
        student: (B, C, H, W), any scale.
        teacher: the same shape.

    Returns:
        (B, H, W) in [0, 2].
    """
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=1, eps=1e-8)


def feature_loss(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
    """The student's loss: cosine distance, mean over space, summed over batch and levels.

    Summing over the batch is the authors' code; it is why their learning rate of 0.4 belongs to
    batches of 32.
    """
    levels = [
        cosine_distance(s, t).mean(dim=(1, 2)).sum() for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(levels).sum()


def focal_loss(logits: Tensor, masks: Tensor, gamma: float = 4.0) -> Tensor:
    """Cross-entropy with less weight on pixels that are already right (equation 5).

    Args:
        logits: (B, 1, H, W).
        masks: the same shape, 0 or 1.
        gamma: the larger, the less they count; 0 is plain cross-entropy.

    Returns:
        the mean over all pixels.
    """
    logits = logits.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).mean()


def l1_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute error of the sigmoid map; pulls the normal background to 0 (equation 6)."""
    return (torch.sigmoid(logits.float()) - masks).abs().mean()


def segmentation_loss(logits: Tensor, masks: Tensor, gamma: float = 4.0, l1: bool = True) -> Tensor:
    """Focal loss plus L1 (equation 7); ``l1=False`` leaves L1 out (table 5)."""
    loss = focal_loss(logits, masks, gamma)
    return loss + l1_loss(logits, masks) if l1 else loss
