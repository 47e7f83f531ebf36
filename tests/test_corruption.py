"""Synthetic anomalies: each part against an oracle of its own, the whole against the authors'."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from destseg_lib import DeSTSegError
from destseg_lib.config import CorruptionConfig
from destseg_lib.corruption import (
    GREY,
    blend,
    corrupt,
    fade,
    perlin_masks,
    perlin_noise,
    rotate,
    shrink_masks,
    turn_photographs,
)

DRAWS, BATCH = 3008, 32
# Standard errors of the difference of two samples. A right implementation leaves this band once
# in 16,000 comparisons, and the seed is fixed: what passes once passes always.
ERRORS = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=seeded(seed))


# Perlin noise


def slow_perlin(cells: tuple[int, int], angles: np.ndarray, size: int) -> np.ndarray:
    """Pixel by pixel: the four gradients around it, each dotted with its offset, eased."""
    noise = np.empty((size, size))
    for i, j in np.ndindex(size, size):
        y, x = i * cells[0] / size, j * cells[1] / size
        top, left = math.floor(y), math.floor(x)
        total = 0.0
        for line, column in ((top + a, left + b) for a in (0, 1) for b in (0, 1)):
            angle = angles[line, column]
            dot = math.cos(angle) * (x - column) + math.sin(angle) * (y - line)
            total += ease(abs(y - line)) * ease(abs(x - column)) * dot
        noise[i, j] = math.sqrt(2) * total
    return noise


def ease(distance: float) -> float:
    """How much a lattice point counts at a distance along one axis, in cells."""
    return 1 - (6 * distance**5 - 15 * distance**4 + 10 * distance**3)


def test_fade_runs_from_zero_to_one_and_is_flat_at_both_ends():
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    eased = fade(t)
    np.testing.assert_allclose(eased.detach(), [0, 0.5, 1])
    eased.sum().backward()
    np.testing.assert_allclose(t.grad, [0, 15 / 8, 0])


@pytest.mark.parametrize("size", [16, 24])
def test_perlin_noise_is_what_the_lattice_gives_pixel_by_pixel(size):
    cells = torch.tensor([[1, 1], [2, 4], [8, 1], [3, 5], [8, 8]])
    angles = 2 * math.pi * torch.rand(len(cells), 9, 9, generator=seeded())
    noise = perlin_noise(cells, angles, size)
    for n, (found, (down, right)) in enumerate(zip(noise, cells.tolist(), strict=True)):
        by_hand = slow_perlin((down, right), angles[n].double().numpy(), size)
        np.testing.assert_allclose(found, by_hand, atol=1e-5, err_msg=f"{down}x{right} cells")


def test_perlin_noise_is_zero_at_the_lattice_points():
    noise = perlin_noise(torch.tensor([[4, 2]]), 6 * torch.rand(1, 5, 5, generator=seeded()), 16)
    np.testing.assert_allclose(noise[0, ::4, ::8], 0, atol=1e-6)
    assert noise.abs().max() > 0.1


# Rotation


def test_a_quarter_turn_moves_pixels_without_mixing_them():
    images = pictures()
    turned = rotate(images, torch.tensor([0.0, 90.0, -90.0]))
    for found, image, quarters in zip(turned, images, (0, 1, -1), strict=True):
        np.testing.assert_allclose(found, image.rot90(quarters, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("degrees", [33.0, -71.5, 5.0])
def test_rotation_is_scipys_inside_and_the_fill_outside(degrees):
    size = 32
    images = pictures(1, size)
    found = rotate(images, torch.tensor([degrees]), fill=0.25)[0].numpy()
    oracle = ndimage.rotate(
        images[0].double().numpy(), degrees, (2, 1), reshape=False, order=1, cval=0.25
    )
    # Where the four neighbours all exist; at the border scipy cuts where the method fades out.
    line = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(line, line, indexing="ij")
    radians = np.deg2rad(degrees)
    cos, sin = np.cos(radians), np.sin(radians)
    reach = np.maximum(np.abs(cos * x - sin * y), np.abs(sin * x + cos * y))
    inside, outside = reach < (size - 1) / 2 - 1e-3, reach > (size + 1) / 2
    np.testing.assert_allclose(found[:, inside], oracle[:, inside], atol=1e-4)
    np.testing.assert_allclose(found[:, outside], 0.25, atol=1e-6)
    assert inside.sum() > 0.7 * size**2
    if abs(degrees) > 10:
        assert outside.any()


def test_each_image_is_turned_by_its_own_angle():
    images, degrees = pictures(3), torch.tensor([10.0, -40.0, 75.0])
    together = rotate(images, degrees)
    for n in range(3):
        np.testing.assert_allclose(together[n], rotate(images[n : n + 1], degrees[n : n + 1])[0])


# Masks


def test_masks_are_zero_and_one_and_follow_the_threshold():
    low, high = (perlin_masks(8, 32, CorruptionConfig(threshold=t), seeded()) for t in (0.3, 0.6))
    assert low.shape == (8, 1, 32, 32)
    assert set(low.unique().tolist()) == {0.0, 1.0}
    assert (high <= low).all()
    assert high.sum() < low.sum()


def test_a_mask_is_the_turned_noise_above_the_threshold():
    config = CorruptionConfig()
    masks = perlin_masks(4, 32, config, seeded(3))
    generator = seeded(3)
    cells = 2 ** torch.randint(0, 6, (4, 2), generator=generator)
    angles = 2 * math.pi * torch.rand(4, 33, 33, generator=generator)
    degrees = 90 * (2 * torch.rand(4, generator=generator) - 1)
    turned = rotate(perlin_noise(cells, angles, 32)[:, None], degrees)
    assert torch.equal(masks, (turned > 0.5).float())


def test_one_cell_and_no_rotation_are_possible():
    config = CorruptionConfig(max_cells_log2=0, rotation=0.0, threshold=0.3)
    masks = perlin_masks(16, 32, config, seeded())
    assert not masks[:, :, 0, 0].any(), "the noise is zero at the corner of its only cell"
    assert 0 < masks.mean() < 1


def test_a_mask_is_shrunk_by_the_four_pixels_in_the_middle_of_each_square():
    masks = (torch.rand(2, 1, 16, 24, generator=seeded()) < 0.5).float()
    shrunk = shrink_masks(masks)
    assert shrunk.shape == (2, 1, 4, 6)
    for b, i, j in np.ndindex(2, 4, 6):
        middle = masks[b, 0, 4 * i + 1 : 4 * i + 3, 4 * j + 1 : 4 * j + 3]
        assert shrunk[b, 0, i, j] == (middle.mean() >= 0.5), (b, i, j)


# Blending


def test_blending_by_hand():
    images, textures = torch.full((2, 3, 2, 2), 0.25), torch.full((2, 3, 2, 2), 0.75)
    masks = torch.tensor([[[[1.0, 0], [0, 1]]], [[[0, 0], [1, 0]]]])
    found = blend(images, textures, masks, torch.tensor([0.5, 1.0]))
    by_hand = [[[0.5, 0.25], [0.25, 0.5]], [[0.25, 0.25], [0.75, 0.25]]]
    for channel in range(3):
        np.testing.assert_allclose(found[:, channel], by_hand, atol=1e-7)


def test_corruption_changes_the_image_inside_the_mask_alone():
    images, textures = pictures(8, 64), pictures(8, 64, seed=1)
    corrupted = corrupt(images, textures, CorruptionConfig(opacity=(0.5, 0.5)), seeded())
    inside = corrupted.masks.bool().expand_as(images)
    assert inside.any() and not inside.all()
    assert torch.equal(corrupted.images[~inside], images[~inside])
    half = (images + textures) / 2
    np.testing.assert_allclose(corrupted.images[inside], half[inside], atol=1e-6)
    assert corrupted.images.min() >= 0
    assert corrupted.images.max() <= 1


@pytest.mark.parametrize("opacity", [(0.2, 1.0), (0.15, 1.0)], ids=["code", "paper"])
def test_the_opacity_range_can_be_the_codes_or_the_papers(opacity):
    config = CorruptionConfig(max_cells_log2=0, threshold=0.0, opacity=opacity)
    black = torch.zeros(256, 3, 8, 8)
    corrupted = corrupt(black, torch.ones_like(black), config, seeded())
    # White texture on black images shows the opacity wherever there is a mask.
    drawn = corrupted.masks.amax(dim=(1, 2, 3)).bool()
    found = corrupted.images.amax(dim=(1, 2, 3))[drawn]
    assert len(found) > 200
    assert opacity[0] <= found.min() < opacity[0] + 0.03
    assert 0.97 < found.max() <= 1


# Randomness and refusals


def test_equal_generators_give_equal_anomalies_and_the_global_one_is_left_alone():
    images, textures, config = pictures(4, 64), pictures(4, 64, seed=1), CorruptionConfig()
    before = torch.get_rng_state()
    one, same, other = (corrupt(images, textures, config, seeded(s)) for s in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.images, same.images) and torch.equal(one.masks, same.masks)
    assert not torch.equal(one.masks, other.masks)


def test_the_images_given_are_not_changed():
    images, textures = pictures(4, 64), pictures(4, 64, seed=1)
    before = images.clone(), textures.clone()
    corrupt(images, textures, CorruptionConfig(), seeded())
    turn_photographs(images, "full", seeded())
    assert torch.equal(images, before[0]) and torch.equal(textures, before[1])


@pytest.mark.parametrize(
    ("images", "textures", "message"),
    [
        ((2, 3, 8, 8), (1, 3, 8, 8), r"\(2, 3, 8, 8\) and textures \(1, 3, 8, 8\)"),
        ((2, 3, 8, 8), (2, 3, 16, 16), r"textures \(2, 3, 16, 16\); give both the same shape"),
        ((2, 3, 8, 16), (2, 3, 8, 16), r"the same shape \(B, 3, S, S\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(images, textures, message):
    with pytest.raises(DeSTSegError, match=message):
        corrupt(torch.zeros(images), torch.zeros(textures), CorruptionConfig(), seeded())


# Turning photographs


def test_none_leaves_photographs_and_generator_alone():
    images, generator = pictures(), seeded()
    assert torch.equal(turn_photographs(images, "none", generator), images)
    assert torch.equal(generator.get_state(), seeded().get_state())


def angle_of(image: torch.Tensor) -> float:
    """Degrees by which a photograph of a bright spot to the right of its centre was turned."""
    y, x = ndimage.center_of_mass((image[0] - GREY).clamp_min(0.02).numpy() - 0.02)
    middle = (image.shape[-1] - 1) / 2
    return math.degrees(math.atan2(middle - y, x - middle))


@pytest.mark.parametrize(("rotation", "quarters"), [("slight", {0}), ("full", {0, 1, 2, 3})])
def test_photographs_are_turned_within_five_degrees_of_a_quarter(rotation, quarters):
    images = torch.full((64, 3, 65, 65), GREY)
    images[:, :, 31:34, 56:59] = 1
    angles = np.array([angle_of(i) for i in turn_photographs(images, rotation, seeded())])
    nearest = np.round(angles / 90)
    assert {int(q) % 4 for q in nearest} == quarters
    off = angles - 90 * nearest
    assert np.abs(off).max() < 5.1
    assert off.min() < -4 and off.max() > 4


def test_corners_of_a_turned_photograph_are_grey():
    turned = turn_photographs(torch.ones(32, 3, 64, 64), "slight", seeded())
    np.testing.assert_allclose(turned.min(), GREY, atol=1e-6)
    np.testing.assert_allclose(turned[:, :, 16:48, 16:48], 1, atol=1e-6)


# The authors' implementation


@pytest.fixture(scope="module")
def ours() -> SimpleNamespace:
    """What the reference holds of its 3,000 draws at 256 pixels, of as many of ours."""
    black, white = torch.zeros(BATCH, 3, 256, 256), torch.ones(BATCH, 3, 256, 256)
    generator, areas, opacity = seeded(), [], []
    for _ in range(DRAWS // BATCH):
        corrupted = corrupt(black, white, CorruptionConfig(), generator)
        areas.append(corrupted.masks.mean(dim=(1, 2, 3)))
        opacity.append(corrupted.images.amax(dim=(1, 2, 3)))
    area = torch.cat(areas).numpy()
    return SimpleNamespace(area=area, opacity=torch.cat(opacity).numpy()[area > 0])


@pytest.fixture(scope="module")
def theirs(shared) -> dict:
    return json.loads((shared / "reference" / "expected.json").read_text())["corruption_256px"]


def close(found: float, theirs: float, deviation: float, one: int, other: int) -> bool:
    """Whether two samples of these sizes agree, given the deviation of one draw."""
    return abs(found - theirs) <= ERRORS * deviation * math.sqrt(1 / one + 1 / other)


def test_the_authors_mask_areas_are_distributed_alike(ours, theirs):
    mean, draws = theirs["mask_area_fraction_mean"], (DRAWS, theirs["draws"])
    assert close(ours.area.mean(), mean, float(ours.area.std()), *draws)
    empty = theirs["empty_mask_fraction"]
    shares = [((ours.area == 0).mean(), empty)]
    quantiles = theirs["mask_area_fraction_quantiles_5_25_50_75_95"]
    for share, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
        shares.append(((ours.area <= quantile).mean(), share))
    for found, share in shares:
        assert close(found, share, math.sqrt(share * (1 - share)), *draws), share


def test_the_authors_opacity_is_distributed_alike(ours, theirs):
    draws, mean = len(ours.opacity), theirs["texture_opacity_mean"]
    assert close(ours.opacity.mean(), mean, 0.8 / math.sqrt(12), draws, theirs["draws"])
    # The extremes of n uniform draws are about 0.8/n from the ends, never more than 12 times that.
    ends = (ours.opacity.min(), ours.opacity.max())
    assert ends == pytest.approx(theirs["texture_opacity_min_max"], abs=12 * 0.8 / draws)
    assert 0.2 <= ends[0] < ends[1] <= 1
