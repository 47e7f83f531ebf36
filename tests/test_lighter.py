"""What a browser computes has fewer multiplications and gives the same answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from tiny import TINY, tiny_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from destseg_lib.model import DeSTSeg, quarter
from destseg_lib.resnet import BasicBlock
from destseg_lib.runs.export import to_onnx
from destseg_lib.runs.halves import RestGraph, TeacherGraph
from destseg_lib.runs.lighter import EarlyBlock, TiledConvolution, fold_batch_norm, lighter
from destseg_lib.runs.quantise import store_weights
from destseg_lib.runs.shipped import load_pretrained


def random_model(**changes: object):
    """A small model whose batch norms have seen something."""
    config = replace(TINY, model=replace(TINY.model, **changes))
    model = tiny_model(config)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, -1, 1, generator=generator)  # signs may turn
            nn.init.normal_(module.bias, generator=generator)
    return model.eval()


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_in_tiles_is_the_convolution(side, memory):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 3, padding=1).to(memory_format=memory)
    x = torch.randn(1, 5, 8, 12).to(memory_format=memory)
    with torch.inference_mode():
        torch.testing.assert_close(
            TiledConvolution(plain, side)(x), plain(x), atol=1e-5, rtol=1e-5, check_stride=False
        )


@pytest.mark.parametrize("sizes", [[16, 8, 4], [8, 4], [16], [8, 8]])
def test_resizing_late_is_resizing_first(sizes):
    torch.manual_seed(0)
    block = BasicBlock(3 * len(sizes), 4).eval()
    fold_batch_norm(block)
    parts = [torch.randn(1, 3, size, size) for size in sizes]
    with torch.inference_mode():
        resized = [F.interpolate(p, (16, 16), mode="bilinear", align_corners=False) for p in parts]
        expected = block(torch.cat(resized, dim=1))
        torch.testing.assert_close(EarlyBlock(block)(parts, (16, 16)), expected)


@pytest.mark.parametrize(
    ("changes", "early"),
    [
        ({}, True),
        ({"levels": (2, 3)}, True),
        ({"levels": (1,)}, True),
        ({"segmentation_input": "concatenation"}, True),
        ({"segmentation_input": "cosine"}, True),
        ({"segmentation": False, "student_map": "sum"}, False),
        ({"encoder_decoder": False, "width": 1.0, "segmentation_width": 1 / 16}, True),
        ({"segmentation_width": 0.5}, False),
        ({"levels": (1,), "segmentation_width": 0.25}, False),  # 64 channels in and out
    ],
)
def test_a_lighter_model_answers_as_the_model(changes, early):
    model = random_model(**changes)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    light = lighter(model, 96)
    with torch.inference_mode():
        teacher, student = model.features(images)
        for given, wanted in zip(light.features(images), (teacher, student), strict=True):
            torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-3)
        expected = model.maps(teacher, student, quarter(images))
        given = RestGraph(light).maps(teacher, student, quarter(images))
        torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-3)
    assert holds(light, EarlyBlock) is early


def holds(model: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in model.modules())


def test_the_model_itself_stays_as_it_is():
    model = random_model(width=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lighter(model, 128)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_shipped_model_needs_less_than_two_thirds_of_its_multiplications():
    model = load_pretrained("metal", torch.device("cpu")).model.eval()
    pixels = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)

    def counted(network: DeSTSeg) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as count:
            RestGraph(network)(pixels, *TeacherGraph(network)(pixels))
        return count.get_total_flops()

    # The weights' own transforms are done once, when a browser opens the file.
    light = lighter(model, 128)
    tiled = [module for module in light.modules() if isinstance(module, TiledConvolution)]
    once = sum(2 * m.weight[:, :, 0, 0].numel() * 9 * m.of_weights.shape[0] for m in tiled)
    assert counted(light) - once < 2 / 3 * counted(model)


def test_weights_alone_are_stored_in_fewer_bits():
    """A transform's whole numbers and fractions in 8 bits would be others."""
    network = nn.Sequential(TiledConvolution(nn.Conv2d(64, 64, 3, padding=1), 4))
    content = to_onnx(network, {"x": torch.zeros(1, 64, 8, 8)}, ("y",))
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in content.graph.initializer}
    store_weights(content, "int8")
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in content.graph.initializer}
    assert "0.weight_int8" in after
    kept = {name for name, value in before.items() if value.ndim == 4} - {"0.weight"}
    assert len(kept) == 2
    assert all((after[name] == before[name]).all() for name in kept)
