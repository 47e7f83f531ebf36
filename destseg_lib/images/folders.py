"""What there is to train and test on: categories in MVTec AD's layout, or a plain folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.listing import (
    IMAGE_SUFFIXES,
    LAYOUTS,
    find_images,
    folders_only,
    images_only,
    list_folder,
    nothing_found,
)
from destseg_lib.images.read import Mask, image_size, read_image, read_mask, size_mismatch

__all__ = [
    "IMAGE_SUFFIXES",
    "Category",
    "Mask",
    "TestImage",
    "find_categories",
    "find_category",
    "find_images",
    "image_size",
    "read_image",
    "read_mask",
]


_PARTS = frozenset({"train", "test", "ground_truth"})


@dataclass(frozen=True)
class TestImage:
    """A test image, its defect type ("good" for normal) and its mask, if there is one."""

    __test__ = False  # keep pytest from collecting the class

    path: Path
    defect: str
    mask: Path | None


@dataclass(frozen=True)
class Category:
    """One kind of product: normal images to train on, and test images (possibly none)."""

    name: str
    root: Path
    train: tuple[Path, ...]
    test: tuple[TestImage, ...]

    @property
    def has_masks(self) -> bool:
        """Whether pixel-level figures can be computed."""
        return any(image.mask is not None for image in self.test)


def find_category(root: Path) -> Category:
    """List one category: MVTec AD's layout, or a plain folder of normal images (``test`` empty).

    Raises:
        DeSTSegError: a folder is missing or empty, or images and masks do not fit together.
    """
    root = Path(root)
    name, listing = root.resolve().name, list_folder(root)
    for part in _PARTS.intersection(listing.ignored):
        raise DeSTSegError(f"{root / part} is a file, expected a folder.\n{LAYOUTS}")
    parts = _PARTS.intersection(folder.name for folder in listing.folders)
    if not parts:
        return Category(name, root, images_only(root, listing), ())
    if "train" not in parts or root / "train" / "good" not in folders_only(root / "train"):
        missing = root / "train" / "good"
        raise DeSTSegError(f"There is no folder {missing} of normal images.\n{LAYOUTS}")
    folders_only(root / "train", frozenset({"good"}))
    train = images_only(root / "train" / "good")
    defects = folders_only(root / "test") if "test" in parts else ()
    if "ground_truth" in parts:
        return Category(name, root, train, _with_masks(root, defects))
    test = (
        TestImage(path, folder.name, None) for folder in defects for path in images_only(folder)
    )
    return Category(name, root, train, tuple(test))


def find_categories(root: Path) -> tuple[Category, ...]:
    """List a category, or every category of a folder that holds several, sorted by name.

    Raises:
        DeSTSegError: as ``find_category``; also when a sub-folder is no category.
    """
    root = Path(root)
    listing = list_folder(root)
    if listing.images or _PARTS.intersection(folder.name for folder in listing.folders):
        return (find_category(root),)
    folders = [folder for folder in listing.folders if folder.name != "__MACOSX"]
    held = [{part.name for part in list_folder(folder).folders} for folder in folders]
    if not any("train" in parts for parts in held):
        raise nothing_found(root, listing)
    for folder, parts in zip(folders, held, strict=True):
        if "train" not in parts:
            raise DeSTSegError(
                f"{folder} lies among categories but has no train/good. Complete it, move it away, "
                f"or name one category.\n{LAYOUTS}"
            )
    return tuple(find_category(folder) for folder in folders)


def _with_masks(root: Path, defects: tuple[Path, ...]) -> tuple[TestImage, ...]:
    test, truth = root / "test", root / "ground_truth"
    masks = {folder.name: images_only(folder) for folder in list_folder(truth).folders}
    if "good" in masks:
        raise DeSTSegError(
            f"{truth / 'good'} has masks, but normal images have no defects to mark. Remove it."
        )
    for name in sorted(masks.keys() - {folder.name for folder in defects}):
        raise DeSTSegError(f"{truth / name} has masks, but there is no folder {test / name}.")
    found: list[TestImage] = []
    for folder in defects:
        images = images_only(folder)
        if folder.name == "good":
            found.extend(TestImage(path, "good", None) for path in images)
        else:
            found.extend(_pair(images, masks.get(folder.name, ()), truth / folder.name))
    return tuple(found)


def _pair(images: tuple[Path, ...], masks: tuple[Path, ...], folder: Path) -> list[TestImage]:
    """Pair the images of one defect type with its masks, one to one."""
    by_stem: dict[str, Path] = {}
    for mask in masks:
        if by_stem.setdefault(mask.stem, mask) != mask:
            raise DeSTSegError(f"{by_stem[mask.stem]} and {mask} mark the same image. Keep one.")
    pairs: list[TestImage] = []
    owners: dict[Path, Path] = {}
    for image in images:
        fitting = [by_stem[s] for s in (f"{image.stem}_mask", image.stem) if s in by_stem]
        if not fitting:
            raise DeSTSegError(
                f"The defective image {image} has no mask. Expected "
                f"{folder / image.stem}_mask.png; add it, or remove {folder.parent} altogether "
                "to go without pixel figures."
            )
        for mask in fitting:
            if mask in owners:
                raise DeSTSegError(
                    f"The mask {mask} fits two images, {owners[mask]} and {image}. Rename one."
                )
            owners[mask] = image
        if len(fitting) > 1:
            raise DeSTSegError(f"{fitting[0]} and {fitting[1]} both fit {image}. Keep one.")
        pairs.append(TestImage(image, folder.name, fitting[0]))
    for mask in masks:
        if mask not in owners:
            raise DeSTSegError(
                f"The mask {mask} has no image: nothing in test/{folder.name} is called "
                f"{mask.stem.removesuffix('_mask')}. Add the image or remove the mask."
            )
    for pair in pairs:
        _check_mask_size(pair)
    return pairs


def _check_mask_size(pair: TestImage) -> None:
    try:
        wanted = image_size(pair.path)
    except DeSTSegError:
        return  # load_images reports it, or skips it if the caller asked for that
    if pair.mask is not None and (found := image_size(pair.mask)) != wanted:
        raise size_mismatch(pair.mask, found, wanted)
