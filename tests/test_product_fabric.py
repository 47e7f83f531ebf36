"""Fabric: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from destseg_lib.drawn.fabric import CATEGORY
from destseg_lib.drawn.photograph import DefectivePhotograph, photograph, photograph_defect

SEEDS = range(6)


def extent(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def blueness(image: np.ndarray) -> np.ndarray:
    return image[..., 2].astype(float) - image[..., 0]


def test_a_seed_decides_the_cloth() -> None:
    first = photograph(CATEGORY, 64, (3, 1))
    np.testing.assert_array_equal(first, photograph(CATEGORY, 64, (3, 1)))
    assert np.abs(first.astype(int) - photograph(CATEGORY, 64, (3, 2))).mean() > 8


def test_a_small_picture_shows_the_same_yarns_as_a_large_one() -> None:
    for seed in SEEDS:
        scenes = (np.random.default_rng(seed) for _ in range(2))
        fault = np.random.default_rng(0)
        large, small = (
            CATEGORY.draw(s, g, None, fault) for s, g in zip((192, 96), scenes, strict=True)
        )
        halved = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.9


def test_a_third_of_the_crossings_show_the_natural_weft() -> None:
    for seed in SEEDS:
        picture = CATEGORY.draw(128, np.random.default_rng(seed), None, np.random.default_rng(0))
        assert 0.2 < (picture[..., 0] > 0.8 * picture[..., 2]).mean() < 0.45


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_a_defect_is_small_and_changes_only_its_mask(defect: str) -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, defect, 128, (5, seed))
        assert 0 < shot.mask.mean() < 0.25
        changed = (shot.image != shot.twin).any(axis=2)
        assert not (changed & ~shot.mask).any()
        assert changed[shot.mask].mean() > 0.5


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_a_mask_is_in_one_place(defect: str) -> None:
    for seed in SEEDS:
        mask = photograph_defect(CATEGORY, defect, 128, (6, seed)).mask
        joined = ndimage.binary_dilation(mask, iterations=6)
        assert ndimage.label(joined)[1] == 1


@pytest.mark.parametrize("defect", ["broken_yarn", "miswoven"])
def test_what_happens_to_a_yarn_follows_it(defect: str) -> None:
    elongations = []
    for seed in range(8):
        sides = extent(photograph_defect(CATEGORY, defect, 128, (7, seed)).mask)
        elongations.append(max(sides) / min(sides))
    assert np.median(elongations) > 2


def test_through_a_hole_one_sees_the_dark_table() -> None:
    for seed in SEEDS:
        shot = photograph_defect(CATEGORY, "hole", 128, (8, seed))
        inside, before = (np.percentile(p[shot.mask], 20) for p in (shot.image, shot.twin))
        assert inside < before - 15


def test_some_floats_are_of_the_blue_warp_and_some_of_the_natural_weft() -> None:
    shown = []
    for seed in range(8):
        shot = photograph_defect(CATEGORY, "miswoven", 128, (9, seed))
        shown.append(blueness(shot.image)[shot.mask].mean() - blueness(shot.twin)[shot.mask].mean())
    assert max(shown) > 5
    assert min(shown) < -5


def test_a_stain_darkens_but_leaves_the_weave() -> None:
    def kept(shot: DefectivePhotograph) -> float:
        grey = [p.mean(axis=2)[shot.mask] for p in (shot.image, shot.twin)]
        assert grey[0].mean() < grey[1].mean() - 5
        return float(np.corrcoef(*grey)[0, 1])

    assert min(kept(photograph_defect(CATEGORY, "stain", 128, (10, s))) for s in SEEDS) > 0.7
