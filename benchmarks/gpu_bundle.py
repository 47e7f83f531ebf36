"""Copies what part c of ``gpu.py`` needs, small enough to be sent with a checkout."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category, find_images
from destseg_lib.images.read import read_image, read_mask
from destseg_lib.runs.run import save_weights
from destseg_lib.teacher import load_teacher

BUNDLE = Path(__file__).resolve().parent.parent / "runs" / "gpu-bundle"  # git ignores it
TEXTURES = 200
SIZE = 256  # pixels; the paper's images
LARGEST = 36 * 2**20  # bytes; with a checkout it stays below 64 MiB


def make_bundle(name: str, data: list[str], textures: str, teacher: str) -> None:
    """Copy one category, textures and the teacher to ``BUNDLE``, replacing what is there.

    Args:
        name: of the category; its rotation in the recipe depends on it.
        data: one folder, the category's.
        textures: a folder, possibly with one folder for each class.
        teacher: as ``load_teacher`` takes it.

    Raises:
        DeSTSegError: something is missing, or the bundle is too large.
    """
    if Path(name).name != name or name in ("common", "..") or len(data) != 1:
        raise DeSTSegError("--bundle needs the name of a category and, with --data, its folder")
    if any(Path(path).resolve().is_relative_to(BUNDLE) for path in (*data, textures, teacher)):
        raise DeSTSegError(f"--bundle needs --data, --textures and --teacher from outside {BUNDLE}")
    category, found = find_category(Path(data[0])), find_images([Path(textures)])
    weights = load_teacher(teacher).trunk.state_dict()
    folder, common = BUNDLE / name, BUNDLE / "common"
    for old in (folder, common):
        shutil.rmtree(old, ignore_errors=True)
    # Evenly over the sorted files, and so over the classes if these are equally large.
    for n in range(count := min(TEXTURES, len(found))):
        path = found[n * len(found) // count]
        shutil.copyfile(path, with_folder(common / "textures" / path.relative_to(textures)))
    save_weights(common / f"{Path(teacher).stem}.safetensors", weights)
    # As they will be read, the same to the last bit.
    paths = (*category.train, *(image.path for image in category.test))
    images = {path: read_image(path, SIZE) for path in paths}
    images |= {t.mask: 255 * read_mask(t.mask, SIZE).pixels for t in category.test if t.mask}
    for path, pixels in images.items():
        copied = with_folder(folder / path.relative_to(category.root)).with_suffix(".webp")
        Image.fromarray(pixels).save(copied, lossless=True)
    size = sum(path.stat().st_size for part in (folder, common) for path in part.rglob("*"))
    print(f"common and {name} together: {size / 2**20:.1f} MiB")
    if size >= LARGEST:
        raise DeSTSegError(f"the bundle must be smaller than {LARGEST >> 20} MiB")


def with_folder(path: Path) -> Path:
    """The same path, after making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
