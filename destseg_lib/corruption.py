"""Synthetic anomalies: Perlin masks filled with a blended texture (section 3.1, figure 3).

Everything is batched tensor code on the images' device. Random numbers are drawn on the CPU from
the generator that is passed in, so the same seed gives the same anomalies on every device.
Shapes: B images of H = W = S pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from destseg_lib.config import CorruptionConfig, Rotation
from destseg_lib.device import send
from destseg_lib.errors import DeSTSegError

GREY = 114 / 255  # the authors' fill for the corners of a turned photograph


class Corrupted(NamedTuple):
    """A corrupted batch: ``images`` (B, 3, S, S) in [0, 1], ``masks`` (B, 1, S, S) of 0 and 1."""

    images: Tensor
    masks: Tensor


def fade(t: Tensor) -> Tensor:
    """Perlin's ease curve 6t^5 - 15t^4 + 10t^3, from 0 at t=0 to 1 at t=1, flat at both ends."""
    return t**3 * (t * (6 * t - 15) + 10)


def perlin_noise(cells: Tensor, angles: Tensor, size: int) -> Tensor:
    """Perlin gradient noise as two matrix products.

    The value of a pixel is a sum over the four lattice points around it: the dot product of the
    lattice point's gradient with the offset, times a weight. Weight and offset split into a row
    and a column part, so the image is W_y G_x D_x^T + D_y G_y W_x^T. W holds the eased weights of
    each lattice line at each pixel, D the same times the signed offset, G the gradients.

    Args:
        cells: (B, 2) whole numbers, the lattice cells along y and x.
        angles: (B, L, L) gradient directions in radians; L exceeds every entry of ``cells``.
        size: S, the side of the result in pixels.

    Returns:
        (B, S, S) values, mostly in [-1, 1], zero on average.
    """
    lines = torch.arange(angles.shape[1], device=angles.device)
    pixels = torch.arange(size, device=angles.device) / size
    # offset[b, axis, s, l]: distance in cells from pixel s to lattice line l
    offset = pixels[:, None] * cells[:, :, None, None] - lines
    weight = fade((1 - offset.abs()).clamp_min(0))
    slope = weight * offset
    rows = torch.cat([weight[:, 0], slope[:, 0]], dim=2)  # (B, S, 2L)
    columns = torch.cat(
        [
            angles.cos() @ slope[:, 1].transpose(1, 2),
            angles.sin() @ weight[:, 1].transpose(1, 2),
        ],
        dim=1,
    )  # (B, 2L, S)
    return math.sqrt(2) * rows @ columns


def rotate(images: Tensor, degrees: Tensor, fill: float = 0.0) -> Tensor:
    """Turn each image about its centre with bilinear interpolation.

    Args:
        images: (B, C, S, S).
        degrees: (B,) anticlockwise.
        fill: the value of pixels that come from outside the image.

    Returns:
        (B, C, S, S).
    """
    radians = torch.deg2rad(degrees)[:, None, None]
    cos, sin = radians.cos(), radians.sin()
    size = images.shape[-1]
    x = (2 * torch.arange(size, device=images.device) + 1) / size - 1  # pixel centres in (-1, 1)
    y = x[:, None]
    grid = x.new_empty(len(images), size, size, 2)  # (B, S, S, 2): where each pixel comes from
    torch.sub(cos * x, sin * y, out=grid[..., 0])
    torch.add(sin * x, cos * y, out=grid[..., 1])
    return F.grid_sample(images - fill, grid, align_corners=False).add_(fill)


def perlin_masks(
    batch: int,
    size: int,
    config: CorruptionConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw anomaly masks: turned Perlin noise of random scale, thresholded.

    Returns:
        (batch, 1, size, size) of 0 and 1; about 5 % of the pixels are 1, and about one mask in 20
        is empty.
    """
    scales = torch.randint(0, config.max_cells_log2 + 1, (batch, 2), generator=generator)
    lines = 2**config.max_cells_log2 + 1
    angles = 2 * math.pi * torch.rand(batch, lines, lines, generator=generator)
    turn = config.rotation * (2 * torch.rand(batch, generator=generator) - 1)
    device = torch.device(device)
    noise = perlin_noise(send(2**scales, device), send(angles, device), size)
    return rotate(noise[:, None], send(turn, device)).gt_(config.threshold)


def blend(images: Tensor, textures: Tensor, masks: Tensor, opacity: Tensor) -> Tensor:
    """Blend the texture into the image inside the mask (equation 1).

    Args:
        images: (B, 3, S, S) in [0, 1].
        textures: (B, 3, S, S) in [0, 1].
        masks: (B, 1, S, S) of 0 and 1.
        opacity: (B,) in [0, 1], the texture's share; 1 hides the image.
    """
    return torch.lerp(images, textures, masks * opacity[:, None, None, None])


def corrupt(
    images: Tensor, textures: Tensor, config: CorruptionConfig, generator: torch.Generator
) -> Corrupted:
    """Give each image its own synthetic anomaly.

    >>> clean, texture = torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    >>> generator = torch.Generator().manual_seed(1)
    >>> images, masks = corrupt(clean, texture, CorruptionConfig(), generator)
    >>> images.shape, masks.shape
    (torch.Size([2, 3, 64, 64]), torch.Size([2, 1, 64, 64]))
    >>> bool((images[masks.expand_as(images) == 0] == 0).all())
    True

    Args:
        images: (B, 3, S, S) in [0, 1].
        textures: (B, 3, S, S) in [0, 1], one per image.
        config: how masks and opacity are drawn.
        generator: a CPU generator; equal states give equal anomalies.

    Raises:
        DeSTSegError: the textures' shape is not the images', or the images are not square.
    """
    batch, _, height, size = images.shape
    if height != size or textures.shape != images.shape:
        raise DeSTSegError(
            f"images are {tuple(images.shape)} and textures {tuple(textures.shape)}; "
            "give both the same shape (B, 3, S, S)"
        )
    masks = perlin_masks(batch, size, config, generator, images.device)
    low, high = config.opacity
    opacity = low + (high - low) * torch.rand(batch, generator=generator)
    return Corrupted(blend(images, textures, masks, send(opacity, images.device)), masks)


def shrink_masks(masks: Tensor) -> Tensor:
    """Resize masks to a quarter for the segmentation loss: bilinear, then thresholded at 0.5.

    Args:
        masks: (B, 1, S, S) of 0 and 1.

    Returns:
        (B, 1, S/4, S/4) of 0 and 1.
    """
    quarter = F.interpolate(masks, scale_factor=0.25, mode="bilinear", align_corners=False)
    return (quarter >= 0.5).float()


def turn_photographs(images: Tensor, rotation: Rotation, generator: torch.Generator) -> Tensor:
    """Turn photographs by random angles, the recipe's augmentation.

    ``slight`` turns by up to 5 degrees either way, ``full`` by a random number of quarter turns
    first.

    Args:
        images: (B, 3, S, S) in [0, 1].
        rotation: ``none`` returns the images as they are.
        generator: a CPU generator.
    """
    if rotation == "none":
        return images
    batch = len(images)
    if rotation == "full":
        quarters = torch.randint(0, 4, (batch,), generator=generator)
        images = torch.stack(
            [image.rot90(int(k), (1, 2)) for image, k in zip(images, quarters, strict=True)]
        )
    degrees = 10 * torch.rand(batch, generator=generator) - 5
    return rotate(images, send(degrees, images.device), fill=GREY)
