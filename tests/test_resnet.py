"""The residual block, against PyTorch's own operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from destseg_lib.resnet import VECTOR_CHANNELS, BasicBlock


@pytest.mark.parametrize("inner", [3, 4, VECTOR_CHANNELS - 1, VECTOR_CHANNELS, 32])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_the_way_around_the_convolutions_is_a_strided_one_with_any_number_of_channels(inner, size):
    """With few channels pixels are skipped first: oneDNN corrupts memory in the other order."""
    torch.manual_seed(0)
    block = BasicBlock(inner, 2 * inner, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)  # leaves what goes around them
    x = torch.rand(2, inner, size, size, requires_grad=True)
    assert block.downsample is not None
    weight = block.downsample[0].weight
    expected = F.conv2d(x.detach(), weight.detach(), stride=2) / (1 + block.bn1.eps) ** 0.5
    found = block(x)
    torch.testing.assert_close(found, expected.relu())
    found.sum().backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())
    seen = x.grad.abs().sum((0, 1)) > 0
    assert not seen[1::2].any() and not seen[:, 1::2].any()
