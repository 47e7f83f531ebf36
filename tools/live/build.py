"""Write what the live page loads: the runtime, the models, examples and thresholds.

Everything goes into _vendor/static/live, which is not committed. A file is packed with gzip,
written in base64, and cut into scripts of a megabyte: a page opened from disk may load scripts
and nothing else, and a reader sees how far the loading is.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.evaluation.browser import (
    COMPUTING,
    classic_script,
    limits,
    map_names,
    packed,
    part_script,
    sizes,
    styles,
    thresholds_of,
)
from destseg_lib.runs.halves import Answer, Halves, export_halves, open_halves
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.runs.web_runtime import web_runtime
from destseg_lib.threshold import Threshold
from destseg_lib.widgets.live import as_data
from tools.live.strokes import STROKES, paint

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "_vendor"
LIVE = VENDOR / "static" / "live"
RECORD = ROOT / "results" / "live" / "strokes.json"

CATEGORIES = ("metal", "connector", "component")  # of those that ship, the best found first
# On three categories int8 moves AUROC by at most 0.007 and halves the bytes of fp16. Scores move
# too, so thresholds are of the very files.
WEIGHTS = "int8"
FPR, CALIBRATION, CALIBRATION_SEED = 0.01, 200, 6
EXAMPLES, EXAMPLES_SEED = 6, 8
DRAWN_AT = 256  # as the models' training images were, before they were reduced to 128

Picture = NDArray[np.uint8]


def main() -> None:
    """Write everything; models that are there already are kept."""
    made, wanted = LIVE / "made.json", fingerprint()
    known = json.loads(made.read_text(encoding="utf-8")) if made.is_file() else {}
    if known.get("fingerprint") != wanted:
        known = {"fingerprint": wanted, **write_models()}
        made.write_text(json.dumps(known), encoding="utf-8")
    write_page_script(known)


def write_models() -> dict[str, Any]:
    """Export, pack and calibrate; what the page must know of the files."""
    print("Exporting the models of the live page, with thresholds of 200 pictures each ...")
    shutil.rmtree(LIVE, ignore_errors=True)
    LIVE.mkdir(parents=True)
    torch.set_num_threads(1)
    files = web_runtime(VENDOR / "onnxruntime")
    categories, described = [], {}
    for name in CATEGORIES:
        run = load_pretrained(name, torch.device("cpu"))
        halves = export_halves(run, WEIGHTS)
        files["teacher.onnx"] = halves.teacher  # the same each time
        files[f"{name}.onnx"] = halves.rest
        files[f"{name}.json"] = json.dumps(examples(name)).encode()
        answer, model = open_halves(halves), run.config.model
        found = limits(model, thresholds(name, answer))
        categories.append({"name": name, "file": name, **found})
        described = {"side": run.config.image_size, "white": run.white_level, **map_names(model)}
        if name == CATEGORIES[0]:
            write_recording(name, answer)
    parts = {key: p for name, content in files.items() for key, p in packed(name, content).items()}
    for key, part in parts.items():
        (LIVE / f"{key}.js").write_text(part_script(key, part), encoding="ascii")
    calibration = {"pictures": CALIBRATION, "fpr": FPR}
    packs = sizes(parts)
    return {"packs": packs, "categories": categories, "calibration": calibration, **described}


def fingerprint() -> str:
    """A hash of all that the written files depend on; if it changes, they are written again."""
    files = [Path(__file__), Path(__file__).with_name("strokes.py"), VENDOR / "stamp"]
    files += sorted((ROOT / "destseg_lib").rglob("*.safetensors"))
    for part in (".", "runs", "drawn"):
        files += sorted((ROOT / "destseg_lib" / part).glob("*.py"))
    files.append(ROOT / "destseg_lib" / "evaluation" / "browser.py")
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def unpack(name: str) -> bytes:
    """Read a file back from its scripts."""
    scripts = sorted(LIVE.glob(f"{name}.*.js"), key=lambda path: int(path.name.split(".")[-2]))
    text = "".join(path.read_text(encoding="ascii").split('"')[3] for path in scripts)
    return gzip.decompress(base64.b64decode(text))


def shipped_answer(category: str) -> Callable[[Picture], Answer]:
    """What the page computes, from the very files that it loads, in Python."""
    return open_halves(Halves(unpack("teacher.onnx"), unpack(f"{category}.onnx")))


def good_pictures(category: str, number: int, seed: int) -> Picture:
    """Good drawn examples (N, 128, 128, 3), reduced as ``read_image`` reduces a file."""
    drawn = draw_category(category, DRAWN_AT, ImageCounts(0, number, 0), seed, progress=False)
    return np.stack([reduced(image) for image in drawn.test])


def reduced(image: Picture) -> Picture:
    """A picture at 128 pixels."""
    return np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR))


def thresholds(category: str, answer: Callable[[Picture], Answer]) -> list[Threshold]:
    """For each of the five maps, the score that 1 % of good pictures exceed."""
    return thresholds_of(answer, good_pictures(category, CALIBRATION, CALIBRATION_SEED), FPR)


def examples(category: str) -> dict[str, list[dict[str, str]]]:
    """Good examples, and one of each drawn defect with its truth, as ``data:`` pictures."""
    counts = ImageCounts(0, EXAMPLES, 1)
    drawn = draw_category(category, DRAWN_AT, counts, EXAMPLES_SEED, progress=False)
    good: list[dict[str, str]] = []
    defects: list[dict[str, str]] = []
    for image, mask, kind in zip(drawn.test, drawn.masks, drawn.defects, strict=True):
        entry = {"picture": as_data(reduced(image))}
        if kind == "good":
            good.append(entry)
        else:
            truth = Image.fromarray(mask).resize((128, 128), Image.Resampling.NEAREST)
            defects.append(
                entry | {"truth": as_data(np.asarray(truth)), "name": kind.replace("_", " ")}
            )
    return {"good": good, "defects": defects}


def write_recording(category: str, answer: Callable[[Picture], Answer]) -> None:
    """A film of a line that grows, with its map: what a browser that cannot compute shows."""
    picture = good_pictures(category, 1, EXAMPLES_SEED)[0]
    line = next(stroke for stroke in STROKES if stroke.name == "dark line of 3")
    after = paint(picture, line, np.random.default_rng(3))
    changed = np.abs(after.astype(int) - picture).max(axis=2) > 0
    columns = np.flatnonzero(changed.any(axis=0))
    frames = []
    for end in np.linspace(columns[0], columns[-1] + 1, 12).astype(int):
        shown = np.where(np.arange(128)[None, :, None] < end, after, picture)
        answered = answer(shown)
        coloured = colormaps["viridis"](answered.maps[0], bytes=True)[..., :3]
        both = Image.new("RGB", (520, 256), "white")
        both.paste(Image.fromarray(shown).resize((256, 256), Image.Resampling.BICUBIC), (0, 0))
        both.paste(Image.fromarray(coloured), (264, 0))
        frames.append(both)
    frames[0].save(
        LIVE / "recording.webp", save_all=True, append_images=frames[1:] + frames[-1:] * 4,
        duration=250, loop=1, quality=80,
    )  # fmt: skip


def write_page_script(known: dict[str, Any]) -> None:
    """The element as one classic script, as a page opened from disk may not import modules."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))["categories"]
    categories = [one | {"found": record[one["name"]]} for one in known["categories"]]
    element = classic_script(*COMPUTING, "live_easel", "live")
    data = json.dumps(known | {"categories": categories})
    text = f"(() => {{\n{element}\nstart({data});\n}})();\n"
    (LIVE / "live.js").write_text(text, encoding="utf-8")
    (LIVE / "live.css").write_text(styles("live"), encoding="utf-8")


if __name__ == "__main__":
    main()
