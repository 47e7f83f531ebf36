"""Compare the results of two checkouts on this machine, bit for bit, as after a refactoring.

In each checkout the same things are made: images of every drawn category, the weights and the
records of a tiny training, metrics of fixed random maps, and the maps and scores of the models that
ship. What is compared are digests; none is kept, because other machines and versions of PyTorch
round differently.

Run: ``python experiments/same_results.py OLD NEW``; minutes. It ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

DRAWN = ("--size", "128", "--train", "8", "--good", "2", "--defective", "2")
TRAINED = ("--image-size", "64", "--batch-size", "4", "--student-steps", "3")
TRAINED += ("--segmentation-steps", "3", "--holdout", "0.25", "--recipe", "tiny")
ALIKE = ("--precision", "fp32", "--device", "cpu", "--teacher", "builtin")
MACHINE = {"provenance", "seconds"}  # of a record; they differ from run to run


def digest(*arrays: Any) -> str:
    """A short hash of types, shapes and bits."""
    found = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        found.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:12]


def from_library(name: str, *modules: str) -> Any:
    """An object of the library, from the first of these modules that has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"destseg_lib.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"the library has {name} in none of {', '.join(modules)}")


def command(*words: object) -> None:
    """Run a command of the library in this process."""
    with redirect_stdout(sys.stderr):
        status = from_library("main", "cli", "cli.main")([*map(str, words), "--quiet"])
    if status:
        raise SystemExit(f"destseg {words[0]} ended with {status}")


def drawn_images(world: Path) -> Iterator[tuple[str, str]]:
    """Draw all categories; good images and each defect, with the masks."""
    command("make-data", "--out", world, *DRAWN)
    for folder in sorted({path.parent for path in world.rglob("*.png")}):
        pixels = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
        yield f"drawn {folder.relative_to(world)}", digest(*pixels)


def tiny_training(data: Path, run: Path) -> Iterator[tuple[str, str]]:
    """Train both phases for a few steps and evaluate; weights, records, metrics."""
    command("train", "--data", data, "--out", run, *TRAINED, *ALIKE)
    for name, tensor in load_file(run / "model.safetensors").items():
        yield f"trained {name}", digest(tensor.numpy())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    yield "trained: log", text_digest(lines)
    yield "trained: calibration", text_digest(json.loads((run / "calibration.json").read_text()))
    command("evaluate", "--run", run, "--data", data, "--json", run / "evaluation.json")
    yield "evaluated", text_digest(json.loads((run / "evaluation.json").read_text()))


def text_digest(value: Any) -> str:
    """The digest of plain values without what depends on the machine and the time."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if key not in MACHINE}
        return [kept(one) for one in value] if isinstance(value, list) else value

    return digest(np.frombuffer(json.dumps(kept(value), sort_keys=True).encode(), np.uint8))


def random_maps() -> Iterator[tuple[str, str]]:
    """Metrics of fixed random maps, with ties and without."""
    random = np.random.default_rng(0)
    masks = np.kron(random.random((12, 8, 8)) < 0.1, np.ones((8, 8))).astype(bool)
    masks[:3] = False
    maps = (random.random(masks.shape) + 0.3 * masks).astype(np.float32)
    for name, given in (("", maps), (", with ties", maps.round(1))):
        found = from_library("anomaly_metrics", "metrics")(given, masks)
        for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap90"):
            value = found[key] if isinstance(found, dict) else getattr(found, key)
            yield f"metric {key}{name}", repr(value)


def shipped_models(world: Path) -> Iterator[tuple[str, str]]:
    """Maps and scores of each model that ships, on drawn images."""
    places = ("runs.shipped", "pretrained")
    scores_of = from_library("image_scores", "metrics")
    for name in from_library("pretrained_names", *places)():
        model = from_library("load_pretrained", *places)(name, torch.device("cpu")).model
        files = sorted((world / name / "test").rglob("*.png"))
        pixels = np.stack([np.asarray(Image.open(file)) for file in files])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
        with torch.no_grad():
            maps = model(from_library("normalise", "teacher")(images))
        yield f"shipped {name}: final", digest(maps.final.numpy())
        yield f"shipped {name}: student", digest(maps.student.numpy())
        yield f"shipped {name}: scores", digest(scores_of(maps.final[:, 0].numpy(), 100))


def probe() -> dict[str, str]:
    """Everything that is compared, of the library that is imported here."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        world, run = Path(name, "world"), Path(name, "run")
        parts = (
            drawn_images(world),
            random_maps(),
            tiny_training(world / "nut", run),
            shipped_models(world),
        )
        return {key: value for part in parts for key, value in part}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="CHECKOUT", help="two of them")
    given = parser.parse_args()
    if not given.checkouts:  # in the process of one checkout
        print(json.dumps(probe()))
        return
    if len(given.checkouts) != 2:
        parser.error("give two checkouts, the old one and the new one")
    found = []
    for checkout in given.checkouts:
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"the library in {checkout} failed; its message is above")
        found.append(json.loads(done.stdout))
    old, new = found
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    for name in {**old, **new}:
        print(f"{'different' if name in differing else 'same':10} {name}")
    print(f"{len({**old, **new}) - len(differing)} same, {len(differing)} different")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
