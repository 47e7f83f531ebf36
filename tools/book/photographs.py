"""Write book/static/photographs: the few photographs of MVTec AD that the book shows.

Run: ``python tools/book/photographs.py --data DIR``, DIR with ``transistor`` and ``screw`` in
MVTec AD's layout at 256 pixels. Which files are taken is a rule, not a choice: every tenth good
transistor, the first of each type and the sixth.

``--models DIR`` also writes the anomaly maps of the test photographs, as pictures of a quarter of
the image's side and the bytes 0 to 255 for 0 to 1. DIR holds the trained models that
``experiments/run_queue.py --promises`` keeps; ``--teacher`` is the one that they were trained with.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from destseg_lib.config import quick_recipe
from destseg_lib.files import write_json
from destseg_lib.images.load import load_images
from destseg_lib.model import DeSTSeg, predict_maps
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import load_trained_weights
from destseg_lib.teacher import load_teacher, read_weights_file

FOLDER = Path(__file__).resolve().parents[2] / "book" / "static" / "photographs"
LICENCE, MAPS = "LICENSE.md", "maps"
# Good photographs to learn from, the step between them, good ones to test, numbers of each type.
TAKEN = {"transistor": (20, 10, 2, (0, 5)), "screw": (4, 10, 1, (0,))}


def main() -> None:
    """Read the command line and write the folder anew; its licence stays."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--teacher", default="imagenet")
    options = parser.parse_args()
    data = options.data
    for category in TAKEN:
        shutil.rmtree(FOLDER / category, ignore_errors=True)
        for file in chosen(data / category, *TAKEN[category]):
            target = FOLDER / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            if "ground_truth" in file.parts:
                Image.open(file).convert("1").save(target, optimize=True)
            else:
                photograph = Image.open(file).convert("RGB")
                photograph.save(target.with_suffix(".jpg"), quality=80, optimize=True)

    if options.models:
        write_maps(data, options.models, options.teacher)


def write_maps(data: Path, models: Path, teacher: str) -> None:
    """The final maps of the test photographs, by the quick recipe's runs with seed 0."""
    shutil.rmtree(FOLDER / MAPS, ignore_errors=True)
    config, frozen = quick_recipe(), load_teacher(teacher)
    for category in TAKEN:
        model = DeSTSeg(frozen, config.model)
        file = models / f"{category}-quick-photographs-seed0.safetensors"
        load_trained_weights(model, read_weights_file(file), file)
        files = [f for f in chosen(data / category, *TAKEN[category]) if "test" in f.parts]
        pixels = load_images(files, config.image_size).pixels
        side = config.image_size // 4  # as the network gives them
        batches = predict_maps(model, pixels, precision="fp32", size=side, progress=False)
        maps = np.concatenate([batch.final for batch in batches])
        for path, found in zip(files, maps, strict=True):
            target = FOLDER / MAPS / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(255 * found).astype(np.uint8)).save(target, optimize=True)
    record = {
        "what": "final maps of the quick recipe, seed 0, from its trained weights in 16 bits",
        "teacher": frozen.fingerprint(),
        "provenance": provenance(torch.device("cpu")),
    }
    write_json(FOLDER / MAPS / "maps.json", record)


def chosen(
    folder: Path, train: int, step: int, good: int, numbers: tuple[int, ...]
) -> Iterator[Path]:
    """The files of one category that the book shows."""
    yield from sorted((folder / "train" / "good").glob("*.png"))[::step][:train]
    yield from sorted((folder / "test" / "good").glob("*.png"))[:good]
    for kind in sorted((folder / "ground_truth").iterdir()):
        for number in numbers:
            yield folder / "test" / kind.name / f"{number:03d}.png"
            yield kind / f"{number:03d}_mask.png"


if __name__ == "__main__":
    main()
