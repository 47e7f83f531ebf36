"""Record the training that chapter 8 shows as a film, about five minutes on two cores.

    python tools/book/film.py      writes destseg_lib/widgets/film.npz

The tiny recipe on a drawn category. The maps are those of its first test image with the defect.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from destseg_lib import DeSTSeg, load_teacher
from destseg_lib.batches import TrainingImages
from destseg_lib.config import RECIPES
from destseg_lib.device import resolve_device
from destseg_lib.drawn.dataset import ImageCounts, draw_category, find_drawn
from destseg_lib.textures import procedural_textures
from destseg_lib.training import move_to_device
from destseg_lib.widgets.recording import SHIPPED, record_training

CATEGORY, DEFECT = "metal", "rust"
COUNTS = ImageCounts(good=0, defective=1)


def main() -> None:
    """Draw the images, train, and write the recording."""
    config = replace(RECIPES["tiny"](), rotation=find_drawn(CATEGORY).rotation)
    category = draw_category(CATEGORY, config.image_size, COUNTS)
    number = list(category.defects).index(DEFECT)
    generator = torch.Generator().manual_seed(config.seed)
    textures = procedural_textures(256, config.image_size, generator)
    model = DeSTSeg(load_teacher("builtin"), config.model, generator)
    recording = record_training(
        move_to_device(model, resolve_device()),
        TrainingImages(category.train, textures),
        config,
        category.test[number],
        category.masks[number].astype(bool),
    )
    recording.save(SHIPPED)
    aps = np.c_[recording.steps, recording.distance_product_ap, recording.final_map_ap]
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size:,} bytes; steps and pixel AP of both maps:")
    print(aps.round(3))


if __name__ == "__main__":
    main()
