"""Decoding: one file to a uint8 RGB image, one mask file to zeros and ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from destseg_lib.errors import DeSTSegError

_MODES_8BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"})
_MODES_COLOUR = frozenset({"CMYK", "YCbCr", "HSV"})
_MODES_16BIT = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange width and height
_EIGHT_CONNECTED = np.ones((3, 3), dtype=np.int8)


class Mask(NamedTuple):
    """A ground-truth mask: 0/1 (size, size), and its 8-connected regions around the resizing."""

    pixels: NDArray[np.uint8]
    regions_before: int
    regions_after: int


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode one image to (size, size, 3) uint8 RGB, squashed to a square with antialiasing.

    EXIF orientation is honoured, transparency is laid over white, 16-bit grey is scaled from
    0..65535 to 0..255. The squash is the paper's (Sec. 4.2: all images are resized to 256x256).

    Raises:
        DeSTSegError: the file cannot be read whole, is too large, or has an unsupported mode.
    """
    with _opened(path, "image") as image:
        rgb = _decode(image, path, "white")
        resized = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.array(resized, dtype=np.uint8)


def read_mask(path: Path, size: int, image_size: tuple[int, int] | None = None) -> Mask:
    """Decode one ground-truth mask to (size, size) 0/1 and count its regions before and after.

    The mask is brought to [0, 1], resized with antialiasing and thresholded at 0.5, which is how
    the authors evaluate; a thin region can vanish or split on the way, hence the two counts.

    Args:
        path: any image; whatever is at least half as bright as white is defect.
        size: side of the square result in pixels.
        image_size: (width, height) of the image the mask belongs to, or None not to compare.

    Raises:
        DeSTSegError: the file is unreadable or its size differs from ``image_size``.
    """
    with _opened(path, "mask") as image:
        rgb = _decode(image, path, "black")
        if image_size is not None and rgb.size != image_size:
            raise size_mismatch(path, rgb.size, image_size)
        # The brightest channel, because a mask painted in pure red is as good as a white one.
        values = np.asarray(rgb).max(axis=2).astype(np.float32) / 255
    before = values >= 0.5
    if values.any() and not before.any():
        raise DeSTSegError(
            f"The mask {path} is nowhere brighter than {values.max() * 255:.0f} of 255, so it "
            "marks nothing. Export it with 0 for normal and 255 (full scale) for defective."
        )
    resized = Image.fromarray(values).resize((size, size), Image.Resampling.BILINEAR)
    after = np.asarray(resized) >= 0.5
    return Mask(after.astype(np.uint8), _count_regions(before), _count_regions(after))


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as displayed, that is with the EXIF orientation applied.

    Raises:
        DeSTSegError: as ``read_image``, as far as the header tells.
    """
    with _opened(path, "image") as image:
        if image.width == image.height:  # spares a PNG, whose EXIF may come last, its decoding
            return image.size
        if image.format == "TIFF":
            image.load()  # Pillow turns a TIFF itself, and not before this
            return image.size
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
        return (image.height, image.width) if turned else image.size


def size_mismatch(mask: Path, found: tuple[int, int], wanted: tuple[int, int]) -> DeSTSegError:
    """Return the error for a mask that does not have its image's (width, height)."""
    return DeSTSegError(
        f"The mask {mask} is {found[0]}x{found[1]} pixels, but its image is "
        f"{wanted[0]}x{wanted[1]}. A mask must have the size of its image: export it again."
    )


def _count_regions(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask, structure=_EIGHT_CONNECTED)[1])


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """Open an image and turn whatever Pillow raises while it is used into a DeSTSegError."""
    try:
        with Image.open(path) as image:
            _check_size(image, path)
            yield image
    except DeSTSegError:
        raise
    except FileNotFoundError as error:
        raise DeSTSegError(f"The {what} {path} does not exist.") from error
    except PermissionError as error:
        raise DeSTSegError(
            f"The {what} {path} may not be read: permission denied. Give yourself read access."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except MemoryError as error:
        raise DeSTSegError(f"The {what} {path} does not fit into memory.") from error
    except Exception as error:  # a malformed file can make Pillow's decoders raise nearly anything
        raise DeSTSegError(
            f"The {what} {path} cannot be decoded: it is damaged, cut short or no image "
            f"({type(error).__name__}: {error}). Replace or remove it."
        ) from error


def _check_size(image: Image.Image, path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_large(path)
    # A camera's MPO is a JPEG with previews behind it; anything else with frames is ambiguous.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DeSTSegError(
            f"The file {path} holds {frames} pages or frames, expected one image. Split it."
        )


def _too_large(path: Path) -> DeSTSegError:
    limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return DeSTSegError(
        f"The image {path} has more than {limit:.0f} million pixels, which is refused as a "
        "possible decompression bomb. Crop it into parts or scale it down first."
    )


def _decode(image: Image.Image, path: Path, background: str) -> Image.Image:
    if image.format == "PNG":  # the only format whose decoder does not mind a missing end
        with Image.open(path) as copy:
            copy.verify()
    return _to_rgb(ImageOps.exif_transpose(image), path, background)


def _to_rgb(image: Image.Image, path: Path, background: str) -> Image.Image:
    if image.mode in _MODES_16BIT:
        return _from_16bit(image, path, background).convert("RGB")
    if image.mode not in _MODES_8BIT | _MODES_COLOUR:
        raise DeSTSegError(
            f"The image {path} has pixel mode {image.mode!r}, which has no fixed range. "
            "Expected grey or colour with 8 or 16 bits: convert it first."
        )
    if image.mode in _MODES_8BIT and image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, background), colour).convert(
            "RGB"
        )
    return image.convert("RGB")


def _from_16bit(image: Image.Image, path: Path, background: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DeSTSegError(
            f"The image {path} has 32-bit values from {values.min()} to {values.max()}, expected "
            "0 to 65535. Convert it to 8 or 16 bits first."
        )
    grey = ((values + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255 if background == "white" else 0
    return Image.fromarray(grey)
