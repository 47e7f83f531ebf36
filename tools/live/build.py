"""Write what the live page loads: the runtime, the models, examples and thresholds.

Everything goes into _vendor/static/live, which is not committed. A file is packed with gzip,
written in base64, and cut into scripts of a megabyte: a page opened from disk may load scripts
and nothing else, and a reader sees how far the loading is.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
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
from destseg_lib.runs.halves import Answer, Halves, export_halves, open_halves
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.threshold import threshold_at
from destseg_lib.widgets.element import FOLDER, script
from tools.live.strokes import STROKES, paint

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "_vendor"
LIVE = VENDOR / "static" / "live"
RECORD = ROOT / "results" / "live" / "strokes.json"

CATEGORIES = ("metal", "connector", "component")  # of those that ship, the best found first
RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# On three categories int8 moves AUROC by at most 0.007 and halves the bytes of fp16. Scores move
# too, so thresholds are of the very files.
WEIGHTS = "int8"
FPR, CALIBRATION, CALIBRATION_SEED = 0.01, 200, 6
EXAMPLES, EXAMPLES_SEED = 6, 8
DRAWN_AT = 256  # as the models' training images were, before they were reduced to 128
EXPORT = "export default { render };"  # the only word of a module in the elements' scripts
PART = 1_000_000  # letters of a script, a multiple of 4

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
    packs = {name: pack(name, (VENDOR / "onnxruntime" / name).read_bytes()) for name in RUNTIME}
    categories = []
    for name in CATEGORIES:
        halves = export_halves(load_pretrained(name, torch.device("cpu")), WEIGHTS)
        packs["teacher.onnx"] = pack("teacher.onnx", halves.teacher)  # the same each time
        packs[f"{name}.onnx"] = pack(f"{name}.onnx", halves.rest)
        pictures = json.dumps(examples(name)).encode()
        packs[f"{name}.json"] = pack(f"{name}.json", pictures)
        answer = open_halves(halves)
        categories.append({"name": name, "thresholds": thresholds(name, answer)})
        if name == CATEGORIES[0]:
            write_recording(name, answer)
    return {"packs": packs, "categories": categories, "calibration": CALIBRATION}


def fingerprint() -> str:
    """A hash of all that the written files depend on; if it changes, they are written again."""
    files = [Path(__file__), Path(__file__).with_name("strokes.py"), VENDOR / "stamp"]
    files += sorted((ROOT / "destseg_lib").rglob("*.safetensors"))
    for part in (".", "runs", "drawn"):
        files += sorted((ROOT / "destseg_lib" / part).glob("*.py"))
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def pack(name: str, content: bytes) -> dict[str, int]:
    """Write a file as scripts; their number and their letters in all."""
    text = base64.b64encode(gzip.compress(content, compresslevel=9, mtime=0)).decode()
    parts = [text[at : at + PART] for at in range(0, len(text), PART)]
    for number, part in enumerate(parts):
        key = f"{name}.{number}"
        line = f'(self.destsegParts ??= {{}})["{key}"] = "{part}";\n'
        (LIVE / f"{key}.js").write_text(line, encoding="ascii")
    return {"parts": len(parts), "bytes": len(text)}


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


def thresholds(category: str, answer: Callable[[Picture], Answer]) -> list[float]:
    """For each of the five maps, the score that 1 % of good pictures exceed."""
    good = good_pictures(category, CALIBRATION, CALIBRATION_SEED)
    scores = np.array([answer(picture).scores for picture in good])
    found = [threshold_at(column, FPR) for column in scores.T]
    return [threshold.value for threshold in found if threshold is not None]


def examples(category: str) -> dict[str, list[dict[str, str]]]:
    """Good examples, and one of each drawn defect with its truth, as ``data:`` pictures."""
    counts = ImageCounts(0, EXAMPLES, 1)
    drawn = draw_category(category, DRAWN_AT, counts, EXAMPLES_SEED, progress=False)
    good: list[dict[str, str]] = []
    defects: list[dict[str, str]] = []
    for image, mask, kind in zip(drawn.test, drawn.masks, drawn.defects, strict=True):
        entry = {"picture": as_data(Image.fromarray(reduced(image)))}
        if kind == "good":
            good.append(entry)
        else:
            truth = Image.fromarray(mask).resize((128, 128), Image.Resampling.NEAREST)
            defects.append(entry | {"truth": as_data(truth), "name": kind.replace("_", " ")})
    return {"good": good, "defects": defects}


def as_data(image: Image.Image) -> str:
    """A picture as a PNG within an address; a file next to the page could not be read from disk."""
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


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
    element = script("live_worker", "live_easel", "live").replace(EXPORT, "")
    data = json.dumps(known | {"categories": categories})
    text = f"(() => {{\n{element}\nstart({data});\n}})();\n"
    (LIVE / "live.js").write_text(text, encoding="utf-8")
    styles = [(FOLDER / name).read_text(encoding="utf-8") for name in ("core.css", "live.css")]
    (LIVE / "live.css").write_text("\n".join(styles), encoding="utf-8")


if __name__ == "__main__":
    main()
