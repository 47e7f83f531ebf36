"""The examples in the public docstrings give what they say."""

from __future__ import annotations

import doctest

import pytest

from destseg_lib import DeSTSeg, load_teacher
from destseg_lib.corruption import corrupt
from destseg_lib.drawn.dataset import draw_category
from destseg_lib.metrics import anomaly_metrics

SHOWN = (DeSTSeg, anomaly_metrics, corrupt, draw_category, load_teacher)


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
def test_the_example_is_right(shown):
    (found,) = doctest.DocTestFinder(recurse=False).find(shown)
    assert found.examples
    assert doctest.DocTestRunner().run(found).failed == 0
