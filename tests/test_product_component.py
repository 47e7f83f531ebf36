"""The mounted transistor: only where its parts are tells a misplaced one from a good one."""

from __future__ import annotations

import numpy as np
import pytest

from destseg_lib.drawn import component
from destseg_lib.drawn.photograph import photograph, photograph_defect
from destseg_lib.drawn.surface import Frame

CATEGORY = component.CATEGORY
SIZE = 128


def _mask_at(mask: np.ndarray, places: tuple[tuple[float, float], ...]) -> list[bool]:
    """Whether the mask reaches within a third of a pitch of each place of the part (in pitches)."""
    frame = Frame(0.0, (0.0, 0.0), component.PITCH)
    y, x = np.indices(mask.shape) / SIZE + 0.5 / SIZE - 0.5
    near = [np.hypot(y - p, x - q) < component.PITCH / 3 for p, q in map(frame.seen, places)]
    return [bool(mask[there].any()) for there in near]


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
        assert 0 < bad.mask.mean() < (0.4 if defect == "misplaced" else 0.05)
        assert np.array_equal(bad.twin, photograph(CATEGORY, SIZE, (1, seed)))


def test_every_wrong_hole_is_a_hole_that_no_leg_belongs_in() -> None:
    for wrong in component.WRONG_HOLES:
        for hole in wrong:
            assert hole not in component.HOLES
            assert all(float(place).is_integer() for place in hole)


def test_a_misplaced_leg_is_marked_at_its_hole_and_at_the_one_it_entered() -> None:
    for seed in range(8):
        mask = photograph_defect(CATEGORY, "misplaced_leg", SIZE, (2, seed)).mask
        entered = [any(_mask_at(mask, wrong)) for wrong in component.WRONG_HOLES]
        assert any(entered)
        assert sum(_mask_at(mask, component.HOLES)) == 1
        body = ((component.BODY_MIDDLE, -1.0), (component.BODY_MIDDLE, 1.0))
        assert not any(_mask_at(mask, body))


def test_a_misplaced_part_is_marked_where_it_is_and_where_it_should_be() -> None:
    for seed in range(8):
        mask = photograph_defect(CATEGORY, "misplaced", SIZE, (2, seed)).mask
        # Its own holes are empty now, and it lies on board that the twin shows bare.
        assert sum(_mask_at(mask, component.HOLES)) >= 2
        y, x = np.indices(mask.shape) / SIZE - 0.5
        half = component.PITCH * (component.HALF_WIDTH + 0.6)
        top = component.PITCH * (component.TAB_TOP - 0.5)
        outside_the_body = (np.abs(x) > half) | (y < top) | (y > component.PITCH)
        assert (mask & outside_the_body).mean() > 0.005


def test_a_missing_leg_is_marked_from_body_to_hole() -> None:
    for seed in range(6):
        mask = photograph_defect(CATEGORY, "missing_leg", SIZE, (2, seed)).mask
        assert sum(_mask_at(mask, component.HOLES)) == 1


def test_an_empty_hole_looks_like_any_other() -> None:
    """Holes are alike: the board repeats itself from pitch to pitch but for noise."""
    image = photograph(CATEGORY, 252, (5,)).astype(np.float32)
    pitch = 28
    strip = image[:, :60].mean(axis=2)
    same = np.abs(strip[pitch:] - strip[:-pitch]).mean()
    half = np.abs(strip[pitch // 2 :] - strip[: -(pitch // 2)]).mean()
    assert same < 0.5 * half
