"""Training as a film: pictures and figures of chosen steps, scrubbed or played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

from destseg_lib.errors import DeSTSegError
from destseg_lib.widgets.element import (
    Setting,
    Values,
    fixed,
    packed,
    pictures,
    script,
    style,
)


class TrainingFilm(anywidget.AnyWidget):
    """Scrub through training: features of student and teacher and the anomaly map, side by side.

    Attributes:
        frame: the number of the frame shown, from 0.
    """

    _esm = script("film")
    _css = style()
    data = traitlets.Dict().tag(sync=True)
    checks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    frame = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(
        self,
        steps: Sequence[int],
        panels: Mapping[str, ArrayLike],
        figures: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Take F steps, panels by name (F, H, W, 3) of uint8, and figures by name, F values each.

        A panel of a single picture, (1, H, W, 3), stands still, and travels with the page once. A
        coarse panel, whose sides are the same fraction of the finest one's, is shown as large.

        Raises:
            DeSTSegError: there are fewer than five frames, or lengths or sizes disagree.
        """
        stacks = {name: pictures(panel, f"frames of {name!r}") for name, panel in panels.items()}
        stills = [len(stack) == 1 for stack in stacks.values()]
        stacks = {
            name: np.repeat(stack, len(steps), axis=0) if len(stack) == 1 else stack
            for name, stack in stacks.items()
        }
        columns = {name: [float(v) for v in column] for name, column in (figures or {}).items()}
        shapes = {stack.shape[1:3] for stack in stacks.values()}
        height, width = max(shapes)
        fits = all(height % h == width % w == 0 and height // h == width // w for h, w in shapes)
        lengths = {len(stack) for stack in stacks.values()} | {len(c) for c in columns.values()}
        if not fits or lengths != {len(steps)} or len(steps) < 5:
            raise DeSTSegError(
                f"There are {len(steps)} steps, panels {sorted(shapes)} and columns of "
                f"{sorted(lengths)}; give five steps or more, and for each of them a frame in "
                "every panel, of one size or a whole fraction of it, and a value in every column."
            )
        bad = [name for name, column in columns.items() if not np.isfinite(column).all()]
        if bad or {"step", "brightness"} & set(columns):
            raise DeSTSegError(
                f"The columns {sorted(columns)} must be finite and none of them called step or "
                "brightness, which the film shows of itself."
            )
        self._steps, self._stacks, self._figures = [int(s) for s in steps], stacks, columns
        super().__init__()
        self.data = {
            "label": "Training film",
            "hint": "Drag through the steps, or play them.",
            "height": height,
            "width": width,
            "steps": self._steps,
            "panels": list(stacks),
            "sizes": [stack.shape[1:3] for stack in stacks.values()],
            "frames": [
                [
                    None if still and n else packed(stack[n])
                    for still, stack in zip(stills, stacks.values(), strict=True)
                ]
                for n in range(len(steps))
            ],
            "figures": columns,
        }
        last = len(steps) - 1
        trials: list[Setting] = [{"frame": round(last * share / 4)} for share in (4, 0, 2, 1, 3)]
        self.checks = [{"settings": t, "values": self.displayed(**t)} for t in trials]

    def displayed(self, frame: Any) -> Values:
        """What the element shows at a frame, as text."""
        brightness = float(list(self._stacks.values())[-1][frame].astype(np.float64).mean())
        figures = {name: fixed(column[frame], 3) for name, column in self._figures.items()}
        return {"step": str(self._steps[frame]), **figures, "brightness": fixed(brightness, 1)}
