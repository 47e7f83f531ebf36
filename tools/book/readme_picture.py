"""Write book/static/readme.jpg, the first picture of the README: a shipped model at work.

Run: ``python tools/book/readme_picture.py``. It needs no download and takes some seconds.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.evaluation.pictures import HEAT, outline
from destseg_lib.model import predict_maps
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.threshold import threshold_at

CATEGORY, DEFECT, NUMBER = "metal", "rust", 0
PICTURE = Path(__file__).resolve().parents[2] / "book" / "static" / "readme.jpg"


def main() -> None:
    """Draw one defective image, find its defect and show both in a row of four panels."""
    run = load_pretrained(CATEGORY, torch.device("cpu"))
    drawn = draw_category(CATEGORY, 256, ImageCounts(0, 0, NUMBER + 1), progress=False)
    index = drawn.defects.index(DEFECT) + NUMBER
    photograph, side = drawn.test[index], run.config.image_size
    small = np.asarray(Image.fromarray(photograph).resize((side, side), Image.Resampling.BILINEAR))
    (maps,) = predict_maps(run.model, small[None], precision="fp32", progress=False)
    anomaly_map, threshold = maps.final[0], threshold_at(run.calibration_scores, None)
    assert threshold is not None, "the shipped model has no good images to calibrate on"
    panels = {
        "photograph": photograph,
        "truth": drawn.masks[index],
        "anomaly map": anomaly_map,
        "outline": outline(photograph, anomaly_map, threshold.value),
    }
    figure = Figure(figsize=(10, 2.75), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(picture, cmap=HEAT if title == "anomaly map" else "gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, dpi=128, format="png")
    Image.open(file).convert("RGB").save(PICTURE, quality=88, optimize=True)


if __name__ == "__main__":
    main()
