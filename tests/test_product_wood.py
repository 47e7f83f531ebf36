"""Wood: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from destseg_lib.drawn.photograph import photograph, photograph_defect
from destseg_lib.drawn.wood import CATEGORY

SEEDS = range(6)


def test_a_seed_decides_the_board() -> None:
    first = photograph(CATEGORY, 64, (3, 1))
    np.testing.assert_array_equal(first, photograph(CATEGORY, 64, (3, 1)))
    assert np.abs(first.astype(int) - photograph(CATEGORY, 64, (3, 2))).mean() > 5


def test_the_same_seed_grows_the_same_rings_at_another_size() -> None:
    for seed in SEEDS:
        scenes = (np.random.default_rng(seed) for _ in range(2))
        fault = np.random.default_rng(0)
        large, small = (
            CATEGORY.draw(s, g, None, fault) for s, g in zip((192, 96), scenes, strict=True)
        )
        halved = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        blurred = (ndimage.gaussian_filter(p, (1, 1, 0)) for p in (halved, small))
        assert np.corrcoef(*(p.ravel() for p in blurred))[0, 1] > 0.9


def test_the_grain_runs_down_the_board() -> None:
    for seed in SEEDS:
        picture = CATEGORY.draw(128, np.random.default_rng(seed), None, np.random.default_rng(0))
        grey = picture.mean(axis=2)
        assert np.abs(np.diff(grey, axis=1)).mean() > 1.3 * np.abs(np.diff(grey, axis=0)).mean()


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_a_defect_is_small_and_changes_only_its_mask(defect: str) -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, defect, 128, (5, seed))
        assert 0 < shot.mask.mean() < 0.25
        changed = (shot.image != shot.twin).any(axis=2)
        assert not (changed & ~shot.mask).any()
        assert changed[shot.mask].mean() > 0.5


def test_a_crack_is_dark_thin_and_runs_with_the_grain() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "crack", 128, (6, seed))
        rows, columns = np.nonzero(shot.mask)
        assert np.ptp(rows) > 1.5 * np.ptp(columns)
        assert ndimage.distance_transform_edt(np.pad(shot.mask, 1)).max() <= 4
        assert shot.image[shot.mask].mean() < shot.twin[shot.mask].mean() - 5


def test_a_hole_is_dark_inside() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "hole", 128, (7, seed))
        assert np.percentile(shot.image[shot.mask], 10) < 0.6 * shot.twin[shot.mask].mean()


def test_a_dent_shows_by_light_and_shadow_only() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "dent", 128, (8, seed))
        dented, flat = (p[shot.mask].astype(float) ** 2 for p in (shot.image, shot.twin))
        # In linear light the colour, which is the ratio of the channels, stays what it was.
        ratios = [(p[:, 2] / p[:, 0].clip(1)).mean() for p in (dented, flat)]
        assert ratios[0] == pytest.approx(ratios[1], rel=0.1)
        assert (dented.sum(axis=1) < 0.95 * flat.sum(axis=1)).mean() > 0.2


def test_a_scratch_catches_the_light_and_a_stain_darkens() -> None:
    for seed in SEEDS:
        scratch = photograph_defect(CATEGORY, "scratch", 128, (9, seed))
        lighter = scratch.image[scratch.mask].max(axis=1) > scratch.twin[scratch.mask].max(axis=1)
        assert lighter.mean() > 0.3
        stain = photograph_defect(CATEGORY, "stain", 128, (9, seed))
        assert stain.image[stain.mask].mean() < stain.twin[stain.mask].mean() - 5


def test_a_stain_spreads_further_along_the_grain() -> None:
    reach = []
    for seed in range(10):
        rows, columns = np.nonzero(photograph_defect(CATEGORY, "stain", 64, (10, seed)).mask)
        reach.append(np.ptp(rows) / np.ptp(columns))
    assert np.median(reach) > 1.15
