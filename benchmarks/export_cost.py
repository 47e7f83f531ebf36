"""What predicting in another way than torch in fp32 costs: image AUROC, pixel AP and scores moved.

Each shipped model, on the drawn test set of its category. Nothing is timed. With photographs, also
how far the file in fp32 is from torch on them: the largest difference in a map and in a score.

Run: ``python benchmarks/export_cost.py [--photographs FOLDER ...] [--json FILE]``; a minute.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import command_line, report, runtimes
from numpy.typing import NDArray
from prediction import exported_contents
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category, find_images
from destseg_lib.images.load import load_images
from destseg_lib.images.read import read_mask
from destseg_lib.metrics import anomaly_metrics, image_scores
from destseg_lib.runs.exported import AnyRun, ExportedRun, open_with
from destseg_lib.runs.run import Run
from destseg_lib.runs.shipped import load_pretrained, pretrained_names

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Answers:
    """Of N images: final maps (N, 256, 256) and scores (N,)."""

    maps: NDArray[np.float32]
    scores: NDArray[np.float64]


def answers(run: AnyRun, pixels: NDArray[np.uint8]) -> Answers:
    maps = np.concatenate([batch.final for batch in run.maps(pixels)])
    return Answers(maps, image_scores(maps, TOP_PIXELS))


def in_precision(run: Run, precision: str) -> Run:
    return replace(run, config=replace(run.config, precision=precision), emulate=True)


def test_set(
    name: str, size: int, counts: ImageCounts
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The drawn test images of a category as ``destseg evaluate`` reads them, and their masks."""
    with tempfile.TemporaryDirectory() as folder:
        category = find_category(write_category(name, Path(folder), counts=counts, progress=False))
        pixels = load_images([image.path for image in category.test], size, progress=False).pixels
        good = np.zeros((METRIC_SIZE, METRIC_SIZE), np.uint8)
        masks = [
            good if image.mask is None else read_mask(image.mask, METRIC_SIZE).pixels
            for image in category.test
        ]
    return pixels, np.stack(masks)


def cost(reference: Answers, found: Answers, masks: NDArray[np.uint8]) -> dict[str, float]:
    """Metrics of the answers, and the largest distances to those of the reference."""
    metrics = anomaly_metrics(found.maps, masks)
    return {
        "image_auroc": metrics["image_auroc"],
        "pixel_ap": metrics["pixel_ap"],
        "largest_change_of_a_score": float(np.abs(found.scores - reference.scores).max()),
        "largest_change_of_a_map": float(np.abs(found.maps - reference.maps).max()),
    }


def variants(run: Run) -> dict[str, tuple[AnyRun, int | None]]:
    """Every way to predict and the bytes of its file; one whose package is missing is left out."""
    found: dict[str, tuple[AnyRun, int | None]] = {"torch, bf16": (in_precision(run, "bf16"), None)}
    contents = exported_contents(run)
    ways = [(f"ONNX Runtime, {weights} weights", "onnxruntime", weights) for weights in contents]
    for way, runtime, weights in (*ways, ("OpenVINO, bf16", "openvino", "fp32")):
        content = contents[weights]
        try:
            compute = open_with(runtime, content, "bf16")
        except DeSTSegError as error:
            print(f"left out: {error}")
            continue
        found[way] = ExportedRun(compute, run.config, run.teacher_name, ()), len(content)
    return found


def cost_of_model(name: str, photographs: list[Path], counts: ImageCounts) -> dict[str, Any]:
    """All variants of a shipped model against torch in fp32."""
    run = load_pretrained(name, CPU)
    pixels, masks = test_set(name, run.config.image_size, counts)
    exact = in_precision(run, "fp32")
    reference = answers(exact, pixels)
    rows = {"torch, fp32": cost(reference, reference, masks)}
    on_photographs = {}
    ways = variants(run)
    for way, (other, size) in tqdm(ways.items(), desc=name, unit="variant"):
        rows[way] = cost(reference, answers(other, pixels), masks)
        if size is not None:
            rows[way]["bytes"] = size
    exported = ways["ONNX Runtime, fp32 weights"][0]
    for place in photographs:
        taken = load_images(find_images([place]), run.config.image_size, progress=False).pixels
        there, here = answers(exported, taken), answers(exact, taken)
        on_photographs["/".join(place.absolute().parts[-2:])] = {
            "images": len(taken),
            "map": float(np.abs(there.maps - here.maps).max()),
            "score": float(np.abs(there.scores - here.scores).max()),
        }
    return {"images": len(pixels), "variants": rows, "fp32_on_photographs": on_photographs}


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--photographs", type=Path, nargs="*", default=[], metavar="FOLDER")
    add("--model", choices=pretrained_names(), action="append", help="default: every shipped one")
    add("--images", type=int, help="test images of each kind; default: the whole test set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = ImageCounts(train=1)
    if options.images:
        counts = replace(counts, good=options.images, defective=options.images)
    found = {
        name: cost_of_model(name, options.photographs, counts)
        for name in options.model or pretrained_names()
    }
    record = {
        "what": "each shipped model on the test set drawn of its category, at the size that it was "
        "trained at; changes are from torch in fp32",
        "runtimes": runtimes(),
        "models": found,
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
