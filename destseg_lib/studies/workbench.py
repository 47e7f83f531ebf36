"""Images, textures and teachers that the runs of a study share on one machine, each made once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from destseg_lib.config import TrainingConfig
from destseg_lib.drawn import AVAILABLE
from destseg_lib.drawn.dataset import write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, write_json, write_whole
from destseg_lib.images.folders import Category, find_category, find_images
from destseg_lib.images.load import load_images, white_level
from destseg_lib.images.view import View
from destseg_lib.runs.inputs import draw_textures, fingerprint_pixels
from destseg_lib.runs.tiles import decoded_size
from destseg_lib.teacher import Teacher, load_teacher

Pixels = NDArray[np.uint8]  # (N, S, S, 3), RGB


class Workbench:
    """What runs share on one machine.

    Args:
        students: folder of trained students; machines may share it.
        world: folder of drawn categories.
        device: device of the runs.
        decoded: folder for decoded images and drawn textures, mapped into memory, so that all
            workers of a machine share one copy; None keeps them in this process.
        progress: show bars.
    """

    def __init__(
        self,
        students: Path,
        world: Path,
        device: torch.device,
        *,
        decoded: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.students, self.world, self.device = students, world, device
        self.decoded, self.progress = decoded, progress
        self._kept: dict[object, Any] = {}

    def teacher(self, name: str) -> Teacher:
        """A teacher, as ``load_teacher`` takes it."""
        teacher: Teacher = self._once(("teacher", name), lambda: load_teacher(name))
        return teacher

    def category(self, name: str) -> Category:
        """A drawn category by name, or a folder."""
        if name not in {drawn.name for drawn in AVAILABLE}:
            found: Category = self._once(("category", name), lambda: find_category(Path(name)))
            return found
        return find_category(write_category(name, self.world, progress=self.progress))

    def good_images(self, name: str, config: TrainingConfig) -> Pixels:
        """All good images of a category that may be trained on, (N, C, C, 3)."""
        paths, size = self.category(name).train, decoded_size(config)
        view = View(self.white_level(name), config.crop)
        key = ("good", name, size, config.crop)
        pixels: Pixels = self._once(key, lambda: self._decode(paths, size, view))
        return pixels

    def same_inputs(
        self, name: str, config: TrainingConfig, textures: str | None, teacher: str
    ) -> dict[str, str]:
        """Fingerprints of what a trial works on, the same as those of the study's first trial.

        They are kept next to the students, which were trained on them.

        Raises:
            DeSTSegError: images, textures or teacher are not those that the study began with.
        """
        found = self._once(
            ("inputs", name, decoded_size(config), config.crop, textures, teacher),
            lambda: self._fingerprints(name, config, textures, teacher),
        )
        self.students.mkdir(parents=True, exist_ok=True)
        file = self.students / "inputs.json"
        with FileLock(f"{file}.lock"):
            kept = read_json(file) if file.exists() else {}
            changed = [what for what in found if kept.get(what, found[what]) != found[what]]
            if changed:
                raise DeSTSegError(
                    f"the {' and the '.join(changed)} are not those that this study began with; "
                    "restore them, or run the study again with another --out"
                )
            if not found.keys() <= kept.keys():
                write_json(file, {**kept, **found})
        return {what.partition(",")[0]: digest for what, digest in found.items()}

    def _fingerprints(
        self, name: str, config: TrainingConfig, textures: str | None, teacher: str
    ) -> dict[str, str]:
        category, size = self.category(name), config.image_size
        part = "" if config.crop is None else f" of the part {config.crop}"
        tested = hashlib.sha256()
        for image in category.test:
            for path in filter(None, (image.path, image.mask)):
                tested.update(path.read_bytes())
        found = {
            f"good images, {name} at {decoded_size(config)} pixels{part}": fingerprint_pixels(
                self.good_images(name, config)
            ),
            f"test images, {name}": tested.hexdigest()[:16],
            f"teacher, {Path(teacher).name}": self.teacher(teacher).fingerprint(),
        }
        if textures not in (None, "procedural"):
            read = self.textures(textures, size, 0)
            found[f"textures, {textures} at {size} pixels"] = fingerprint_pixels(read)
        return found

    def white_level(self, name: str) -> int:
        """What is white in a category's 16-bit images."""
        found: int = self._once(("white", name), lambda: white_level(self.category(name).train))
        return found

    def textures(self, folder: str | None, size: int, seed: int) -> Pixels:
        """The images of a folder, or textures drawn from a seed, (N, size, size, 3)."""
        if folder in (None, "procedural"):
            drawn: Pixels = self._once(("drawn", size, seed), lambda: self._draw(size, seed))
            return drawn
        paths = find_images([Path(str(folder))])
        key = ("textures", folder, size)
        read: Pixels = self._once(key, lambda: self._decode(paths, size, View(white_level(paths))))
        return read

    def _once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _decode(self, paths: Sequence[Path], size: int, view: View) -> Pixels:
        if self.decoded is None:
            return load_images(paths, size, progress=self.progress, view=view).pixels
        return load_images(
            paths, size, cache_dir=self.decoded, memory_share=0.0, progress=False, view=view
        ).pixels

    def _draw(self, size: int, seed: int) -> Pixels:
        if self.decoded is None:
            return draw_textures(size, seed)
        self.decoded.mkdir(parents=True, exist_ok=True)
        file = self.decoded / f"textures-{size}-{seed}.npy"
        with FileLock(f"{file}.lock"):  # another worker may want the same
            if not file.exists():
                write_whole(file, lambda opened: np.save(opened, draw_textures(size, seed)))
        mapped: Pixels = np.load(file, mmap_mode="r")
        return mapped
