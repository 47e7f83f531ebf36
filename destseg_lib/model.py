"""The whole model: teacher, student and segmentation network, and the maps they give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS, ModelConfig, Precision
from destseg_lib.device import autocast, resolve_precision, send
from destseg_lib.fusion import distance_map, fuse, fused_channels
from destseg_lib.metrics import image_scores
from destseg_lib.segmentation import SegmentationNet
from destseg_lib.student import Student
from destseg_lib.teacher import Teacher, normalise

PREDICTION_BATCH = 16  # images per batch


class AnomalyMaps(NamedTuple):
    """Higher is more anomalous; each (B, 1, H/4, W/4).

    ``final`` is the model's answer, in [0, 1] where there is a segmentation network; ``student`` is
    the student-teacher map alone, in [0, 2^levels] for the distance product.
    """

    final: Tensor
    student: Tensor


class PredictedMaps(NamedTuple):
    """Maps of B images at the size they are measured at, (B, size, size); final and student."""

    final: NDArray[np.float32]
    student: NDArray[np.float32]


class DeSTSeg(nn.Module):
    """Segmentation-guided denoising student-teacher (figure 2).

    Args:
        teacher: frozen; it stays as it is.
        config: the method by default, or one of its ablations.
        generator: the source of the initial weights; None draws them from seed 0.

    Example:
        >>> from destseg_lib import load_teacher
        >>> model = DeSTSeg(load_teacher("random"), ModelConfig(width=1 / 16)).eval()
        >>> maps = model(torch.zeros(2, 3, 64, 96))
        >>> maps.final.shape, maps.student.shape
        (torch.Size([2, 1, 16, 24]), torch.Size([2, 1, 16, 24]))
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
            two tuples with one tensor (B, C_k, H_k, W_k) for each level in use.
        """
        return self.features_of(self.teacher, images), self.features_of(self.student, images)

    def features_of(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """The same of one of the two networks alone."""
        return tuple(map(_unit, self.select(network(images))))

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
        return self.maps(*self.features(images), quarter(images))

    def maps(
        self, teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], size: tuple[int, int]
    ) -> AnomalyMaps:
        """Maps ``(B, 1, *size)`` from normalised features."""
        student_map = self.student_map(teacher, student, size)
        if self.segmentation is None:
            return AnomalyMaps(student_map, student_map)
        final = torch.sigmoid(self.logits(teacher, student, size).float())
        return AnomalyMaps(final, student_map)


def quarter(images: Tensor) -> tuple[int, int]:
    """(H/4, W/4) of (B, C, H, W): where the levels meet."""
    return images.shape[2] // 4, images.shape[3] // 4


def to_tensor(pixels: NDArray[np.uint8] | Tensor, device: torch.device | None = None) -> Tensor:
    """Images (N, S, S, 3) of bytes as a tensor (N, 3, S, S) in [0, 1], channels last in memory."""
    if not isinstance(pixels, Tensor):
        # A copy, as torch warns of arrays that may not be written, such as mapped files.
        pixels = torch.from_numpy(np.array(pixels))
    return send(pixels, device).permute(0, 3, 1, 2).float().div(255)


def predict_maps(
    model: DeSTSeg,
    pixels: NDArray[np.uint8],
    *,
    precision: Precision,
    batch_size: int = PREDICTION_BATCH,
    size: int = METRIC_SIZE,
    progress: bool = True,
) -> Iterator[PredictedMaps]:
    """Maps of images (N, S, S, 3), S a multiple of 32, one batch per iteration.

    Args:
        model: on its device; put into eval mode.
        pixels: at the size the model was trained at.
        precision: of the run; fp16 becomes fp32 where there is no CUDA.
        batch_size: images per batch.
        size: the maps' side; they are resized bilinearly. Metrics are comparable at 256 only.
        progress: show a bar.
    """
    device = next(model.student.parameters()).device
    precision = resolve_precision(precision, device)
    if precision == "fp16" and device.type != "cuda":
        precision = "fp32"
    model.eval()
    with tqdm(total=len(pixels), desc="predicting", unit="image", disable=not progress) as bar:
        for start in range(0, len(pixels), batch_size):
            # Closed before the maps are handed out: the caller's own tensors are not its business.
            with torch.inference_mode(), autocast(device, precision):
                images = to_tensor(pixels[start : start + batch_size], device)
                maps = (
                    F.interpolate(m.float(), (size, size), mode="bilinear", align_corners=False)
                    for m in model(normalise(images))
                )
                final, student = (m[:, 0].cpu().numpy() for m in maps)
            yield PredictedMaps(final, student)
            bar.update(len(images))


def score_images(
    model: DeSTSeg,
    pixels: NDArray[np.uint8],
    *,
    precision: Precision,
    batch_size: int = PREDICTION_BATCH,
    progress: bool = True,
) -> NDArray[np.float64]:
    """Image scores, the mean of the final map's 100 largest values: (N, S, S, 3) to (N,)."""
    batches = predict_maps(
        model, pixels, precision=precision, batch_size=batch_size, progress=progress
    )
    return map_scores(batches)


def map_scores(batches: Iterable[PredictedMaps]) -> NDArray[np.float64]:
    """Image scores (N,) of the final maps of N images, which come in batches."""
    scores = [image_scores(maps.final, TOP_PIXELS) for maps in batches]
    return np.concatenate(scores) if scores else np.empty(0)


def _unit(features: Tensor) -> Tensor:
    # Half precision would lose the last digits of a similarity near one.
    return F.normalize(features.float(), dim=1, eps=1e-8)
