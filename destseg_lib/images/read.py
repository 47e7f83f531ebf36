"""One image file to a uint8 RGB array, one mask file to zeros and ones."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.view import WHITE, View, cropped

_MODES_GREY = frozenset({"1", "L", "LA", "La", "P", "PA"})  # a palette holds grey or colours
_MODES_COLOUR = frozenset({"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
_MODES_16BIT = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange width and height
_EIGHT_CONNECTED = np.ones((3, 3), dtype=np.int8)
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_LOSSY = frozenset({"JPEG", "MPO"})
# A mask with at most so many values other than 0 holds classes, not shades.
_MOST_CLASSES = 16
_NOISE = 32  # JPEG's ringing around a mask's regions stays below it


class Mask(NamedTuple):
    """A ground-truth mask.

    ``pixels`` (S, S) are 0 or 1; ``regions_before`` and ``regions_after`` count the 8-connected
    defective regions before and after the resizing to S.
    """

    pixels: NDArray[np.uint8]
    regions_before: int
    regions_after: int


def read_image(path: Path, size: int, view: View | None = None) -> NDArray[np.uint8]:
    """Decode one image to (size, size, 3) uint8 RGB, squashed to a square with antialiasing.

    The EXIF orientation is applied, the part that the view names is cut out, transparent pixels
    become white, and 16-bit grey is scaled from 0..``view.white`` to 0..255; brighter values become
    255. The squash is the paper's (section 4.2: all images are resized to 256x256).

    Raises:
        DeSTSegError: the file cannot be read completely, is too large, has an unsupported mode, or
            does not contain the part.
    """
    view = view or View()
    with _opened(path, "image") as image:
        rgb = cropped(_decode(image, path, "white", view.white), path, view)
        resized = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.array(resized, dtype=np.uint8)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) in memory as (N, size, size, 3), squashed as ``read_image`` does it."""
    side = (size, size)
    resized = (Image.fromarray(i).resize(side, Image.Resampling.BILINEAR) for i in images)
    return np.stack([np.asarray(image) for image in resized])


def read_mask(
    path: Path, size: int, image_size: tuple[int, int] | None = None, view: View | None = None
) -> Mask:
    """Decode one ground-truth mask to (size, size) 0/1 and count its regions before and after.

    A pixel that is at least half as bright as white is defective. Where a mask holds classes (few
    values, and flat regions darker than that), every pixel that is not 0 is. The mask is scaled to
    [0, 1], resized with antialiasing and thresholded at 0.5, which is how the authors evaluate. A
    thin region can vanish or split on the way, so both counts are kept.

    Args:
        path: any image.
        size: side of the square result in pixels.
        image_size: (width, height) of the image the mask belongs to, or None not to compare.
        view: of its image; the same part is cut out.

    Raises:
        DeSTSegError: the file is unreadable, its size differs from ``image_size``, or it has dark
            regions and too many values for classes.
    """
    with _opened(path, "mask") as image:
        # Classes are often small numbers in 16 bits too.
        white = 255 if (brightest(image) or WHITE) <= 255 else WHITE
        lossy = image.format in _LOSSY
        rgb = _decode(image, path, "black", white)
        if image_size is not None and rgb.size != image_size:
            raise size_mismatch(path, rgb.size, image_size)
        # The brightest channel, because a mask painted in pure red is as good as a white one.
        values = np.asarray(cropped(rgb, path, view or View())).max(axis=2)
    if _holds_classes(values, path, lossy):
        values = np.where(values > 0, np.uint8(255), np.uint8(0))
    shades = values.astype(np.float32) / 255
    before = shades >= 0.5
    resized = Image.fromarray(shades).resize((size, size), Image.Resampling.BILINEAR)
    after = np.asarray(resized) >= 0.5
    regions = [int(ndimage.label(m, structure=_EIGHT_CONNECTED)[1]) for m in (before, after)]
    return Mask(after.astype(np.uint8), *regions)


def brightest(image: Path | Image.Image) -> int | None:
    """The largest value of a 16-bit image; None for one of 8 bits.

    Raises:
        DeSTSegError: as ``read_image``.
    """
    if isinstance(image, Path):
        with _opened(image, "image") as opened:
            return brightest(opened)
    return int(np.asarray(image).max()) if image.mode in _MODES_16BIT else None


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as displayed, that is with the EXIF orientation applied.

    Raises:
        DeSTSegError: as ``read_image``, for faults that the header shows.
    """
    with _opened(path, "image") as image:
        if image.width == image.height:  # a PNG's EXIF may come last and need all of it decoded
            return image.size
        if image.format == "TIFF":
            image.load()  # Pillow turns a TIFF itself, but only when it is loaded
            return image.size
        return image.size[::-1] if _orientation(image) >= 5 else image.size


def view_size(path: Path, view: View) -> tuple[int, int]:
    """Return (width, height) of the part of an image that is looked at.

    Raises:
        DeSTSegError: as ``image_size``.
    """
    return image_size(path) if view.crop is None else view.crop[2:]


def size_mismatch(mask: Path, found: tuple[int, int], expected: tuple[int, int]) -> DeSTSegError:
    """Return the error for a mask that does not have its image's (width, height)."""
    return DeSTSegError(
        f"The mask {mask} is {found[0]}x{found[1]} pixels, but its image is "
        f"{expected[0]}x{expected[1]}. A mask must have the size of its image: export it again."
    )


