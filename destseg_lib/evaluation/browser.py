"""A trained model in a browser: scripts, and files packed as text that a page from disk may load.

A file is packed with gzip, written in base64, and cut into parts of a megabyte, so that a reader
sees how far the loading is.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from destseg_lib.config import ModelConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.halves import Answer, export_halves, open_halves
from destseg_lib.runs.quantise import Weights
from destseg_lib.runs.run import Run
from destseg_lib.threshold import Threshold, place_of, threshold_at

SCRIPTS = Path(__file__).parent.parent / "widgets"
EXPORT = "export default { render };"  # the only word of a module in the elements' scripts
PART = 1_000_000  # letters, a multiple of 4
COMPUTING = ("live_worker", "live_model")  # the scripts of everything that computes


@dataclass(frozen=True)
class PackedRun:
    """A run as a browser takes it.

    Attributes:
        data: plain values that the scripts work with.
        parts: the text of each part of each file, by the file's name and the part's number.
        threshold: of the final map.
    """

    data: dict[str, Any]
    parts: dict[str, str]
    threshold: Threshold


def script(*names: str) -> str:
    """The module of one element: the shared part and its own."""
    parts = [(SCRIPTS / f"{file}.js").read_text(encoding="utf-8") for file in ("core", *names)]
    return "\n".join(parts)


def classic_script(*names: str) -> str:
    """The same as a script that is no module: a page from disk may not import any."""
    return script(*names).replace(EXPORT, "")


def styles(*names: str) -> str:
    """The style sheet of an element."""
    files = [(SCRIPTS / f"{name}.css").read_text(encoding="utf-8") for name in ("core", *names)]
    return "\n".join(files)


def packed(name: str, content: bytes) -> dict[str, str]:
    """A file as text: its parts, by its name and their numbers, ``model.onnx.0`` and so on."""
    text = base64.b64encode(gzip.compress(content, compresslevel=9, mtime=0)).decode()
    starts = range(0, len(text), PART)
    return {f"{name}.{n}": text[start : start + PART] for n, start in enumerate(starts)}


def part_script(key: str, part: str) -> str:
    """A script that leaves one part behind for the page that loads it."""
    return f'(self.destsegParts ??= {{}})["{key}"] = "{part}";\n'


def sizes(parts: dict[str, str]) -> dict[str, dict[str, int]]:
    """For each file the number of its parts, and their letters in all."""
    found: dict[str, dict[str, int]] = {}
    for key, part in parts.items():
        size = found.setdefault(key.rpartition(".")[0], {"parts": 0, "bytes": 0})
        size["parts"] += 1
        size["bytes"] += len(part)
    return found


def packed_run(
    run: Run,
    name: str,
    good: NDArray[np.uint8],
    runtime: dict[str, bytes],
    *,
    weights: Weights = "fp16",
    fpr: float | None = None,
    more: dict[str, bytes] | None = None,
) -> PackedRun:
    """Export a run for the browser, with thresholds of the very graphs that it will compute.

    Args:
        run: on the CPU.
        name: of what it inspects, as the page calls it.
        good: images (N, S, S, 3) that were not trained on, to find the thresholds on. The run's
            own scores will not do: fewer bits move scores, and so does training in bf16.
        runtime: the files of ``web_runtime``.
        weights: how the graphs store them.
        fpr: false-positive rate of the thresholds, as ``threshold_at`` takes it.
        more: files to pack with the others.

    Raises:
        DeSTSegError: a package is missing, the rate cannot be resolved, the run looks at a part or
            at tiles, or the graphs give other answers than torch.
    """
    if run.config.crop is not None or run.config.tiles > 1:
        raise DeSTSegError(
            "this run looks at a part of each photograph, or at tiles of it, and a page in the "
            "browser at the whole; train one without --crop and --tiles for it"
        )
    if fpr is not None:
        place_of(fpr, len(good))  # before the work
    halves = export_halves(run, weights)
    thresholds = thresholds_of(open_halves(halves), good, fpr)
    files = {**runtime, "teacher.onnx": halves.teacher, "model.onnx": halves.rest, **(more or {})}
    parts = {key: p for file, content in files.items() for key, p in packed(file, content).items()}
    category = {"name": name, "file": "model", **limits(run.config.model, thresholds)}
    data = {
        "packs": sizes(parts),
        "side": run.config.image_size,
        "white": run.white_level,
        "categories": [category],
        "calibration": {"pictures": len(good), "fpr": thresholds[0].fpr},
        **map_names(run.config.model),
    }
    return PackedRun(data, parts, thresholds[0])


def thresholds_of(
    answer: Callable[[NDArray[np.uint8]], Answer], good: NDArray[np.uint8], fpr: float | None
) -> list[Threshold]:
    """The threshold of each map on good images (N, S, S, 3), as ``threshold_at`` finds it."""
    scores = np.array([answer(picture).scores for picture in good])
    found = [threshold_at(column, fpr) for column in scores.T]
    return [threshold for threshold in found if threshold is not None]


def limits(model: ModelConfig, thresholds: Sequence[Threshold]) -> dict[str, list[float]]:
    """The thresholds of a model's maps, and the values that are painted brightest."""
    values = [threshold.value for threshold in thresholds]
    scales = [3 * value for value in values]  # distances have no natural top
    return {"thresholds": values, "scales": [1.0 if model.segmentation else scales[0], *scales[1:]]}


def map_names(model: ModelConfig) -> dict[str, Any]:
    """What a page must know of a model to name its maps."""
    return {
        "levels": list(model.levels),
        "segmentation": model.segmentation,
        "rule": model.student_map,
    }
