"""The base of all elements, packed arrays, and numbers written as a page shows them.

The data of an element travels with its page, so that it works without a kernel and without a
network. Only the tests read its ``checks``.
"""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import styles

Values = dict[str, str]


class Element(anywidget.AnyWidget):
    """An element of a page: its data, and checks that the page shows the same values as Python.

    A subclass names its script in ``_esm``, declares its settings as traits and gives the values
    for them in ``displayed``.

    Attributes:
        data: everything that the page needs to show the element.
        checks: settings, each with the values that Python computes for it.
    """

    _css = styles()
    data = traitlets.Dict().tag(sync=True)
    checks: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(
        self, data: dict[str, Any], trials: Sequence[tuple[Any, ...]], **settings: Any
    ) -> None:
        """Take the data, settings to check in the order of ``displayed``, and the first setting."""
        super().__init__(**settings)
        self.data = data
        names = inspect.signature(self.displayed).parameters
        self.checks = [
            {"settings": dict(zip(names, trial, strict=True)), "values": self.displayed(*trial)}
            for trial in trials
        ]

    def displayed(self, *args: Any, **kwargs: Any) -> Values:
        """The text of each value that the page shows for a setting."""
        raise NotImplementedError


def packed(array: NDArray[Any]) -> str:
    """An array of bytes as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def fixed(value: float, digits: int) -> str:
    """A number as JavaScript's ``toFixed`` writes it: ties away from zero; nan is undefined."""
    if not math.isfinite(value):
        return "undefined"
    written = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(written) if written == 0 and value >= 0 else written}"


def pictures(images: ArrayLike, what: str) -> NDArray[np.uint8]:
    """Return images as (N, H, W, 3) bytes.

    Raises:
        DeSTSegError: shape or type differ.
    """
    stack = np.asarray(images)
    if stack.ndim != 4 or stack.shape[3] != 3 or stack.dtype != np.uint8 or stack.size == 0:
        raise DeSTSegError(
            f"The {what} are {stack.shape} of {stack.dtype}; give (N, H, W, 3) of uint8, as "
            "images are kept until they are on the device."
        )
    return stack


def titles(names: Sequence[str] | None, count: int) -> list[str]:
    """The title of each of ``count`` pictures; a folder's name becomes words: "bent leg".

    Raises:
        DeSTSegError: there are more names than pictures, or fewer.
    """
    if names is None:
        return [f"image {n}" for n in range(1, count + 1)]
    if len(names) != count:
        raise DeSTSegError(f"There are {count} images and {len(names)} names; give one for each.")
    return [name.replace("_", " ") for name in names]


def painted(stack: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, H, W, 3) in at most 256 colours of their own, a third of the bytes to send.

    Returns:
        colours (256, 3), and which of them each pixel has, (N, H, W).
    """
    count, height, width, _ = stack.shape
    sheet = Image.fromarray(stack.reshape(count * height, width, 3))
    # Median cut, Pillow's default, spends all colours on a plate's greys and makes its rust grey.
    cover = Image.Quantize.MAXCOVERAGE
    few = sheet.quantize(256, method=cover, kmeans=3, dither=Image.Dither.NONE)
    colours = np.zeros((256, 3), np.uint8)
    used = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
    colours[: len(used)] = used
    return colours, np.array(few, np.uint8).reshape(count, height, width)


def runs(numbers: NDArray[Any]) -> list[list[int]]:
    """Start, length and number of each run of one number other than 0, in the flattened array."""
    flat = numbers.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=0))
    lengths = np.diff(starts, append=flat.size)
    found = zip(starts.tolist(), lengths.tolist(), flat[starts].tolist(), strict=True)
    return [list(run) for run in found if run[2]]


def levels_of(values: NDArray[Any]) -> tuple[NDArray[np.uint8], float, float]:
    """Values as 256 levels, with the lowest and highest value, which are levels 0 and 255."""
    low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float64) - low) / (high - low or 1.0)
    return np.rint(255 * scaled).astype(np.uint8), low, high
