"""The student: sees the corrupted image, must give the teacher's features of the clean one.

Section 3.2. The encoder is a ResNet-18 with random weights. The decoder goes back up from its last
stage without skip connections, so everything has to pass a bottleneck of 1/32 of the image's size,
where there is no room for a small anomaly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from destseg_lib.config import TEACHER_CHANNELS
from destseg_lib.resnet import ResNetTrunk, initialise, initialise_default, stage


class Student(nn.Module):
    """Images (B, 3, H, W) to features like the teacher's, finest level first.

    Shapes out: (B, 64, H/4, W/4), (B, 128, H/8, W/8), (B, 256, H/16, W/16).

    Args:
        generator: the source of the initial weights.
        encoder_decoder: False gives the teacher's own architecture instead (table 4).
        width: multiplies the inner channels. If it is not 1.0, one 1x1 convolution per level
            restores the teacher's channel counts; at 1.0 there is none, as in the paper.
    """

    def __init__(
        self, generator: torch.Generator, *, encoder_decoder: bool = True, width: float = 1.0
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = (max(4, round(c * width)) for c in (64, 128, 256, 512))
        channels = (c1, c2, c3, c4) if encoder_decoder else (c1, c2, c3)
        self.encoder = ResNetTrunk(channels)
        initialise(self.encoder, generator, zero_residual=True)
        self.decoder: nn.ModuleList | None = None
        if encoder_decoder:
            self.decoder = nn.ModuleList(
                [stage(c4, c4), stage(c4, c3), stage(c3, c2), stage(c2, c1)]
            )
            initialise(self.decoder, generator, zero_residual=False)
        self.project: nn.ModuleList | None = None
        if (c1, c2, c3) != tuple(TEACHER_CHANNELS.values()):
            self.project = nn.ModuleList(
                nn.Conv2d(inner, outer, 1)
                for inner, outer in zip((c1, c2, c3), TEACHER_CHANNELS.values(), strict=True)
            )
            initialise_default(self.project, generator)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/4, 1/8 and 1/16 of the normalised images."""
        features = self.encoder(images)
        if self.decoder is not None:
            features = self._decode(features)
        if self.project is not None:
            features = tuple(p(f) for p, f in zip(self.project, features, strict=True))
        return features[0], features[1], features[2]

    def _decode(self, encoded: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self.decoder is not None
        x = self.decoder[0](encoded[3])
        decoded = []
        for block, like in zip(list(self.decoder)[1:], reversed(encoded[:3]), strict=True):
            x = F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
            x = block(x)
            decoded.append(x)
        return tuple(reversed(decoded))
