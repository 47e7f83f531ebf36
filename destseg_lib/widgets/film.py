"""Pictures and numbers as a film, one frame per step of a training or of another quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.widgets.element import Element, Values, fixed, packed, pictures


class TrainingFilm(Element):
    """Scrub through frames, such as features and anomaly maps of a training, side by side.

    Attributes:
        frame: the number of the frame shown, from 0.
    """

    _esm = script("film")
    frame = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(
        self,
        steps: Sequence[int],
        panels: Mapping[str, ArrayLike],
        columns: Mapping[str, Sequence[float]] | None = None,
        *,
        label: str = "Training film",
        handle: str = "Training step",
    ) -> None:
        """Take F steps, panels by name (F, H, W, 3) of uint8, and columns by name, F values each.

        A panel of a single picture, (1, H, W, 3), is the same in every frame and travels with the
        page once. A coarse panel, whose sides are the same fraction of the finest one's, is
        enlarged to the finest one's size. ``handle`` is the name of what the steps count.

        Raises:
            DeSTSegError: there are fewer than five frames, or lengths or sizes disagree.
        """
        given = {name: pictures(panel, f"frames of {name!r}") for name, panel in panels.items()}
        stacks = {
            name: np.repeat(stack, len(steps), axis=0) if len(stack) == 1 else stack
            for name, stack in given.items()
        }
        numbers = {name: [float(v) for v in column] for name, column in (columns or {}).items()}
        shapes = {stack.shape[1:3] for stack in stacks.values()}
        height, width = max(shapes)
        fits = all(height % h == width % w == 0 and height // h == width // w for h, w in shapes)
        lengths = {len(stack) for stack in stacks.values()} | {len(c) for c in numbers.values()}
        if not fits or lengths != {len(steps)} or len(steps) < 5:
            raise DeSTSegError(
                f"There are {len(steps)} steps, panels {sorted(shapes)} and columns of "
                f"{sorted(lengths)}; give five steps or more, and for each of them a frame in "
                "every panel, of one size or a whole fraction of it, and a value in every column."
            )
        bad = [name for name, column in numbers.items() if not np.isfinite(column).all()]
        if bad or {"step", "brightness"} & set(numbers):
            raise DeSTSegError(
                f"The columns {sorted(numbers)} must be finite and none of them called step or "
                "brightness, which the film always shows."
            )
        self._steps, self._stacks, self._columns = [int(s) for s in steps], stacks, numbers
        data = {
            "label": label,
            "handle": handle,
            "hint": "Drag the handle, or press Play.",
            "height": height,
            "width": width,
            "steps": self._steps,
            "panels": list(stacks),
            "sizes": [stack.shape[1:3] for stack in stacks.values()],
            "frames": [
                [None if n and len(given[p]) == 1 else packed(stacks[p][n]) for p in stacks]
                for n in range(len(steps))
            ],
            "figures": numbers,
        }
        last = len(steps) - 1
        super().__init__(data, [(round(last * share / 4),) for share in (4, 0, 2, 1, 3)])

    def displayed(self, frame: Any) -> Values:
        """The values shown at a frame, as text."""
        brightness = float(list(self._stacks.values())[-1][frame].astype(np.float64).mean())
        numbers = {name: fixed(column[frame], 3) for name, column in self._columns.items()}
        return {"step": str(self._steps[frame]), **numbers, "brightness": fixed(brightness, 1)}
