"""The ResNet-18 trunk that teacher and student share (section 3.2).

Modules have the names of torchvision's ResNet, so that its weights fit. torchvision itself, which
takes seconds to import, is needed only to find those weights.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

VECTOR_CHANNELS = 16  # float32 numbers in the widest vector register


class BasicBlock(nn.Module):
    """A residual block (He et al., 2016): two convolutions whose result is added to the input.

    Where size or channels change, the input cannot be added as it is and goes through a 1x1
    convolution first, ``downsample``.

    Args:
        inner: input channels.
        outer: output channels.
        stride: of the first convolution.
    """

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample: nn.Module | None = None
        # With few channels, the backward pass of a strided 1x1 convolution corrupts memory on some
        # processors (oneDNN issue 6035). Taking every second pixel first is the same arithmetic.
        self.skip = stride if inner < VECTOR_CHANNELS else 1
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride // self.skip, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, H, W) to (B, outer, H/stride, W/stride)."""
        correction = self.relu(self.bn1(self.conv1(x)))
        correction = self.bn2(self.conv2(correction))
        if self.skip > 1:
            x = x[:, :, :: self.skip, :: self.skip]
        correction += x if self.downsample is None else self.downsample(x)
        return cast("Tensor", self.relu(correction))


def stage(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """Two residual blocks, (B, inner, H, W) to (B, outer, H/stride, W/stride)."""
    return nn.Sequential(BasicBlock(inner, outer, stride), BasicBlock(outer, outer))


class ResNetTrunk(nn.Module):
    """ResNet-18 without its classifier: images (B, 3, H, W) to one feature map per stage.

    Stage k gives (B, C_k, H/2^(k+1), W/2^(k+1)).

    Args:
        channels: C_k of each stage; (64, 128, 256, 512) is ResNet-18.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.depth = len(channels)
        self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inner = channels[0]
        for k, outer in enumerate(channels, start=1):
            self.add_module(f"layer{k}", stage(inner, outer, stride=1 if k == 1 else 2))
            inner = outer

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """One feature map per stage, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for k in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{k}")(x)
            features.append(x)
        return tuple(features)


def initialise(module: nn.Module, generator: torch.Generator, *, zero_residual: bool) -> None:
    """Draw the weights of convolutions from Kaiming's normal distribution (fan-out).

    Args:
        module: changed in place; freshly made, so that its batch norms are at their start.
        generator: the source of the draws.
        zero_residual: start every residual branch at zero, as the student's encoder does: the
            last batch-norm gain of each block is set to zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(
                part.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
    if zero_residual:
        for part in module.modules():
            if isinstance(part, BasicBlock):
                nn.init.zeros_(part.bn2.weight)


def initialise_default(module: nn.Module, generator: torch.Generator) -> None:
    """Draw convolutions from PyTorch's own initial distribution, with the given generator."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                bound = 1 / math.sqrt(part.weight[0].numel())
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
