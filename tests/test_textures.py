"""Procedural textures: varied, in colour, and the same from the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from destseg_lib.textures import FAMILIES, procedural_textures


def draw(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return procedural_textures(count, size, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "size"), [(5, 17), (5, 32), (0, 32)])
def test_they_are_rgb_bytes_of_the_size_asked_for(count, size):
    textures = draw(count, size)
    assert textures.shape == (count, size, size, 3)
    assert textures.dtype == np.uint8


def test_equal_generators_give_equal_textures_and_the_global_one_is_left_alone():
    before = torch.get_rng_state()
    np.testing.assert_array_equal(draw(8), draw(8))
    assert (draw(8) != draw(8, seed=1)).any(axis=(1, 2, 3)).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_are_alike_and_none_is_flat():
    textures = draw(6 * FAMILIES, size=64).astype(float)
    assert (textures.std(axis=(1, 2)).max(axis=1) > 5).all()
    flat = textures.reshape(len(textures), -1)
    apart = np.abs(flat[:, None] - flat[None]).mean(axis=2)
    assert (apart[~np.eye(len(flat), dtype=bool)] > 5).all()


def test_they_have_colour_and_structure():
    textures = draw(20 * FAMILIES, size=64).astype(float)
    spread = textures.mean(axis=(1, 2)).std(axis=1)
    assert np.median(spread) > 10, "the channels of most textures differ"
    # White noise has neighbours that know nothing of one another.
    centred = textures - textures.mean(axis=(1, 2), keepdims=True)
    neighbours = (centred[:, :, 1:] * centred[:, :, :-1]).sum(axis=(1, 2, 3))
    correlation = neighbours / (centred[:, :, :-1] ** 2).sum(axis=(1, 2, 3))
    assert np.median(correlation) > 0.5
