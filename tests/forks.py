"""The process of killable.py, seen from a test: commands in forks, and small data for them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from destseg_lib.runs.halves import export_halves
from destseg_lib.runs.run import load_run
from destseg_lib.runs.web_runtime import FILES

TESTS = Path(__file__).resolve().parent
# Every case and every moment, minutes more; without it a third of them, the same ones each time.
THOROUGH = bool(os.environ.get("THOROUGH"))

Fork = Callable[..., tuple[int, str]]  # of a command and a job's other fields to status and output


@contextmanager
def forking() -> Iterator[Fork]:
    """Yield a function that runs a command in a fork."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, TESTS / "killable.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=TESTS.parent,
    )
    assert process.stdin is not None and process.stdout is not None

    def run(arguments: list[str], log: Path, **job: Any) -> tuple[int, str]:
        assert process.stdin is not None and process.stdout is not None
        log.unlink(missing_ok=True)
        line = {"arguments": arguments, "log": str(log), "moment": {}, "file_limit": None, **job}
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return status, log.read_text(errors="replace")

    yield run
    process.stdin.close()
    process.wait(timeout=30)


def photograph(path: Path, seed: int) -> None:
    """A small picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def category(root: Path, *, masks: bool = True) -> Path:
    """Two good images, and a good and a defective test image, in MVTec AD's layout."""
    for n, name in enumerate(("train/good/0", "train/good/1", "test/good/0", "test/hole/0")):
        photograph(root / f"{name}.png", n)
    if masks:
        mask = np.zeros((32, 40), np.uint8)
        mask[8:16, 8:20] = 255
        (root / "ground_truth" / "hole").mkdir(parents=True)
        Image.fromarray(mask).save(root / "ground_truth" / "hole" / "0_mask.png")
    return root


def archive(path: Path) -> Path:
    """An archive in the form of the Describable Textures'."""
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("dtd/images/a.png")
        info.size = 2000
        tar.addfile(info, io.BytesIO(b"a" * 2000))
    return path


def exported(folder: Path, run: Path) -> Path:
    """What ``destseg page`` makes of a run before it writes: graphs, with a runtime of no use."""
    halves = export_halves(load_run(run, torch.device("cpu")), "int8")
    folder.mkdir()
    (folder / "teacher.onnx").write_bytes(halves.teacher)
    (folder / "rest.onnx").write_bytes(halves.rest)
    for name in FILES:
        (folder / name).write_text(name)
    return folder


TINY = (
    *("--recipe", "tiny", "--teacher", "random"),
    *("--image-size", "32", "--batch-size", "2", "--width", "0.0625"),
    *("--student-steps", "1", "--segmentation-steps", "1", "--device", "cpu", "--quiet"),
)


def study(path: Path, data: Path, textures: Path) -> Path:
    """A study of one run."""
    settings = {
        "image_size": 32, "batch_size": 2, "model.width": 0.0625, "student.steps": 1,
        "segmentation.steps": 1, "precision": "fp32", "teacher": "random",
        "textures": str(textures),
    }  # fmt: skip
    lines = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in settings.items())
    head = f"categories = [{json.dumps(str(data))}]\nseeds = [0]\n[settings]\n"
    path.write_text(f"{head}{lines}\n[variants.whole]\n")
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every entry below a folder: a file's hash, or where a link leads."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place) / name
            kind = "folder" if path.is_dir() else "other"
            if path.is_symlink():
                kind = f"link to {path.readlink()}"
            elif path.is_file():
                kind = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = kind
    return found
