"""The nut: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest

from destseg_lib.drawn.nut import CATEGORY
from destseg_lib.drawn.photograph import photograph, photograph_defect


def bright_share(image: np.ndarray) -> float:
    return float((image.mean(axis=2) > 150).mean())


def test_it_lies_any_way_round_but_is_always_whole():
    """The bright face covers about the same share of the picture however the nut is turned."""
    shares = [bright_share(photograph(CATEGORY, 96, (n,))) for n in range(8)]
    assert min(shares) > 0.05
    assert max(shares) / min(shares) < 2.5


def test_a_blocked_bore_is_marked_inside_the_bore():
    for n in range(5):
        mask = photograph_defect(CATEGORY, "blocked_bore", 128, (n, 1)).mask
        rows, columns = np.nonzero(mask)
        middle = np.array([rows.mean(), columns.mean()]) / 128 - 0.5
        assert np.hypot(*middle) < 0.2
        assert mask.mean() < 0.06


@pytest.mark.parametrize("defect", ["broken_corner", "pressed_side"])
def test_what_is_gone_shows_the_paper_or_its_shadow(defect):
    darker = 0
    for n in range(6):
        drawn = photograph_defect(CATEGORY, defect, 128, (n, 2))
        before, after = (i[drawn.mask].mean() for i in (drawn.twin, drawn.image))
        darker += after < before
    assert darker >= 4


def test_rust_is_brown():
    for n in range(4):
        drawn = photograph_defect(CATEGORY, "rust", 128, (n, 3))
        red, _, blue = drawn.image[drawn.mask].mean(axis=0)
        red_before, _, blue_before = drawn.twin[drawn.mask].mean(axis=0)
        assert red - blue > red_before - blue_before + 5
