"""Two vectors of one place, the teacher's and the student's, and how far apart they are."""

from __future__ import annotations

import math
from typing import Any

import traitlets

from destseg_lib.evaluation.browser import script
from destseg_lib.widgets.element import Element, Values, fixed

LONGEST = 20  # tenths of the teacher's length


class TwoVectors(Element):
    """Drag the student's vector; the cosine distance follows its angle, not its length.

    Attributes:
        angle: between the two, in degrees, 0 to 180.
        length: of the student's vector, in tenths of the teacher's, 1 to 20.
    """

    _esm = script("vectors")
    angle = traitlets.Int(40, min=0, max=180).tag(sync=True)
    length = traitlets.Int(12, min=1, max=LONGEST).tag(sync=True)

    def __init__(self) -> None:
        """Take nothing: there are two vectors in a plane."""
        data = {
            "label": "Two vectors",
            "hint": "Drag the tip of the student's vector: along itself, then around.",
            "longest": LONGEST,
        }
        super().__init__(data, [(0, 10), (0, 20), (60, 10), (90, 5), (180, 10), (35, 16)])

    def displayed(self, angle: Any, length: Any) -> Values:
        """The values shown for an angle and a length, as text."""
        cosine, long = math.cos(math.radians(angle)), length / 10
        plain = long * long + 1 - 2 * long * cosine
        return {
            "cosine": fixed(1 - cosine, 3),
            "plain": fixed(plain, 3),
            "normalised": fixed(2 - 2 * cosine, 3),
        }
