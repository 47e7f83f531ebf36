"""The socket: its defects are small and lie where the part has a contact, a wall or a face."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from destseg_lib.drawn import connector
from destseg_lib.drawn.photograph import photograph, photograph_defect

CATEGORY = connector.CATEGORY
SIZE = 128


def test_a_seed_decides_the_photograph() -> None:
    assert np.array_equal(photograph(CATEGORY, SIZE, (3,)), photograph(CATEGORY, SIZE, (3,)))
    assert not np.array_equal(photograph(CATEGORY, SIZE, (3,)), photograph(CATEGORY, SIZE, (4,)))


@pytest.mark.parametrize("defect", CATEGORY.defects)
def test_the_mask_is_where_the_defect_differs_from_its_twin(defect: str) -> None:
    for seed in range(6):
        bad = photograph_defect(CATEGORY, defect, SIZE, (1, seed))
        differs = (bad.image != bad.twin).any(axis=2)
        assert not differs[~bad.mask].any()
        assert differs[bad.mask].mean() > 0.5
        assert 0 < bad.mask.mean() < 0.05
        assert np.array_equal(bad.twin, photograph(CATEGORY, SIZE, (1, seed)))


def test_a_missing_pin_leaves_a_dark_hole() -> None:
    for seed in range(6):
        bad = photograph_defect(CATEGORY, "missing_pin", SIZE, (2, seed))
        assert ndimage.label(bad.mask, np.ones((3, 3)))[1] == 1
        assert bad.image[bad.mask].mean() < 0.75 * bad.twin[bad.mask].mean()


def test_a_bent_pin_moves_its_light_and_keeps_to_its_cavity() -> None:
    for seed in range(6):
        bad = photograph_defect(CATEGORY, "bent_pin", SIZE, (2, seed))
        rows, columns = np.nonzero(bad.mask)
        cavity = connector.PITCH * SIZE
        assert max(np.ptp(rows), np.ptp(columns)) < cavity
        brighter = bad.image.astype(int).sum(axis=2) > bad.twin.astype(int).sum(axis=2) + 60
        darker = bad.image.astype(int).sum(axis=2) < bad.twin.astype(int).sum(axis=2) - 60
        assert brighter.any()
        assert darker.any()


def test_a_short_reaches_from_one_contact_to_the_next() -> None:
    for seed in range(6):
        mask = photograph_defect(CATEGORY, "short", SIZE, (2, seed)).mask
        regions, _ = ndimage.label(mask, np.ones((3, 3)))
        extents = [
            max(part.stop - part.start for part in where) for where in ndimage.find_objects(regions)
        ]
        assert max(extents) > 0.8 * connector.PITCH * SIZE


def test_size_changes_the_sharpness_and_not_the_scene() -> None:
    small = photograph(CATEGORY, 64, (6,)).astype(np.float32)
    large = photograph(CATEGORY, 192, (6,)).astype(np.float32)
    shrunk = large.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    other = photograph(CATEGORY, 64, (7,)).astype(np.float32)
    assert np.abs(small - shrunk).mean() < 0.6 * np.abs(small - other).mean()
