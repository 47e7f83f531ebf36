"""Fewer bits in an exported graph: how weights are stored, and whether int8 is computed in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from destseg_lib.config import METRIC_SIZE, CorruptionConfig
from destseg_lib.corruption import corrupt
from destseg_lib.errors import DeSTSegError
from destseg_lib.metrics import anomaly_metrics
from destseg_lib.model import to_tensor
from destseg_lib.runs.exported import AnyRun, quiet
from destseg_lib.textures import procedural_textures

if TYPE_CHECKING:
    import onnx

Weights = Literal["fp32", "fp16", "int8"]
FEWEST = 8  # good images to calibrate the range of activations on and to measure with
# What int8 arithmetic may cost, in points of the metrics on good images and synthetic anomalies.
MOST_LOST = {"image_auroc": 1.0, "pixel_ap": 2.0}
# Computed in float: with the segmentation head in int8, scores of shipped models moved by 0.15.
KEPT_IN_FLOAT = ("model.student.decoder", "model.segmentation.head")


def store_weights(content: onnx.ModelProto, weights: Weights) -> None:
    """Store convolutions' weights in fewer bits, with a node that makes each fp32 again."""
    if weights == "fp32":
        return
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for tensor in list(content.graph.initializer):
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if not name.endswith(".weight") or values.ndim != 4:
            continue  # the others are few
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


def quantise_arithmetic(
    content: onnx.ModelProto, good: NDArray[np.uint8] | tuple[()]
) -> onnx.ModelProto:
    """Compute convolutions in int8, except those of ``KEPT_IN_FLOAT``.

    Args:
        content: with weights in fp32.
        good: images (N, S, S, 3) or none; the range of every activation is what they reach.

    Raises:
        DeSTSegError: fewer than eight images.
    """
    if len(good) < FEWEST:
        raise DeSTSegError(
            f"{len(good)} good images are too few to find the range of activations; give at "
            f"least {FEWEST} with --good"
        )
    import onnx
    from onnxruntime import quantization

    class GoodImages(quantization.CalibrationDataReader):  # type: ignore[misc]
        left = iter(good)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.left, None)
            return None if image is None else {"pixels": image[None]}

    in_float = [
        node.name
        for node in content.graph.node
        if node.op_type == "Conv" and node.input[1].startswith(KEPT_IN_FLOAT)
    ]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            content,
            file,
            GoodImages(),
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=in_float,
            per_channel=True,
        )
        quantised: onnx.ModelProto = onnx.load(file)
    return quantised


def points_lost(run: AnyRun, exported: AnyRun, good: NDArray[np.uint8]) -> dict[str, float]:
    """Points of image AUROC and pixel AP that a file loses against its run.

    They are measured on good images (N, S, S, 3) and on the same with synthetic anomalies, drawn
    from seed 0.
    """
    generator, size = torch.Generator().manual_seed(0), good.shape[1]
    textures = to_tensor(procedural_textures(len(good), size, generator))
    drawn = corrupt(to_tensor(good), textures, CorruptionConfig(), generator)
    pixels = drawn.images.permute(0, 2, 3, 1).mul(255).round().byte().numpy()
    marked = F.interpolate(drawn.masks, (METRIC_SIZE, METRIC_SIZE))[:, 0].numpy().astype(np.uint8)
    masks = np.concatenate([np.zeros_like(marked), marked])
    found = []
    for model in (run, exported):
        maps = [batch.final for part in (good, pixels) for batch in model.maps(part)]
        found.append(anomaly_metrics(np.concatenate(maps), masks))
    return {name: 100 * (found[0][name] - found[1][name]) for name in MOST_LOST}
