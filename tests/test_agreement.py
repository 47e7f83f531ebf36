"""A chapter agrees with the library because it looks: break the library, and the chapter turns red.

Each chapter is run up to its last cell tagged ``agreement``, once as it is and once for each of the
library's functions that it compares with, spoilt by a few per cent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each chapter builds in view and then compares with the library's own.
COMPARED: dict[str, tuple[str, ...]] = {
    "01_never_seen": ("metrics.image_scores", "metrics.image_auroc"),
    "02_measuring": (
        *(
            f"metrics.{name}"
            for name in (
                "label_regions", "image_scores", "image_auroc", "roc", "pro", "precision",
                "instance_precision", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap_at",
            )
        ),
        "threshold.place_of",
    ),
    "03_teacher": (
        "teacher.normalise", "teacher.Teacher", "resnet.ResNetTrunk", "losses.cosine_distance",
    ),
    "04_student_teacher": (
        "losses.cosine_distance", "losses.feature_loss", "training.student_phase_loss",
        "student.Student",
    ),
    "05_synthetic_anomalies": (
        "corruption.fade", "corruption.perlin_noise", "corruption.rotate",
        "corruption.perlin_masks", "corruption.blend", "corruption.corrupt",
        "corruption.shrink_masks", "batches.draw_batch",
    ),
    "06_denoising_student": (
        "student.Student", "losses.feature_loss", "training.student_phase_loss",
    ),
    "07_fusion": (
        "fusion.fuse", "segmentation.ASPP", "losses.focal_loss", "losses.l1_loss",
        "losses.segmentation_loss",
    ),
}  # fmt: skip

PROGRAM = '''
import importlib, os, sys, traceback
import matplotlib
matplotlib.use("agg")
import nbformat, numpy as np, torch
import destseg_lib, destseg_lib.widgets, destseg_lib.model, destseg_lib.runs.shipped

chapter, *targets = sys.argv[1:]
cells = [c for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == "code"]
last = max(n for n, c in enumerate(cells) if "agreement" in c.metadata.get("tags", []))


def spoilt(value):
    """Off by a little wherever it holds fractions; whole numbers are off by one."""
    if isinstance(value, torch.nn.Module | str | bytes | os.PathLike) or value is None:
        return value
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, torch.Tensor):
        return value * 1.05 + 0.01 if value.is_floating_point() else value
    if isinstance(value, np.ndarray):
        if value.dtype == bool:
            return ~value
        return value * 1.05 + 0.01 if value.dtype.kind == "f" else value
    if isinstance(value, float | np.floating):
        return value * 1.05 + 0.01
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return {k: spoilt(v) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(spoilt, value))
    if isinstance(value, list | tuple):
        return type(value)(map(spoilt, value))
    return value


def broken(function):
    def wrapper(*arguments, **named):
        return spoilt(function(*arguments, **named))
    return wrapper


def run(target):
    """0 if every agreement holds, 1 if one does not, 2 for any other failure."""
    torch.set_num_threads(1)
    if target:
        module, _, name = target.rpartition(".")
        module = importlib.import_module("destseg_lib." + module)
        found = getattr(module, name)
        if isinstance(found, type) and issubclass(found, torch.nn.Module):
            found.forward = broken(found.forward)
        else:
            setattr(module, name, broken(found))
    space = {"__name__": "__main__", "get_ipython": lambda: None, "display": lambda *_: None}
    for cell in cells[: last + 1]:
        try:
            exec(compile(cell.source, cell.id, "exec"), space)
        except AssertionError:
            agrees = "agreement" in cell.metadata.get("tags", [])
            print(target or "unbroken", "stopped at", cell.id, file=sys.stderr)
            return 1 if agrees else 2
        except Exception:
            traceback.print_exc()
            print(target or "unbroken", "failed at", cell.id, file=sys.stderr)
            return 2
    return 0


# One import for all: a fork of this process costs a tenth of a new one.
for target in ["", *targets]:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            sys.stdout = open(os.devnull, "w")
            code = run(target)
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("RESULT", target or "unbroken", status, flush=True)
'''


def results(notebook: Path, targets: tuple[str, ...]) -> tuple[dict[str, int], str]:
    """Exit codes by what was broken, and what was said on the way."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    )}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(notebook), *targets],
        cwd=ROOT / "book", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {name: int(code) for _, name, code in lines}, done.stderr


def test_every_chapter_of_the_method_is_compared_with_the_library():
    chapters = {p.stem for p in (ROOT / "book").glob("0[1-7]_*.ipynb")}
    assert set(COMPARED) == chapters
    assert all(len(targets) >= 2 for targets in COMPARED.values())


@pytest.mark.slow
@pytest.mark.parametrize("chapter", COMPARED)
def test_a_broken_library_turns_its_chapter_red(chapter):
    found, said = results(ROOT / "book" / f"{chapter}.ipynb", COMPARED[chapter])
    assert found.pop("unbroken") == 0, said[-3000:]
    assert found == dict.fromkeys(COMPARED[chapter], 1), said[-3000:]
