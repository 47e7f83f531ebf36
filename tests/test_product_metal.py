"""Brushed metal: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest

from destseg_lib.drawn.metal import CATEGORY
from destseg_lib.drawn.photograph import photograph, photograph_defect

SEEDS = range(6)


def test_a_seed_decides_the_sheet() -> None:
    first = photograph(CATEGORY, 64, (3, 1))
    np.testing.assert_array_equal(first, photograph(CATEGORY, 64, (3, 1)))
    assert np.abs(first.astype(int) - photograph(CATEGORY, 64, (3, 2))).mean() > 3


def test_the_same_seed_is_the_same_sheet_at_another_size() -> None:
    for seed in SEEDS:
        large = photograph(CATEGORY, 192, (4, seed)).astype(float)
        small = photograph(CATEGORY, 96, (4, seed)).astype(float)
        halved = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_a_defect_is_small_and_changes_only_its_mask(defect: str) -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, defect, 128, (5, seed))
        assert 0 < shot.mask.mean() < 0.25
        changed = (shot.image != shot.twin).any(axis=2)
        assert not (changed & ~shot.mask).any()
        assert changed[shot.mask].mean() > 0.5


def test_good_sheets_are_streaked_along_the_rows() -> None:
    for seed in SEEDS:
        grey = photograph(CATEGORY, 128, (6, seed)).astype(float).mean(axis=2)
        down, along = np.diff(grey, axis=0).std(), np.diff(grey, axis=1).std()
        assert down > 1.2 * along


def test_a_fingerprint_dims_the_brushing() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "finger", 128, (7, seed))
        assert shot.image[shot.mask].mean() < shot.twin[shot.mask].mean() - 5


def test_rust_is_browner_than_the_sheet() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "rust", 128, (8, seed))
        red, _, blue = (shot.image[shot.mask].astype(float) - shot.twin[shot.mask]).mean(axis=0)
        assert red > blue + 15


def test_a_scratch_has_a_light_flank_and_a_dark_one() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "scratch", 128, (9, seed))
        change = shot.image[shot.mask].astype(float).mean(axis=1) - shot.twin[shot.mask].mean(
            axis=1
        )
        assert change.max() > 10
        assert change.min() < -10


def test_a_scratch_crosses_the_brushing() -> None:
    for seed in SEEDS:
        rows, _ = np.nonzero(photograph_defect(CATEGORY, "scratch", 128, (10, seed)).mask)
        assert np.ptp(rows) >= 5
