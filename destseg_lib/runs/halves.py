"""A run as two ONNX graphs: the teacher, which several runs may share, and the rest.

A page that shows several models fetches the teacher once. The graphs take one image, and compute it
with fewer multiplications than the run (``lighter``). Of the maps they give not only the model's
answer but what it is made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS
from destseg_lib.errors import DeSTSegError
from destseg_lib.fusion import fuse
from destseg_lib.model import AnomalyMaps, DeSTSeg, quarter
from destseg_lib.runs.export import (
    LARGEST_DIFFERENCE,
    ExportedGraph,
    example_pixels,
    level_distances,
    prepared,
    to_onnx,
)
from destseg_lib.runs.exported import onnxruntime_session
from destseg_lib.runs.lighter import EarlyBlock, lighter
from destseg_lib.runs.quantise import Weights, store_weights
from destseg_lib.runs.run import Run
from destseg_lib.textures import procedural_textures


class Answer(NamedTuple):
    """Of one image: the final map, the student-teacher map and each level's distances.

    Attributes:
        maps: (2 + K, 256, 256).
        scores: (2 + K,), the mean of each map's 100 largest values.
    """

    maps: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Halves:
    """The two graphs, each the content of an ONNX file."""

    teacher: bytes
    rest: bytes


class TeacherGraph(nn.Module):
    """From one image's bytes to the teacher's features."""

    def __init__(self, model: DeSTSeg) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Take (1, S, S, 3), uint8; return features (1, C_k, H_k, W_k), L2-normalised."""
        return self.model.features_of(self.model.teacher, prepared(pixels))


class RestGraph(nn.Module):
    """From one image's bytes and the teacher's features to maps and scores.

    Args:
        model: a ``lighter`` one.
    """

    def __init__(self, model: DeSTSeg) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, *teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Take (1, S, S, 3), uint8, and features; return (1, 2 + K, 256, 256) and (1, 2 + K)."""
        images = prepared(pixels)
        size = quarter(images)
        student = self.model.features_of(self.model.student, images)
        levels = level_distances(teacher, student, size)
        maps = torch.cat([*self.maps(teacher, student, size), levels], dim=1)
        maps = F.interpolate(maps, (METRIC_SIZE, METRIC_SIZE), mode="bilinear", align_corners=False)
        return maps, maps.flatten(2).topk(TOP_PIXELS).values.mean(dim=2)

    def maps(
        self, teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], size: tuple[int, int]
    ) -> AnomalyMaps:
        """The model's maps ``(1, 1, *size)``; an early block gets levels that are not resized."""
        network, kind = self.model.segmentation, self.model.config.segmentation_input
        if network is None or not isinstance(network.residual[0], EarlyBlock):
            return self.model.maps(teacher, student, size)
        first, second = network.residual
        pairs = zip(teacher, student, strict=True)
        parts = [fuse((t,), (s,), kind, (t.shape[2], t.shape[3])) for t, s in pairs]
        final = torch.sigmoid(network.head(second(first(parts, size))))
        return AnomalyMaps(final, self.model.student_map(teacher, student, size))


def export_halves(run: Run, weights: Weights) -> Halves:
    """Write a trained run as two graphs, with weights stored as ``export_run`` says.

    Args:
        run: on the CPU.
        weights: of both.

    Raises:
        DeSTSegError: a package is missing, or graphs with weights in fp32 give other answers than
            torch.
    """
    side = run.config.image_size
    inputs, model = {"pixels": example_pixels(1, side)}, lighter(run.model, side)
    teacher = TeacherGraph(model).eval()
    with torch.inference_mode():
        levels = teacher(inputs["pixels"])
    features = {
        f"level{k}": f.clone() for k, f in zip(run.config.model.levels, levels, strict=True)
    }
    contents = [
        to_onnx(graph, taken, given)
        for graph, taken, given in (
            (teacher, inputs, tuple(features)),
            (RestGraph(model), inputs | features, ("maps", "scores")),
        )
    ]
    _compare(run, Halves(*(content.SerializeToString() for content in contents)))
    for content in contents:
        store_weights(content, weights)
    return Halves(*(content.SerializeToString() for content in contents))


def open_halves(halves: Halves) -> Callable[[NDArray[np.uint8]], Answer]:
    """Make a function of one image (S, S, 3) of two graphs, computed on one thread.

    Raises:
        DeSTSegError: ONNX Runtime is not installed.
    """
    teacher, rest = (onnxruntime_session(part, 1) for part in (halves.teacher, halves.rest))
    names = [output.name for output in teacher.get_outputs()]

    def answer(pixels: NDArray[np.uint8]) -> Answer:
        inputs = {"pixels": pixels[None]}
        features = dict(zip(names, teacher.run(names, inputs), strict=True))
        maps, scores = rest.run(("maps", "scores"), inputs | features)
        return Answer(maps[0], scores[0])

    return answer


def _compare(run: Run, halves: Halves) -> None:
    """Refuse graphs whose answer differs from torch's on a drawn texture."""
    pixels = procedural_textures(1, run.config.image_size, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        final, _, _, score = ExportedGraph(run.model)(torch.from_numpy(pixels))
    given = open_halves(halves)(pixels[0])
    moved = [given.maps[0] - final[0].numpy(), given.scores[0] - score.numpy()]
    worst = max(float(np.abs(one).max()) for one in moved)
    if worst > LARGEST_DIFFERENCE:
        raise DeSTSegError(
            f"the exported graphs differ from torch by {worst:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; try another version of onnxruntime"
        )
