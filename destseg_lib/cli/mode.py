"""One switch: ``DESTSEG_MODE=tiny`` needs no download, ``full`` is the paper's setting.

The mode only chooses defaults; whatever is asked for explicitly wins over it. This is the one
place that reads the variable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from destseg_lib.drawn.dataset import WORLD
from destseg_lib.errors import DeSTSegError

Mode = Literal["tiny", "full"]
VARIABLE = "DESTSEG_MODE"


@dataclass(frozen=True)
class Defaults:
    """What is taken where nothing is asked for.

    Attributes:
        mode: that these belong to.
        teacher: as ``load_teacher`` takes it.
        recipe: a name in ``config.RECIPES``.
        data: the folder of categories.
    """

    mode: Mode
    teacher: str
    recipe: str
    data: Path


def current_mode() -> Mode:
    """What ``DESTSEG_MODE`` says: ``tiny`` where it is unset or empty.

    Raises:
        DeSTSegError: it says something else.
    """
    value = os.environ.get(VARIABLE, "") or "tiny"
    for mode in get_args(Mode):
        if value == mode:
            return mode  # type: ignore[no-any-return]
    raise DeSTSegError(f"{VARIABLE} is {value!r}; set it to tiny or full, or leave it unset")


def default_teacher() -> str:
    """The current mode's teacher, as ``load_teacher`` takes it."""
    return "imagenet" if current_mode() == "full" else "builtin"


def defaults(device: torch.device) -> Defaults:
    """The current mode's defaults; in tiny mode a GPU is given more to do than a processor."""
    mode, teacher = current_mode(), default_teacher()
    if mode == "full":
        return Defaults(mode, teacher, "paper", Path("data/mvtec-ad"))
    return Defaults(mode, teacher, "quick" if device.type == "cuda" else "tiny", WORLD)


def describe() -> str:
    """One line that says which mode is in force and what it means."""
    mode = current_mode()
    if mode == "full":
        return f"mode: full (MVTec AD, ImageNet teacher, the paper's recipe; {VARIABLE}=full)"
    return (
        f"mode: tiny (drawn products, built-in teacher, no network; {VARIABLE}=full for the paper's"
        " setting)"
    )