def _holds_classes(values: NDArray[np.uint8], path: Path, lossy: bool) -> bool:
    """Whether a mask has regions that are darker than half of white, and few values.

    The soft edge of a bright region is neither: it touches the region, and no part of it is flat.
    """
    dark = (values < 128) & (values > (_NOISE if lossy else 0))
    if not dark.any() or values.all():  # classes leave what is normal at 0
        return False
    flat = dark & (ndimage.minimum_filter(values, 3) == ndimage.maximum_filter(values, 3))
    regions, count = ndimage.label(dark | (values >= 128), structure=_EIGHT_CONNECTED)
    peaks = ndimage.maximum(values, regions, np.arange(1, count + 1))
    if not flat.any() and (np.asarray(peaks) >= 128).all():
        return False
    found = np.unique(values[values > 0])
    if lossy or len(found) > _MOST_CLASSES:
        raise DeSTSegError(
            f"The mask {path} has regions darker than half of white and {len(found)} values, too "
            "many for classes, so what it marks is unclear. Export it as a PNG with 0 for normal "
            "and 255 for defective."
        )
    return True


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Image.Image]:
    """Open an image; any error that Pillow raises while it is used becomes a DeSTSegError."""
    try:
        with Image.open(_without_text(path)) as image:
            _check_size(image, path)
            yield image
    except DeSTSegError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DeSTSegError(
            f"The {kind} {path} has more than {limit:.0f} million pixels, which is refused as a "
            "possible decompression bomb. Crop it into parts or scale it down first."
        ) from error
    except MemoryError as error:
        raise DeSTSegError(f"The {kind} {path} does not fit into memory. Scale it down.") from error
    except Exception as error:  # a malformed file can make Pillow's decoders raise nearly anything
        if isinstance(error, OSError) and error.strerror:  # from the system, not from a decoder
            raise DeSTSegError(
                f"The {kind} {path} cannot be opened ({error.strerror}). Check its name and your "
                "right to read it."
            ) from error
        raise DeSTSegError(
            f"The {kind} {path} cannot be decoded: it is damaged, cut short or not an image "
            f"({type(error).__name__}: {error}). Replace or remove it."
        ) from error


def _without_text(path: Path) -> Path | BytesIO:
    """A PNG without its text, which Pillow refuses where it is long; any other file as it is."""
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return path
        chunks, at = [], 8  # where each starts and ends, and its kind
        while len(head := file.read(8)) == 8:
            end = at + int.from_bytes(head[:4]) + 12  # length and kind before it, checksum after it
            chunks.append((at, end, head[4:]))
            at = file.seek(end)
        if not any(kind in _TEXT_CHUNKS for *_, kind in chunks):
            return path  # nearly every file: only the chunks' heads were read
        kept = BytesIO(_PNG)
        kept.seek(0, os.SEEK_END)
        for start, end, kind in chunks:
            if kind not in _TEXT_CHUNKS:
                file.seek(start)
                kept.write(file.read(end - start))
    kept.seek(0)
    return kept


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, IndexError, OverflowError):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _check_size(image: Image.Image, path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError
    # A camera's MPO is a JPEG followed by previews; any other file with frames is ambiguous.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DeSTSegError(
            f"The file {path} holds {frames} pages or frames, expected one image. Split it."
        )


def _decode(image: Image.Image, path: Path, background: str, white: int) -> Image.Image:
    if image.format == "PNG":  # the only decoder that accepts a file without its end
        with Image.open(_without_text(path)) as copy:
            copy.verify()
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _MODES_16BIT:
        return _from_16bit(image, path, background, white)
    if image.mode not in _MODES_GREY | _MODES_COLOUR:
        raise DeSTSegError(
            f"The image {path} has pixel mode {image.mode!r}, which has no fixed range. "
            "Expected grey or colour with 8 or 16 bits: convert it first."
        )
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, background), colour)
    return image.convert("RGB")


def _from_16bit(image: Image.Image, path: Path, background: str, white: int) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DeSTSegError(
            f"The image {path} has 32-bit values from {values.min()} to {values.max()}, expected "
            "0 to 65535. Convert it to 8 or 16 bits first."
        )
    grey = np.minimum((values * 255 + white // 2) // white, 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255 if background == "white" else 0
    return Image.fromarray(grey).convert("RGB")
