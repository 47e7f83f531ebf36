"""A trained run as one ONNX file.

The file takes bytes and gives maps and image scores, so that whatever runs it needs neither torch
nor this library. Its metadata hold the configuration, the scores that a threshold is calibrated on,
how far its answers are from torch's, and where it came from.
"""

from __future__ import annotations

import json
import logging
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
from destseg_lib.metrics import image_scores
from destseg_lib.model import DeSTSeg, quarter
from destseg_lib.runs.exported import (
    KEY,
    OUTPUTS,
    SUFFIX,
    Compute,
    ExportedRun,
    open_with,
    package_of,
)
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run
from destseg_lib.teacher import normalise
from destseg_lib.textures import procedural_textures

if TYPE_CHECKING:
    import onnx

Weights = Literal["fp32", "fp16", "int8"]
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
    good: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """Write a trained run as an ONNX file, after comparing its answers with torch's.

    Args:
        run: on the CPU.
        out: the file, ending in ``.onnx``.
        size: side of the images that it takes, a multiple of 32; None is the run's own.
        weights: how convolutions' weights are stored. All arithmetic is in fp32; ``fp16`` halves
            the file and ``int8`` (one scale per output channel) quarters it.
        good: images (N, S, S, 3) that were not trained on; the scores that the file gives them are
            what its threshold is calibrated on. Without them the run's own scores are, but none
            at another size or with weights in int8, which move scores by more than a threshold
            can bear.

    Returns:
        the largest differences from torch in fp32: ``final_map``, ``student_map`` and ``score``.

    Raises:
        DeSTSegError: a package is missing, the name or the size cannot be used, or the answers
            with weights in fp32 differ from torch's by more than 1e-3.
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
    shrink_weights(content, weights)
    compute = open_with("onnxruntime", content.SerializeToString(), "fp32")
    differences = _differences(run.model, config.image_size, compute)
    if weights == "fp32" and (worst := max(differences.values())) > LARGEST_DIFFERENCE:
        raise DeSTSegError(
            f"the exported graph differs from torch by {worst:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written. Try another version of onnxruntime"
        )
    own = weights != "int8" and config == run.config
    scores = run.calibration_scores if own else ()
    if good is not None:
        exported = ExportedRun(compute, config, run.teacher_name, ())
        scores = tuple(
            float(s) for maps in exported.maps(good) for s in image_scores(maps.final, TOP_PIXELS)
        )
    known = {
        "config": config_to_dict(config),
        "teacher": {"name": run.teacher_name, "fingerprint": run.model.teacher.fingerprint()},
        "calibration": list(scores),
        "weights": weights,
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
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
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
    finally:
        logger.setLevel(level)
    assert program is not None
    content: onnx.ModelProto = program.model_proto
    return content


def shrink_weights(content: onnx.ModelProto, weights: Weights) -> None:
    """Store convolutions' weights in fewer bits, with a node that makes each fp32 again."""
    if weights == "fp32":
        return
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for tensor in list(content.graph.initializer):
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim != 4:
            continue  # batch norm's gains and statistics are few
        if weights == "fp16":
            inputs = {f"{name}_fp16": values.astype(np.float16)}
            node = helper.make_node("Cast", list(inputs), [name], to=TensorProto.FLOAT)
        else:
            scale = np.maximum(np.abs(values).max(axis=(1, 2, 3)) / 127, np.finfo(np.float32).tiny)
            whole = np.rint(values / scale[:, None, None, None]).astype(np.int8)
            inputs = {f"{name}_int8": whole, f"{name}_scale": scale.astype(np.float32)}
            node = helper.make_node("DequantizeLinear", list(inputs), [name], axis=0)
        content.graph.initializer.remove(tensor)
        content.graph.initializer.extend(
            numpy_helper.from_array(array, key) for key, array in inputs.items()
        )
        nodes.append(node)
    for node in reversed(nodes):
        content.graph.node.insert(0, node)


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
