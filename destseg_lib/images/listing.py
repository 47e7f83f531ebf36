"""Which files a folder holds; nothing that looks like a picture is passed over in silence."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from destseg_lib.errors import DeSTSegError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# Pictures we do not decode: to pass over them as over a readme would silently drop data.
# fmt: off
_OTHER_PICTURES = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jpe", ".jfif", ".raw",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".exr", ".hdr", ".psd",
    ".svg", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".pcx", ".dds", ".mpo", ".nii",
    ".mha",
})
# fmt: on

LAYOUTS = """Expected one of
  a category:          <data>/train/good/*.png, <data>/test/good/*.png, <data>/test/<defect>/*.png,
                       and, for pixel figures, <data>/ground_truth/<defect>/<name>_mask.png
  several categories:  <data>/<category>/train/good/*.png and so on
  normal images only:  <data>/*.png"""


class Listing(NamedTuple):
    """What one folder holds, not what lies below its folders."""

    images: tuple[Path, ...]
    folders: tuple[Path, ...]
    ignored: tuple[str, ...]


def find_images(paths: Iterable[Path]) -> tuple[Path, ...]:
    """List image files for prediction: files as given, folders with all below them, sorted.

    A file reached twice is listed once.

    Raises:
        DeSTSegError: a path is missing, no supported image, or a folder holds none.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            raise DeSTSegError(
                f"{path} cannot be opened ({error.strerror}). Name an image or a folder of them."
            ) from error
        if is_folder:
            below = _walk(path)
            if not below:
                raise DeSTSegError(f"{path} holds no images ({_suffixes()}), nor do its folders.")
            found.update(dict.fromkeys(below))
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            raise _unsupported(path)
        else:
            found[path] = None
    if not found:
        raise DeSTSegError("No images were named; give files or folders.")
    return tuple(found)


def list_folder(folder: Path) -> Listing:
    """List a folder, sorted, without touching its files: a million of them take seconds.

    Hidden files are passed over, and so are files that are no pictures; these are in ``ignored``.

    Raises:
        DeSTSegError: no folder, not allowed, or a picture in a format that is not read.
    """
    images: list[str] = []
    folders: list[str] = []
    ignored: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a million times)
                if entry.is_dir():
                    folders.append(entry.name)
                elif suffix in IMAGE_SUFFIXES:
                    images.append(entry.name)
                elif suffix in _OTHER_PICTURES:
                    raise _unsupported(folder / entry.name)
                else:
                    ignored.append(entry.name)
    except FileNotFoundError as error:
        raise DeSTSegError(f"The folder {folder} does not exist.\n{LAYOUTS}") from error
    except NotADirectoryError as error:
        raise DeSTSegError(f"{folder} is a file, expected a folder.\n{LAYOUTS}") from error
    except PermissionError as error:
        raise DeSTSegError(
            f"The folder {folder} may not be listed: permission denied. Give yourself read access."
        ) from error
    return Listing(
        tuple(folder / name for name in sorted(images)),
        tuple(folder / name for name in sorted(folders)),
        tuple(sorted(ignored)),
    )


def images_only(folder: Path, listing: Listing | None = None) -> tuple[Path, ...]:
    """Return the images of a folder that holds images and no folders (``listing``: if known).

    Raises:
        DeSTSegError: it is empty, or holds a folder.
    """
    listing = listing or list_folder(folder)
    if not listing.images:
        raise nothing_found(folder, listing)
    if listing.folders:
        raise DeSTSegError(
            f"Unexpected folder {listing.folders[0]}: {folder} should hold images only. "
            f"Move it away, or its images up.\n{LAYOUTS}"
        )
    return listing.images


def folders_only(folder: Path, names: frozenset[str] = frozenset()) -> tuple[Path, ...]:
    """Return the folders of one that holds no images and, given names, no other folders.

    Raises:
        DeSTSegError: it is empty, or holds something that no layout has.
    """
    listing = list_folder(folder)
    stray = [*listing.images, *(f for f in listing.folders if names and f.name not in names)]
    if stray:
        raise DeSTSegError(f"Unexpected {stray[0]}: it fits no layout. Move it away.\n{LAYOUTS}")
    if not listing.folders:
        raise nothing_found(folder, listing)
    return listing.folders


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[Path] = set()  # links can lead in a circle
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        listing = list_folder(current)
        found.extend(listing.images)
        waiting.extend(reversed(listing.folders))
    return found


def nothing_found(folder: Path, listing: Listing) -> DeSTSegError:
    """Return the error for a folder in which no images were found, saying what is there."""
    if listing.ignored:
        held = f"holds no images, only other files such as {listing.ignored[0]}"
    elif listing.folders:
        held = f"holds no images, only folders such as {listing.folders[0].name}"
    else:
        held = "is empty"
    return DeSTSegError(f"The folder {folder} {held}. Images end in {_suffixes()}.\n{LAYOUTS}")


def _unsupported(path: Path) -> DeSTSegError:
    return DeSTSegError(
        f"{path} is in a format that is not read. Convert it to one of {_suffixes()}, or remove it."
    )


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
