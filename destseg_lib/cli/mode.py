"""One switch: ``DESTSEG_MODE=tiny`` needs no download, ``full`` is the paper's setting.

The mode only chooses defaults: an option that is given always wins over it. No other module reads
the variable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from destseg_lib.errors import DeSTSegError

VARIABLE = "DESTSEG_MODE"


@dataclass(frozen=True)
class Defaults:
    """Defaults for options that are not given.

    Attributes:
        teacher: as ``load_teacher`` takes it.
        recipe: a name in ``config.RECIPES``.
        data: the folder of the images; None if they must be named.
        summary: the mode in words.
    """

    teacher: str
    recipe: str
    data: Path | None
    summary: str


TINY = f"drawn categories, built-in teacher, no network; {VARIABLE}=full for the paper's setting"
FULL = f"MVTec AD, ImageNet teacher, the paper's recipe; {VARIABLE}=full"
MODES = {
    "tiny": Defaults("builtin", "tiny", None, TINY),
    "full": Defaults("imagenet", "paper", Path("data/mvtec-ad"), FULL),
}


def current_mode() -> str:
    """The mode that ``DESTSEG_MODE`` names: ``tiny`` if it is unset or empty.

    Raises:
        DeSTSegError: it names something else.
    """
    mode = os.environ.get(VARIABLE) or "tiny"
    if mode not in MODES:
        raise DeSTSegError(f"{VARIABLE} is {mode!r}; set it to tiny or full, or leave it unset")
    return mode


def default_teacher() -> str:
    """The current mode's teacher, as ``load_teacher`` takes it."""
    return MODES[current_mode()].teacher


def defaults(device: torch.device, *, photographs: bool = False) -> Defaults:
    """The current mode's defaults.

    In tiny mode a GPU gets more to do than a CPU, and so do ``photographs``: the tiny recipe is for
    lessons on drawn images.
    """
    chosen = MODES[current_mode()]
    quick = chosen.recipe == "tiny" and (photographs or device.type == "cuda")
    return replace(chosen, recipe="quick") if quick else chosen


def describe() -> str:
    """One line that names the current mode and says what it means."""
    mode = current_mode()
    return f"mode: {mode} ({MODES[mode].summary})"
