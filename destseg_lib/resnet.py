"""The ResNet-18 trunk that teacher and student share, in torchvision's parts and names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


def stage(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """Two residual blocks, (B, inner, H, W) to (B, outer, H/stride, W/stride)."""
    shortcut = None
    if stride != 1 or inner != outer:
        shortcut = nn.Sequential(
            nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
        )
    return nn.Sequential(BasicBlock(inner, outer, stride, shortcut), BasicBlock(outer, outer))


class ResNetTrunk(nn.Module):
    """ResNet-18 without its classifier: images (B, 3, H, W) to a feature map a stage.

    Args:
        channels: of each stage; (64, 128, 256, 512) is ResNet-18. Stage k is at 1/2^(k+1) of H, W.
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
        """One feature map a stage, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for k in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{k}")(x)
            features.append(x)
        return tuple(features)


def initialise(module: nn.Module, generator: torch.Generator, *, zero_residual: bool) -> None:
    """Draw convolutions from Kaiming's normal (fan-out) and reset batch norms.

    Args:
        module: changed in place.
        generator: the source of the draws.
        zero_residual: start every residual branch at zero, as the student's encoder does.
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
    """PyTorch's own initial distribution for convolutions, drawn from a passed generator."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                bound = 1 / math.sqrt(part.weight[0].numel())
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
