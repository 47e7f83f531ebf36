"""The memory bank, against brute force."""

from __future__ import annotations

import pytest
import torch

from destseg_lib.evaluation.memory_bank import coreset, local_features, memory_map, remember
from destseg_lib.teacher import load_teacher

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("random")


def images(count: int, seed: int = 0, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_are_the_averaged_levels_two_and_three_at_the_size_of_level_two(teacher):
    features = local_features(teacher, images(2))
    assert features.shape == (2, 384, 8, 8)
    _, two, _ = teacher(images(2))
    expected = two[:, :, 2:5, 4:7].mean(dim=(2, 3))  # around row 3, column 5
    torch.testing.assert_close(features[:, :128, 3, 5], expected)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.1, 4), (1.0, 40)])
def test_a_coreset_holds_the_share_asked_for_without_doubles(share, kept):
    rows = torch.randn(40, 384, generator=torch.Generator().manual_seed(3))
    chosen = coreset(rows, share, torch.Generator().manual_seed(0))
    assert chosen.shape == (kept, 384)
    assert len({tuple(row.tolist()) for row in chosen}) == kept
    assert all(bool((rows == row).all(dim=1).any()) for row in chosen)


def test_a_coreset_reaches_every_cluster_before_it_takes_a_second_one_of_any():
    generator = torch.Generator().manual_seed(1)
    centres = 100 * torch.randn(5, 384, generator=generator)
    rows = (centres[:, None] + torch.randn(5, 30, 384, generator=generator)).flatten(0, 1)
    chosen = coreset(rows, 5 / 150, torch.Generator().manual_seed(2))
    assert torch.cdist(chosen, centres).argmin(dim=1).unique().numel() == 5


def test_the_map_is_the_distance_to_the_nearest_remembered_feature(teacher):
    bank = remember(teacher, [images(2, 1), images(1, 2)], torch.Generator().manual_seed(0), 0.2)
    assert bank.shape == (round(0.2 * 3 * 64), 384)
    found = memory_map(teacher, bank, images(2, 3))
    assert found.shape == (2, 1, 8, 8)
    one = local_features(teacher, images(2, 3))[1, :, 6, 2]
    torch.testing.assert_close(
        found[1, 0, 6, 2], (bank - one).square().sum(dim=1).sqrt().min(), rtol=1e-3, atol=1e-3
    )


def test_what_is_remembered_whole_is_not_anomalous(teacher):
    good = images(2, 5)
    bank = remember(teacher, [good], torch.Generator().manual_seed(0), share=1.0)
    assert memory_map(teacher, bank, good).max() < 0.05 < memory_map(teacher, bank, 3 * good).max()
