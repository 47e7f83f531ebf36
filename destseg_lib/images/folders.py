"""The images of a folder: categories in MVTec AD's layout, a plain folder, or files to predict on.

Unsupported images raise an error; they are never skipped silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.read import image_size, size_mismatch

_SUPPORTED = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# fmt: off
_UNSUPPORTED = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jpe", ".jfif", ".raw",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".exr", ".hdr", ".psd",
    ".svg", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".pcx", ".dds", ".mpo", ".nii",
    ".mha",
})
# fmt: on
_FORMATS = ", ".join(sorted(_SUPPORTED))
_PARTS = frozenset({"train", "test", "ground_truth"})
_LAYOUTS = """Expected one of
  a category:          <data>/train/good/*.png, <data>/test/good/*.png, <data>/test/<defect>/*.png,
                       and, for pixel metrics, <data>/ground_truth/<defect>/<name>_mask.png
  several categories:  <data>/<category>/train/good/*.png and so on
  normal images only:  <data>/*.png"""


@dataclass(frozen=True)
class TestImage:
    """A test image, its defect type ("good" for normal) and its mask, if there is one."""

    __test__ = False  # keep pytest from collecting the class

    path: Path
    defect: str
    mask: Path | None


@dataclass(frozen=True)
class Category:
    """One kind of thing photographed: normal images to train on, and test images (or none)."""

    name: str
    root: Path
    train: tuple[Path, ...]
    test: tuple[TestImage, ...]

    @property
    def has_masks(self) -> bool:
        """Whether pixel-level metrics can be computed."""
        return any(image.mask is not None for image in self.test)


class _Listing(NamedTuple):
    """The content of one folder, sorted, without the content of its sub-folders."""

    folder: Path
    images: list[Path]
    folders: list[Path]
    other: list[Path]


def find_category(root: Path) -> Category:
    """List one category: MVTec AD's layout, or a plain folder of normal images (``test`` empty).

    Raises:
        DeSTSegError: a folder is missing or empty, or images and masks do not fit together.
    """
    root = Path(root)
    name, listing = root.resolve().name, _list_folder(root)
    for path in listing.other:
        if path.name in _PARTS:
            raise DeSTSegError(f"{path} is a file, expected a folder.\n{_LAYOUTS}")
    parts = _PARTS.intersection(folder.name for folder in listing.folders)
    if not parts:
        return Category(name, root, _only_images(root), ())
    good, truth = root / "train" / "good", root / "ground_truth"
    if not good.is_dir():
        raise DeSTSegError(f"There is no folder {good} of normal images.\n{_LAYOUTS}")
    _refuse(path for path in _only_folders(root / "train") if path != good)
    test: list[TestImage] = []
    for folder in _only_folders(root / "test") if "test" in parts else ():
        if folder.name == "good" or truth.name not in parts:
            test += (TestImage(path, folder.name, None) for path in _only_images(folder))
        else:
            test += _pair(folder, truth / folder.name)
    marked = {image.defect for image in test if image.mask is not None}
    for folder in _list_folder(truth).folders if truth.name in parts else ():
        if folder.name not in marked:
            raise DeSTSegError(
                f"{folder} is for masks, but {root / 'test' / folder.name} has no defective "
                "images. Remove the folder or add the images."
            )
    return Category(name, root, _only_images(good), tuple(test))


def find_categories(root: Path) -> tuple[Category, ...]:
    """List a category, or every category of a folder that holds several, sorted by name.

    Raises:
        DeSTSegError: as ``find_category``; also when a sub-folder is not a category.
    """
    root = Path(root)
    listing = _list_folder(root)
    if listing.images or _PARTS.intersection(folder.name for folder in listing.folders):
        return (find_category(root),)
    folders = [folder for folder in listing.folders if folder.name != "__MACOSX"]
    incomplete = [folder for folder in folders if not (folder / "train").is_dir()]
    if len(incomplete) == len(folders):
        raise _no_images(listing)
    if incomplete:
        raise DeSTSegError(
            f"{incomplete[0]} is among categories but has no train/good. Complete it, move it "
            f"away, or name one category.\n{_LAYOUTS}"
        )
    return tuple(find_category(folder) for folder in folders)


def find_images(paths: Iterable[Path]) -> tuple[Path, ...]:
    """List image files: files as given, folders with all their sub-folders, sorted.

    A file that is reached twice is listed once.

    Raises:
        DeSTSegError: a path is missing or not a supported image, or a folder holds no images.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        try:
            path.stat()
        except OSError as error:
            raise DeSTSegError(
                f"{path} cannot be opened ({error.strerror}). Name an image or a folder of images."
            ) from error
        images = _images_below(path, set()) if path.is_dir() else [path]
        if not images:
            raise DeSTSegError(f"{path} holds no images ({_FORMATS}), nor do its sub-folders.")
        if not path.is_dir() and path.suffix.lower() not in _SUPPORTED:
            raise _unsupported(path)
        found.update(dict.fromkeys(images))
    if not found:
        raise DeSTSegError("No images were named; give files or folders.")
    return tuple(found)


def _list_folder(folder: Path) -> _Listing:
    """List a folder without opening its files: a million of them take seconds.

    Hidden files are left out.

    Raises:
        DeSTSegError: not a folder, no right to list it, or an image in an unsupported format.
    """
    listing = _Listing(folder, [], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = folder / entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    listing.folders.append(path)
                elif (suffix := path.suffix.lower()) in _SUPPORTED:
                    listing.images.append(path)
                elif suffix in _UNSUPPORTED:
                    raise _unsupported(path)
                else:
                    listing.other.append(path)
    except OSError as error:
        raise DeSTSegError(
            f"The folder {folder} cannot be listed ({error.strerror}).\n{_LAYOUTS}"
        ) from error
    return listing


def _only_images(folder: Path) -> tuple[Path, ...]:
    """Return the images of a folder; it is an error if it has none, or has sub-folders."""
    listing = _list_folder(folder)
    if not listing.images:
        raise _no_images(listing)
    _refuse(listing.folders)
    return tuple(listing.images)


def _only_folders(folder: Path) -> list[Path]:
    """Return the sub-folders; it is an error if there are none, or if there are images."""
    listing = _list_folder(folder)
    _refuse(listing.images)
    if not listing.folders:
        raise _no_images(listing)
    return listing.folders


def _images_below(folder: Path, seen: set[Path]) -> list[Path]:
    """List the images of a folder and its sub-folders; links can lead in a circle."""
    if (real := folder.resolve()) in seen:
        return []
    seen.add(real)
    listing = _list_folder(folder)
    return sum((_images_below(below, seen) for below in listing.folders), listing.images)


def _pair(images: Path, masks: Path) -> Iterator[TestImage]:
    """Pair the images of one defect type, a folder, with the masks of another, one to one."""
    image_of: dict[str, Path] = {}
    for image in _only_images(images):
        if image_of.setdefault(image.stem, image) != image:
            raise DeSTSegError(
                f"One mask would fit two images, {image_of[image.stem]} and {image}. Rename one."
            )
    mask_of: dict[str, Path] = {}
    for mask in _only_images(masks) if masks.is_dir() else ():
        stem = mask.stem if mask.stem in image_of else mask.stem.removesuffix("_mask")
        if stem not in image_of:
            raise DeSTSegError(
                f"The mask {mask} has no image: nothing in test/{images.name} is called {stem}. "
                "Add the image or remove the mask."
            )
        if mask_of.setdefault(stem, mask) != mask:
            raise DeSTSegError(f"{mask_of[stem]} and {mask} mark the same image. Keep one.")
    for stem, image in image_of.items():
        if stem not in mask_of:
            raise DeSTSegError(
                f"The defective image {image} has no mask. Expected {masks / stem}_mask.png; add "
                f"it, or remove {masks.parent} altogether to go without pixel metrics."
            )
        _check_mask_size(mask_of[stem], image)
        yield TestImage(image, images.name, mask_of[stem])


def _check_mask_size(mask: Path, image: Path) -> None:
    try:
        expected = image_size(image)
    except DeSTSegError:
        return  # load_images reports it, or skips it if the caller asked for that
    if (found := image_size(mask)) != expected:
        raise size_mismatch(mask, found, expected)


def _refuse(unexpected: Iterable[Path]) -> None:
    for path in unexpected:
        raise DeSTSegError(f"Unexpected {path}: it fits no layout. Move it away.\n{_LAYOUTS}")


def _no_images(listing: _Listing) -> DeSTSegError:
    """Return the error for a folder without images; it says what is there instead."""
    content = "is empty"
    if there := listing.other + listing.folders:
        content = f"holds no images, only files or folders such as {there[0].name}"
    return DeSTSegError(
        f"The folder {listing.folder} {content}. Images end in {_FORMATS}.\n{_LAYOUTS}"
    )


def _unsupported(path: Path) -> DeSTSegError:
    return DeSTSegError(
        f"{path} is not in a supported format. Convert it to one of {_FORMATS}, or remove it."
    )
