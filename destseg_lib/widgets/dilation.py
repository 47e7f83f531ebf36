"""The nine taps of a dilated convolution on a map, and how many of them lie outside it."""

from __future__ import annotations

from typing import Any

import traitlets

from destseg_lib.evaluation.browser import script
from destseg_lib.widgets.element import Element, Values, fixed

SIDES = ("8", "16", "32", "64")
MOST = 24


class DilatedTaps(Element):
    """Choose a dilation and a place; see which of the nine taps are inside the map.

    Attributes:
        dilation: places between neighbouring taps, 1 to 24.
        side: of the map, in places.
        across: the place of the middle tap from left to right, in per cent of the side.
        down: the same from top to bottom.
    """

    _esm = script("dilation")
    dilation = traitlets.Int(12, min=1, max=MOST).tag(sync=True)
    side = traitlets.Enum(SIDES, "64").tag(sync=True)
    across = traitlets.Int(10, min=0, max=100).tag(sync=True)
    down = traitlets.Int(50, min=0, max=100).tag(sync=True)

    def __init__(self) -> None:
        """Take nothing: every map of one side is the same."""
        data = {
            "label": "Dilated taps",
            "hint": "Point at a place of the map. Orange taps see it; crossed ones are outside.",
            "sides": list(SIDES),
            "most": MOST,
        }
        trials = [(6, "64", 50, 50), (18, "64", 50, 50), (18, "32", 50, 50), (1, "8", 0, 0)]
        super().__init__(data, [*trials, (12, "32", 10, 60)])

    def displayed(self, dilation: Any, side: Any, across: Any, down: Any) -> Values:
        """The values shown for a setting, as text."""
        size = int(side)
        middle = [min(size * part // 100, size - 1) for part in (down, across)]
        inside = [sum(0 <= at + step * dilation < size for step in (-1, 0, 1)) for at in middle]
        whole = max(size - 2 * dilation, 0) ** 2 / size**2
        return {
            "span": f"{2 * dilation + 1} places",
            "inside": f"{inside[0] * inside[1]} of 9",
            "whole": f"{fixed(100 * whole, 1)} %",
        }
