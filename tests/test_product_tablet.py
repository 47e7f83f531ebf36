"""The tablet: what is particular to it."""

from __future__ import annotations

import numpy as np
import pytest

from destseg_lib.drawn.photograph import photograph_defect
from destseg_lib.drawn.tablet import CATEGORY, CODE, OTHERS


def test_every_character_can_be_mistaken_for_others():
    for character in "".join(CODE):
        assert OTHERS[character]
        assert character not in OTHERS[character]


@pytest.mark.parametrize("defect", ["wrong_print", "missing_print"])
def test_a_fault_of_print_lies_on_the_face_and_not_at_the_rim(defect):
    for n in range(5):
        rows, columns = np.nonzero(photograph_defect(CATEGORY, defect, 128, (n, 1)).mask)
        far = np.hypot(rows / 128 - 0.5, columns / 128 - 0.5)
        assert far.max() < 0.33


def test_missing_print_takes_ink_away_and_wrong_print_puts_some_elsewhere():
    for n in range(4):
        missing = photograph_defect(CATEGORY, "missing_print", 128, (n, 2))
        change = missing.image.astype(int).sum(2) - missing.twin.astype(int).sum(2)
        assert change[missing.mask].mean() > 0
        wrong = photograph_defect(CATEGORY, "wrong_print", 128, (n, 2))
        change = wrong.image.astype(int).sum(2) - wrong.twin.astype(int).sum(2)
        assert change[wrong.mask].min() < -30
        assert change[wrong.mask].max() > 30


def test_a_chip_lies_at_the_rim():
    for n in range(5):
        rows, columns = np.nonzero(photograph_defect(CATEGORY, "chipped_edge", 128, (n, 3)).mask)
        far = np.hypot(rows / 128 - 0.5, columns / 128 - 0.5)
        assert far.max() > 0.28
