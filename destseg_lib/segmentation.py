"""The segmentation network: learns where student and teacher disagree in a way that matters.

Section 3.3. It sees how the two agree, channel by channel, at every level (``fusion``), and is
trained on the masks of the synthetic anomalies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from destseg_lib.resnet import initialise, initialise_default, stage

DILATIONS = (6, 12, 18)
INNER_CHANNELS = 256


def convolution(inner: int, outer: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU; height and width stay."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: every position seen in four widths of context.

    Three dilated 3x3 branches and the mean of the whole image, fused by a 3x3 convolution; the
    method has neither the usual 1x1 branch nor dropout. (B, C, H, W) to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(convolution(channels, channels, 3, d) for d in DILATIONS)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(channels, channels, 1))
        self.fused = convolution(channels * (len(DILATIONS) + 1), channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """All branches at the input's size, concatenated, then one convolution."""
        everywhere = self.pooled(x).expand(-1, -1, *x.shape[2:])
        fused: Tensor = self.fused(torch.cat([everywhere, *(b(x) for b in self.dilated)], dim=1))
        return fused


class SegmentationNet(nn.Module):
    """Fused features (B, C, H, W) to the logit of being anomalous, (B, 1, H, W).

    ``residual`` and ``head`` are separate because the authors train them at different rates.

    Args:
        channels: C of the input.
        generator: the source of the initial weights.
        width: multiplies the 256 inner channels.
    """

    def __init__(self, channels: int, generator: torch.Generator, *, width: float = 1.0) -> None:
        super().__init__()
        inner = max(4, round(INNER_CHANNELS * width))
        self.residual = stage(channels, inner)
        self.head = nn.Sequential(ASPP(inner), convolution(inner, inner, 3), nn.Conv2d(inner, 1, 1))
        initialise(self.residual, generator, zero_residual=False)
        initialise_default(self.head, generator)

    def forward(self, fused: Tensor) -> Tensor:
        """Logits; their sigmoid is the anomaly map."""
        logits: Tensor = self.head(self.residual(fused))
        return logits
