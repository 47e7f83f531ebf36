"""The whole model: teacher, student and segmentation network, and the maps they give."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from destseg_lib.config import ModelConfig
from destseg_lib.fusion import distance_map, fuse, fused_channels
from destseg_lib.segmentation import SegmentationNet
from destseg_lib.student import Student
from destseg_lib.teacher import Teacher


class AnomalyMaps(NamedTuple):
    """Higher is more anomalous; each (B, 1, H/4, W/4).

    ``final`` is the model's answer, in [0, 1] where there is a segmentation network; ``student`` is
    the student-teacher map alone, in [0, 2^levels] for the product.
    """

    final: Tensor
    student: Tensor


class DeSTSeg(nn.Module):
    """Segmentation-guided denoising student-teacher (figure 2).

    Args:
        teacher: frozen; it stays as it is.
        config: the method by default, or one of its ablations.
        generator: the source of the initial weights; None draws them from seed 0.
    """

    def __init__(
        self,
        teacher: Teacher,
        config: ModelConfig | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        config = config or ModelConfig()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        self.teacher = teacher
        # Layers draw throw-away weights from torch's global stream as they are made.
        with torch.random.fork_rng(devices=[]):
            self.student = Student(
                generator, encoder_decoder=config.encoder_decoder, width=config.width
            )
            self.segmentation: SegmentationNet | None = None
            if config.segmentation:
                self.segmentation = SegmentationNet(
                    fused_channels(config.levels, config.segmentation_input),
                    generator,
                    width=config.segmentation_width or config.width,
                )

    def select(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The levels this model uses, of the three."""
        return tuple(features[level - 1] for level in self.config.levels)

    def features(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Teacher's and student's features of the same images, L2-normalised over channels.

        Args:
            images: (B, 3, H, W), ImageNet-normalised, H and W multiples of 32.

        Returns:
            two tuples of (B, C_k, H_k, W_k), a tensor a level in use.
        """
        teacher = self.select(self.teacher(images))
        student = self.select(self.student(images))
        return tuple(map(_unit, teacher)), tuple(map(_unit, student))

    def student_map(
        self, teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], size: tuple[int, int]
    ) -> Tensor:
        """Cosine distances of the levels, brought to ``size`` and multiplied or summed.

        Returns:
            ``(B, 1, *size)``.
        """
        return distance_map(teacher, student, self.config.student_map, size)

    def logits(
        self, teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], size: tuple[int, int]
    ) -> Tensor:
        """The segmentation network's answer to normalised features, ``(B, 1, *size)``."""
        assert self.segmentation is not None, "this model has no segmentation network"
        fused = fuse(teacher, student, self.config.segmentation_input, size)
        logits: Tensor = self.segmentation(fused)
        return logits

    def forward(self, images: Tensor) -> AnomalyMaps:
        """Maps of normalised images (B, 3, H, W) at a quarter of their size."""
        size = quarter(images)
        teacher, student = self.features(images)
        student_map = self.student_map(teacher, student, size)
        if self.segmentation is None:
            return AnomalyMaps(student_map, student_map)
        final = torch.sigmoid(self.logits(teacher, student, size).float())
        return AnomalyMaps(final, student_map)


def quarter(images: Tensor) -> tuple[int, int]:
    """(H/4, W/4) of (B, C, H, W): where the levels meet."""
    return images.shape[2] // 4, images.shape[3] // 4


def _unit(features: Tensor) -> Tensor:
    # Half precision would lose the last digits of a similarity near one.
    return F.normalize(features.float(), dim=1, eps=1e-8)
