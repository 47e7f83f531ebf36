"""What part c of ``gpu.py`` needs, small enough to be sent to another machine with a checkout."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import Category, find_category, find_images
from destseg_lib.images.read import read_image, read_mask
from destseg_lib.teacher import load_teacher

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "runs" / "gpu-bundle"  # git ignores it
TEXTURES = 200
SIZE = 256  # pixels; the paper's images
LARGEST = 60 * 2**20  # bytes of a checkout and a bundle


def make_bundle(name: str, data: list[str], textures: str | None, teacher: str | None) -> None:
    """Copy one category, textures and the teacher to ``BUNDLE``, replacing what is there.

    Args:
        name: of the category; the recipe goes by it.
        data: the category's folder, one.
        textures: a folder, possibly of folders by class.
        teacher: as ``load_teacher`` takes it.

    Raises:
        DeSTSegError: something is missing, or a checkout and the bundle are too large together.
    """
    if Path(name).name != name or name in ("common", "..") or len(data) != 1:
        raise DeSTSegError("--bundle needs the name of a category and, with --data, its folder")
    if textures is None or teacher is None:
        raise DeSTSegError("--bundle needs --textures and --teacher")
    if any(Path(path).resolve().is_relative_to(BUNDLE) for path in (*data, textures, teacher)):
        raise DeSTSegError(f"what is copied to {BUNDLE} cannot come from there")
    category, chosen = find_category(Path(data[0])), evenly(find_images([Path(textures)]), TEXTURES)
    weights = load_teacher(teacher).trunk.state_dict()
    folder, common = BUNDLE / name, BUNDLE / "common"
    for old in (folder, common):
        shutil.rmtree(old, ignore_errors=True)
    for path in chosen:
        copied = common / "textures" / path.relative_to(textures)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
    weights = {key: value.contiguous() for key, value in weights.items()}
    save_file(weights, common / f"{Path(teacher).stem}.safetensors")
    copy_category(category, folder)
    report({"checkout": checkout_files(), "common": files_of(common), name: files_of(folder)})


def evenly(paths: tuple[Path, ...], count: int) -> list[Path]:
    """So many of the files, evenly over the folders they are in and spread over each."""
    classes: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        classes[path.parent].append(path)
    chosen = []
    for place, files in enumerate(classes.values()):
        quota = count * (place + 1) // len(classes) - count * place // len(classes)
        chosen += [files[n * len(files) // quota] for n in range(quota)] if quota else []
    return list(dict.fromkeys(chosen))  # a class with fewer files than its quota gives them once


def copy_category(category: Category, folder: Path) -> None:
    """Images as training and evaluation will read them, the same to the last bit; and masks."""

    def target(path: Path, suffix: str) -> Path:
        copied = (folder / path.relative_to(category.root)).with_suffix(suffix)
        copied.parent.mkdir(parents=True, exist_ok=True)
        return copied

    def copy_image(path: Path) -> None:
        pixels, copied = read_image(path, SIZE), target(path, ".webp")
        Image.fromarray(pixels).save(copied, lossless=True)
        if not np.array_equal(read_image(copied, SIZE), pixels):
            raise DeSTSegError(f"{copied} differs from {path}; update Pillow")

    with ThreadPoolExecutor() as threads:
        list(threads.map(copy_image, (*category.train, *(image.path for image in category.test))))
    for image in category.test:
        if image.mask is not None:
            mask = read_mask(image.mask, SIZE).pixels.astype(np.uint8) * np.uint8(255)
            Image.fromarray(mask).save(target(image.mask, ".png"))


def checkout_files() -> list[Path]:
    """What git tracks or would add."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [ROOT / name for name in names.split("\0") if (ROOT / name).is_file()]


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def report(parts: dict[str, list[Path]]) -> None:
    """Print the sizes.

    Raises:
        DeSTSegError: they are too large together.
    """
    sizes = {name: sum(path.stat().st_size for path in files) for name, files in parts.items()}
    whole = sum(sizes.values())
    for name, size in (sizes | {"together": whole}).items():
        print(f"{name:12} {len(parts.get(name, ())) or '':5} {size / 2**20:6.2f} MiB")
    if whole >= LARGEST:
        raise DeSTSegError(
            f"a checkout and a bundle are to stay below {LARGEST >> 20} MiB together"
        )
