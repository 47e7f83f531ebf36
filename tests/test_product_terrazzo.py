"""Terrazzo: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from destseg_lib.drawn.photograph import photograph, photograph_defect
from destseg_lib.drawn.terrazzo import CATEGORY

SEEDS = range(6)


def test_a_seed_decides_the_slab() -> None:
    first = photograph(CATEGORY, 64, (3, 1))
    np.testing.assert_array_equal(first, photograph(CATEGORY, 64, (3, 1)))
    assert np.abs(first.astype(int) - photograph(CATEGORY, 64, (3, 2))).mean() > 10


def test_the_same_seed_lays_the_same_chips_at_another_size() -> None:
    for seed in SEEDS:
        large = photograph(CATEGORY, 192, (4, seed)).astype(float)
        small = photograph(CATEGORY, 96, (4, seed)).astype(float)
        halved = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_a_defect_is_small_and_changes_only_its_mask(defect: str) -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, defect, 128, (5, seed))
        assert 0 < shot.mask.mean() < 0.25
        changed = (shot.image != shot.twin).any(axis=2)
        assert not (changed & ~shot.mask).any()
        assert changed[shot.mask].mean() > 0.5


@pytest.mark.parametrize("defect", ["hole", "foreign_chip"])
def test_what_happens_to_one_chip_has_one_compact_mask(defect: str) -> None:
    for seed in SEEDS:
        mask = photograph_defect(CATEGORY, defect, 128, (6, seed)).mask
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        rows, columns = np.nonzero(mask)
        assert mask.sum() > 0.35 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_a_foreign_chip_is_more_colourful_than_what_lay_there() -> None:
    gains = []
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "foreign_chip", 128, (7, seed))
        colour, was = (np.ptp(p[shot.mask].astype(float), axis=1) for p in (shot.image, shot.twin))
        gains.append(colour.mean() - was.mean())
    assert np.median(gains) > 15


def test_a_hole_lies_half_in_shade() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "hole", 192, (8, seed))
        inside = shot.image[shot.mask].mean(axis=1)
        shaded, lit = np.percentile(inside, (10, 90))
        assert shaded < 0.6 * np.median(shot.twin)
        assert lit > shaded + 30


def test_a_stain_darkens_and_a_scratch_lightens() -> None:
    for seed in SEEDS:
        stain = photograph_defect(CATEGORY, "stain", 128, (9, seed))
        assert stain.image[stain.mask].mean() < stain.twin[stain.mask].mean() - 5
        scratch = photograph_defect(CATEGORY, "scratch", 128, (9, seed))
        assert scratch.image[scratch.mask].mean() > scratch.twin[scratch.mask].mean() + 5


def test_a_crack_is_a_thin_dark_line() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "crack", 128, (10, seed))
        inside = ndimage.distance_transform_edt(np.pad(shot.mask, 1))
        assert inside.max() <= 5
        assert shot.image[shot.mask].mean() < shot.twin[shot.mask].mean()
