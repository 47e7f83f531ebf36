"""The method as one picture, in SVG: its parts, what leads where, and who learns when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np

Phase = Literal["student", "segmentation", "test"]
PHASES: dict[Phase, str] = {
    "student": "Phase 1: the student learns",
    "segmentation": "Phase 2: the segmentation network learns",
    "test": "Test: a new photograph",
}
WIDTH, HEIGHT = 960, 290  # of the picture, in its own units
BOX = (172, 112)


@dataclass(frozen=True)
class Part:
    """A box of the picture.

    Attributes:
        label: one or two lines.
        place: column and row.
        symbol: how formulas call what it gives.
        chapter: the file that builds it.
        says: what happens in it, by phase; a phase that is missing does not use it.
        states: what is said of its weights, by phase; empty if it has none.
    """

    label: tuple[str, ...]
    place: tuple[float, float]
    symbol: str
    chapter: str
    says: Mapping[Phase, str]
    states: Mapping[Phase, str]


FROZEN: dict[Phase, str] = dict.fromkeys(PHASES, "frozen")
GOOD = "A good photograph. The networks never learn from another."
FEATURES = (
    "The features of both networks, each vector of length 1, multiplied channel by channel: "
    "448 maps that say where the two agree."
)
PARTS: dict[str, Part] = {
    "photograph": Part(
        ("photograph",), (0, 0), "I", "01_never_seen",
        {"student": GOOD, "segmentation": GOOD, "test": "A photograph that nobody has judged yet."},
        {},
    ),
    "corruption": Part(
        ("corruption",), (0, 1), "Iₐ, mask M", "05_synthetic_anomalies",
        dict.fromkeys(
            ("student", "segmentation"),
            "Noise says where a texture is laid over the photograph; the mask M keeps the place.",
        ),
        {},
    ),
    "teacher": Part(
        ("teacher",), (1, 0), "T₁, T₂, T₃", "03_teacher",
        {
            "student": "It sees the clean photograph and describes every place, at three levels.",
            "segmentation": "It sees the corrupted photograph and describes the damage.",
            "test": "It sees the photograph and describes what is there, a defect included.",
        },
        FROZEN,
    ),
    "student": Part(
        ("student",), (1, 1), "S₁, S₂, S₃", "06_denoising_student",
        {
            "student": "It sees the corrupted photograph and learns to give the teacher's features "
            "of the clean one.",
            "segmentation": "It sees the corrupted photograph and describes it without damage.",
            "test": "It sees the same photograph and describes it as if nothing were wrong.",
        },
        {**FROZEN, "student": "learns"},
    ),
    "distances": Part(
        ("cosine", "distances"), (2, 0), "D₁, D₂, D₃", "04_student_teacher",
        {
            "student": "How far the student is from the teacher at each place. The means of the "
            "three maps, added up, are the loss of this phase.",
            "test": "One minus the cosine between the two networks' features, at each place.",
        },
        {},
    ),
    "features": Part(
        ("feature", "products"), (2, 1), "X₁, X₂, X₃", "07_fusion",
        {"segmentation": FEATURES, "test": FEATURES},
        {},
    ),
    "product": Part(
        ("distance", "product"), (3, 0), "D", "07_fusion",
        {"test": "The three distances multiplied: a map that no mask was needed for."},
        {},
    ),
    "segmentation": Part(
        ("segmentation", "network"), (3, 1), "Ŷ", "07b_network",
        {
            "segmentation": "It learns to draw the mask M from the feature products, with a focal "
            "loss and an L1 loss.",
            "test": "It reads the feature products and gives the final map: 0 to 1 for each place.",
        },
        {**FROZEN, "segmentation": "learns"},
    ),
    "score": Part(
        ("score and", "threshold"), (4, 0.5), "", "02_measuring",
        {
            "test": "The mean of the final map's 100 largest values. A threshold from good "
            "photographs decides.",
        },
        {},
    ),
}  # fmt: skip
BOTH: tuple[Phase, ...] = ("student", "segmentation")
LATE: tuple[Phase, ...] = ("segmentation", "test")
# What leads where, and when.
ARROWS: tuple[tuple[str, str, tuple[Phase, ...]], ...] = (
    ("photograph", "teacher", ("student", "test")),
    ("photograph", "student", ("test",)),
    ("photograph", "corruption", BOTH),
    ("corruption", "student", BOTH),
    ("corruption", "teacher", ("segmentation",)),
    ("teacher", "distances", ("student", "test")),
    ("student", "distances", ("student", "test")),
    ("teacher", "features", LATE),
    ("student", "features", LATE),
    ("distances", "product", ("test",)),
    ("features", "segmentation", LATE),
    ("segmentation", "score", ("test",)),
)


def method_picture(
    here: Sequence[str] = (),
    *,
    address: str | None = None,
    phase: Phase | None = None,
    label: str = "The method",
) -> str:
    """The picture of the method, as SVG.

    Args:
        here: names of the parts to mark.
        address: where a part leads to, with ``{chapter}`` for the name of the chapter's file; None
            makes the parts buttons.
        phase: parts and arrows that it does not use are faint; None shows all alike.
        label: the picture's name for a screen reader.
    """
    lines = [_arrow(*arrow, phase) for arrow in ARROWS]
    boxes = [_box(name, part, name in here, address, phase) for name, part in PARTS.items()]
    head = (
        '<defs><marker id="destseg-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
    )
    return (
        f'<svg class="destseg-method" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{escape(label)}">{head}{"".join(lines + boxes)}</svg>'
    )


def _corner(name: str) -> tuple[float, float]:
    column, row = PARTS[name].place
    return 4 + column * 195, 16 + row * 150


def _arrow(start: str, end: str, phases: tuple[Phase, ...], phase: Phase | None) -> str:
    (x0, y0), (x1, y1) = _corner(start), _corner(end)
    width, height = BOX
    if x0 == x1:
        points = (x0 + width / 2, y0 + height, x1 + width / 2, y1)
    else:
        # Crossing lines leave and enter apart, so that each can be followed.
        lean = 22 * np.sign(y1 - y0)
        points = (x0 + width, y0 + height / 2 + lean, x1, y1 + height / 2 - lean)
    faint = " faint" if phase and phase not in phases else ""
    path = "M{:g} {:g}L{:g} {:g}".format(*points)
    return f'<path class="flow{faint}" d="{path}" marker-end="url(#destseg-head)"/>'


def _box(name: str, part: Part, here: bool, address: str | None, phase: Phase | None) -> str:
    x, y = _corner(name)
    width, height = BOX
    text = "".join(
        f'<text x="{x + width / 2:g}" y="{y + 36 + 28 * n + 14 * (len(part.label) < 2):g}">'
        f"{escape(line)}</text>"
        for n, line in enumerate(part.label)
    )
    below = part.symbol
    if phase and part.states:
        below = part.states[phase] if phase in part.says else "waits"
    text += f'<text class="below" x="{x + width / 2:g}" y="{y + 96:g}">{escape(below)}</text>'
    rect = f'<rect x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="10"/>'
    marks = ["part"] + ["here"] * here + ["faint"] * bool(phase and phase not in part.says)
    learns = phase is not None and part.states.get(phase) == "learns"
    classes = " ".join(marks + ["learns"] * learns)
    if address is None:
        return (
            f'<g class="{classes}" data-part="{name}" role="button" tabindex="0" '
            f'aria-pressed="{str(here).lower()}">{rect}{text}</g>'
        )
    current = ' aria-current="page"' if here else ""
    to = escape(address.format(chapter=part.chapter))
    return f'<a class="{classes}" href="{to}"{current}>{rect}{text}</a>'
