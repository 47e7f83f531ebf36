"""What of a photograph is looked at, and what in it is white."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from destseg_lib.errors import DeSTSegError

WHITE = 65535  # what is white in a 16-bit image, if no training set has said otherwise


@dataclass(frozen=True)
class View:
    """How a photograph becomes pixels.

    Attributes:
        white: what is white in a 16-bit image.
        crop: the part that is looked at: left, top, width and height, in pixels of the photograph
            as displayed; None is all of it.
    """

    white: int = WHITE
    crop: tuple[int, int, int, int] | None = None


def cropped(image: Image.Image, path: Path, view: View) -> Image.Image:
    """The part of an image that is looked at.

    Raises:
        DeSTSegError: the image, read from ``path``, does not contain it.
    """
    if view.crop is None:
        return image
    left, top, width, height = view.crop
    if left + width > image.width or top + height > image.height:
        raise DeSTSegError(
            f"The part {left},{top},{width},{height} of the image {path} was asked for, but it is "
            f"only {image.width}x{image.height} pixels. Take photographs of one size, or give "
            "another --crop."
        )
    return image.crop((left, top, left + width, top + height))
