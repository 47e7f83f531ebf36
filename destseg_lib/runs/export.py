"""A trained run as one ONNX file.

The file takes bytes and gives maps and image scores, so that whatever runs it needs neither torch
nor this library. Its metadata hold the configuration, the scores that a threshold is calibrated on,
how far its answers are from torch's, and where it came from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from destseg_lib.config import (
    METRIC_SIZE,
    TOP_PIXELS,
    config_to_dict,
)
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_whole
from destseg_lib.fusion import distance_map
from destseg_lib.model import DeSTSeg, map_scores, quarter
from destseg_lib.runs.exported import (
    KEY,
    OUTPUTS,
    SUFFIX,
    Compute,
    ExportedRun,
    open_with,
    package_of,
    quiet,
)
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.quantise import (
    MOST_LOST,
    Weights,
    points_lost,
    quantise_arithmetic,
    store_weights,
)
from destseg_lib.runs.run import Run
from destseg_lib.teacher import normalise
from destseg_lib.textures import procedural_textures

if TYPE_CHECKING:
    import onnx

Arithmetic = Literal["float", "int8"]
LARGEST_DIFFERENCE = 1e-3  # of maps and scores from torch's, with weights in fp32


class ExportedGraph(nn.Module):
    """What the file computes: from bytes to maps and image scores."""

    def __init__(self, model: DeSTSeg) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take images (B, S, S, 3), uint8.

        Returns:
            the final map and the student-teacher map (B, 256, 256), the levels' cosine distances
            (B, K, S/4, S/4) and the image scores (B,).
        """
        images = prepared(pixels)
        size = quarter(images)
        teacher, student = self.model.features(images)
        levels = level_distances(teacher, student, size)
        final, distance = (
            F.interpolate(m, (METRIC_SIZE, METRIC_SIZE), mode="bilinear", align_corners=False)
            for m in self.model.maps(teacher, student, size)
        )
        score = final.flatten(1).topk(TOP_PIXELS).values.mean(dim=1)
        return final[:, 0], distance[:, 0], levels, score


def prepared(pixels: Tensor) -> Tensor:
    """Images (B, S, S, 3), uint8, as the networks take them: (B, 3, S, S), ImageNet-normalised."""
    return normalise(pixels.permute(0, 3, 1, 2).float().div(255))


def level_distances(
    teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], size: tuple[int, int]
) -> Tensor:
    """The cosine distance of each of the K levels in use, ``(B, K, *size)``."""
    levels = [distance_map((t,), (s,), "sum", size) for t, s in zip(teacher, student, strict=True)]
    return torch.cat(levels, dim=1)


def export_run(
    run: Run,
    out: Path,
    *,
    size: int | None = None,
    weights: Weights = "fp32",
    arithmetic: Arithmetic = "float",
    good: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """Write a trained run as an ONNX file, after comparing its answers with torch's.

    Args:
        run: on the CPU.
        out: the file, ending in ``.onnx``.
        size: side of the images that it takes, a multiple of 32; None is the run's own.
        weights: how convolutions' weights are stored; ``fp16`` halves the file and ``int8`` (one
            scale per output channel) quarters it.
        arithmetic: ``int8`` computes most convolutions in whole numbers, whatever ``weights`` are.
        good: images (N, S, S, 3) that were not trained on; the scores that the file gives them are
            what its threshold is calibrated on. Without them the run's own scores are, but none
            at another size or with weights in int8, which move scores by more than a threshold
            can bear. Arithmetic in int8 needs at least eight.

    Returns:
        the largest differences from torch in fp32: ``final_map``, ``student_map`` and ``score``.

    Raises:
        DeSTSegError: a package is missing, the name or the size cannot be used, the answers with
            weights in fp32 differ from torch's by more than 1e-3, or arithmetic in int8 loses more
            than ``MOST_LOST``.
    """
    if out.suffix != SUFFIX:
        raise DeSTSegError(f"{out} does not end in {SUFFIX}; name the file to write that way")
    package_of("onnxruntime")  # before the work
    config = replace(run.config, image_size=size or run.config.image_size)
    content = to_onnx(
        ExportedGraph(run.model),
        {"pixels": example_pixels(2, config.image_size)},
        OUTPUTS,
        ({0: torch.export.Dim("images", min=1)},),
    )
    if arithmetic == "int8":
        content = quantise_arithmetic(content, () if good is None else good)
    else:
        store_weights(content, weights)
    compute = open_with("onnxruntime", content.SerializeToString(), "fp32")
    differences = _differences(run.model, config.image_size, compute)
    exact, worst = weights == "fp32" and arithmetic == "float", max(differences.values())
    if exact and worst > LARGEST_DIFFERENCE:
        raise DeSTSegError(
            f"the exported graph differs from torch by {worst:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written. Try another version of onnxruntime"
        )
    exported, lost = ExportedRun(compute, config, run.teacher_name, ()), None
    if arithmetic == "int8":
        assert good is not None
        lost = points_lost(run, exported, good)
        _refuse_loss(lost)
    own = weights != "int8" and config == run.config
    scores = run.calibration_scores if own else ()
    if good is not None:
        scores = tuple(map_scores(exported.maps(good)).tolist())
    known = {
        "config": config_to_dict(config),
        "teacher": {"name": run.teacher_name, "fingerprint": run.model.teacher.fingerprint()},
        "calibration": list(scores),
        "white_level": run.white_level,
        "weights": weights,
        "arithmetic": arithmetic,
        "points_lost": lost,
        "differences": differences,
        "provenance": provenance(run.device),
    }
    (entry := content.metadata_props.add()).key, entry.value = KEY, json.dumps(known)
    write_whole(out, lambda file: file.write(content.SerializeToString()))
    return differences


def example_pixels(number: int, size: int) -> Tensor:
    """What a graph is traced with."""
    return torch.zeros(number, size, size, 3, dtype=torch.uint8)


def to_onnx(
    graph: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    dynamic_shapes: tuple[dict[int, Any], ...] | None = None,
) -> onnx.ModelProto:
    """A graph as ONNX, traced with its inputs in their order.

    Raises:
        DeSTSegError: a package is missing.
    """
    for name in ("onnx", "onnxscript"):
        package_of(name)
    with quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
        )
    assert program is not None
    content: onnx.ModelProto = program.model_proto
    # The exporter writes the stack of each node, with this machine's paths.
    for part in (*content.graph.node, *content.graph.value_info, *content.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return content


def _refuse_loss(lost: dict[str, float]) -> None:
    if any(lost[name] > most for name, most in MOST_LOST.items()):
        found = ", ".join(f"{points:.1f} points of {name}" for name, points in lost.items())
        raise DeSTSegError(
            f"arithmetic in int8 loses {found} on the good images and synthetic anomalies; nothing "
            "was written. Export with --arithmetic float, and --weights int8 for a small file"
        )


def _differences(model: DeSTSeg, size: int, compute: Compute) -> dict[str, float]:
    """Largest differences between the file's answers and torch's in fp32, on drawn textures."""
    pixels = procedural_textures(3, size, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = ExportedGraph(model)(torch.from_numpy(pixels))
    found = compute(pixels)
    return {
        name: float(np.abs(there - here.numpy()).max())
        for name, there, here in zip(OUTPUTS, found, expected, strict=True)
        if name != "level_maps"
    }
