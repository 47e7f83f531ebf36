"""The same answers with fewer multiplications, for a browser, where each of them is dear.

Two things are saved. A 3x3 convolution of several pixels at once shares products between them
(Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016). And the segmentation
network's first convolution, most of its work, is begun before the coarse levels are enlarged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from destseg_lib.model import DeSTSeg
from destseg_lib.resnet import BasicBlock

# By the side of a tile: what is made of its pixels, of the weights, and of their products. A tile's
# inputs overlap: they are two pixels wider.
TRANSFORMS = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}
# Where it pays, as measured in WebAssembly: below these, the transforms cost what they save.
FEWEST_CHANNELS, FEWEST_TILES = (64, 32), 16  # channels in and out
# Both take memory, of which a telephone has little. Tiles of four pixels make four times as many
# weights, of two less than twice as many, so there is a limit to the pairs of channels for either.
MOST_PAIRS = {4: 2**15, 2: 2**16}
# An early block makes ten maps for each of its channels; with more of these it begins as it was.
MOST_EARLY = 96


class TiledConvolution(nn.Module):
    """A 3x3 convolution computed in square tiles, (1, I, H, W) to (1, O, H, W).

    For tiles of 4 x 4 pixels it needs 36 products per pair of channels instead of 144, for 2 x 2
    pixels 16 instead of 36.

    Args:
        convolution: with stride and padding 1, and a bias.
        side: of a tile, 2 or 4; height and width are multiples of it.
    """

    def __init__(self, convolution: nn.Conv2d, side: int) -> None:
        super().__init__()
        # Both directions in one matrix each, with float64's digits until it is made.
        of_pixels, of_weights, of_products = (
            torch.kron(matrix, matrix).float()
            for matrix in (torch.tensor(rows, dtype=torch.float64) for rows in TRANSFORMS[side])
        )
        self.side, self.weight = side, convolution.weight
        assert convolution.bias is not None
        self.bias = convolution.bias
        self.of_pixels = nn.Buffer(of_pixels.view(-1, 1, side + 2, side + 2))
        self.of_weights = nn.Buffer(of_weights)
        self.of_products = nn.Buffer(of_products[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """The convolution; N is (side + 2)^2 and T the number of tiles."""
        outer, inner = self.weight.shape[:2]
        tiles = F.conv2d(x.transpose(0, 1), self.of_pixels, stride=self.side, padding=1)
        pixels = tiles.flatten(2).transpose(0, 1)  # (N, I, T)
        weights = (self.weight.reshape(outer * inner, 9) @ self.of_weights.T).view(outer, inner, -1)
        products = (weights.permute(2, 0, 1) @ pixels).transpose(0, 1)  # (O, N, T)
        products = products.reshape(outer, -1, *tiles.shape[2:])
        y = F.pixel_shuffle(F.conv2d(products, self.of_products), self.side)
        return y.transpose(0, 1) + self.bias[:, None, None]


class EarlyBlock(nn.Module):
    """A residual block of maps resized and concatenated, which resizes as late as it can.

    Channels are mixed first, each map at its own size, since resizing commutes with that. What the
    nine places of the 3x3 convolution look at is mixed apart, then resized, moved and added.

    Args:
        block: whose batch norm is folded into its convolutions.
    """

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        assert isinstance(block.downsample, nn.Sequential)
        shortcut = block.downsample[0]
        assert isinstance(shortcut, nn.Conv2d)
        self.first, self.second, self.shortcut = block.conv1, block.conv2, shortcut

    def forward(self, parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Parts (B, C_k, H_k, W_k), finest first, to ``(B, O, *size)``."""
        (height, width), outer = size, self.first.out_channels
        y, beside = self.first.bias, self.shortcut.bias
        assert y is not None and beside is not None
        y, beside = y[None, :, None, None], beside[None, :, None, None]
        resized: Tensor | None = None
        begin = 0
        for part in parts:
            of_part = slice(begin, begin := begin + part.shape[1])
            wide, narrow = self.first.weight[:, of_part], self.shortcut.weight[:, of_part]
            if part.shape[2:] == size:
                y = y + F.conv2d(part, wide, padding=1)
                beside = beside + F.conv2d(part, narrow)
                continue
            places = torch.cat([*wide.permute(2, 3, 0, 1).flatten(0, 1), narrow[:, :, 0, 0]])
            mixed = F.conv2d(part, places[:, :, None, None])  # (B, 10 O, H_k, W_k)
            mixed = F.interpolate(mixed, size, mode="bilinear", align_corners=False)
            resized = mixed if resized is None else resized + mixed
        if resized is not None:
            beside = beside + resized[:, 9 * outer :]
            padded = F.pad(resized[:, : 9 * outer], [1] * 4)
            for place in range(9):
                down, right = divmod(place, 3)
                moved = padded[:, :, down : down + height, right : right + width]
                y = y + moved[:, place * outer : (place + 1) * outer]
        return F.relu(self.second(F.relu(y)) + beside)


def lighter(model: DeSTSeg, side: int) -> DeSTSeg:
    """A copy that answers alike with fewer products, for one image (1, 3, side, side) per pass.

    Batch norm is folded into convolutions, 3x3 convolutions work in tiles where that pays, and a
    segmentation network of few channels begins with an ``EarlyBlock``.

    Args:
        model: trained; it stays as it is.
        side: of its images, a multiple of 32.
    """
    model = copy.deepcopy(model).eval()
    fold_batch_norm(model)
    heights = _heights(model, side)
    if model.segmentation is not None:
        block = model.segmentation.residual[0]
        assert isinstance(block, BasicBlock)
        if block.conv1.out_channels <= MOST_EARLY and block.downsample is not None:
            model.segmentation.residual[0] = EarlyBlock(block)
            del heights[block.conv1]
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and (tile := _tile(child, heights.get(child, 0))):
                setattr(module, name, TiledConvolution(child, tile))
    return model


def fold_batch_norm(network: nn.Module) -> None:
    """Fold batch norm in eval mode into the convolution before it, in place."""
    for module in list(network.modules()):
        for (name, first), (after, second) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())


def _heights(model: DeSTSeg, side: int) -> dict[nn.Conv2d, int]:
    """How high the maps are that each convolution gets."""
    found: dict[nn.Conv2d, int] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        found[module] = inputs[0].shape[2]

    seen = [
        module.register_forward_pre_hook(note)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        model(torch.zeros(1, 3, side, side))
    for hook in seen:
        hook.remove()
    return found


def _tile(convolution: nn.Conv2d, height: int) -> int | None:
    """The side of the tiles that pay, if any do; maps are square."""
    inner, outer = convolution.in_channels, convolution.out_channels
    plain = (convolution.kernel_size, convolution.stride, convolution.dilation)
    few = inner < FEWEST_CHANNELS[0] or outer < FEWEST_CHANNELS[1]
    if few or plain != ((3, 3), (1, 1), (1, 1)):
        return None
    for side, most in MOST_PAIRS.items():
        enough = height % side == 0 and (height // side) ** 2 >= FEWEST_TILES
        if enough and inner * outer <= most:
            return side
    return None
