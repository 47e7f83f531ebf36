"""A study of six runs of a few steps, for the tests of both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 2,
    "model.width": 0.0625,
    "model.segmentation_width": 0.0625,
    "student.steps": 2,
    "segmentation.steps": 2,
    "precision": "fp32",
}
TABLE = """
name = "small"
reference = "whole"
categories = ["{category}"]
seeds = [0, 1]
about = "Is the test's own."

[settings]
{settings}

[variants.whole]

[variants."without L1"]
l1 = false

[variants."without segmentation"]
"model.segmentation" = false

[paper.whole]
image_auroc = 98.6
"""


def table(category: Path | str, **settings: Any) -> str:
    """The study as TOML, on a category and with settings."""
    lines = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in settings.items())
    return TABLE.format(category=category, settings=lines)
