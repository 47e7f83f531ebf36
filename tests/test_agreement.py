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

# The functions that each chapter builds in view and then compares with the library's own.
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
        "corruption.shrink_masks",
    ),
    "06_denoising_student": (
        "student.Student", "losses.feature_loss", "training.student_phase_loss",
    ),
    "07_fusion": ("fusion.distance_map", "fusion.fuse"),
    "07b_network": (
        "segmentation.ASPP", "losses.focal_loss", "losses.l1_loss", "losses.segmentation_loss",
    ),
    "08_training": ("batches.draw_batch", "corruption.shrink_masks"),
}  # fmt: skip


def results(notebook: Path, targets: tuple[str, ...]) -> tuple[dict[str, int], str]:
    """Results by the function that was spoilt, and the messages."""
    program = ROOT / "tests" / "spoil_library.py"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, program, notebook, *targets],
        cwd=ROOT / "book", capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {name: int(code) for _, name, code in lines}, done.stderr


def test_every_chapter_of_the_method_is_compared_with_the_library():
    chapters = {p.stem for p in (ROOT / "book").glob("0[1-8]*.ipynb")}
    assert set(COMPARED) == chapters
    assert all(len(targets) >= 2 for targets in COMPARED.values())


@pytest.mark.slow
@pytest.mark.parametrize("chapter", COMPARED)
def test_a_broken_library_turns_its_chapter_red(chapter):
    found, messages = results(ROOT / "book" / f"{chapter}.ipynb", COMPARED[chapter])
    assert found.pop("unspoilt") == 0, messages[-3000:]
    assert found == dict.fromkeys(COMPARED[chapter], 1), messages[-3000:]
