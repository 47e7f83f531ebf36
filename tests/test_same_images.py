"""A run is continued on the very images that it began with, whatever they are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, write_json
from destseg_lib.images.folders import find_category
from destseg_lib.runs.inputs import fingerprint_pixels
from destseg_lib.runs.run import CALIBRATION, CONFIG
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 32


def bitmaps(folder: Path, seed: int) -> Path:
    """Files whose names and sizes say nothing of their content."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(6):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.bmp")
    return folder


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    textures = bitmaps(tmp_path / "textures", 1)
    return TrainingJob(textures=textures, teacher="random", device="cpu", progress=False)


@pytest.fixture
def run(tmp_path: Path, job: TrainingJob) -> Path:
    """A run that was stopped before its calibration."""
    bitmaps(tmp_path / "mine/train/good", 0)
    out = tmp_path / "run"
    train_and_calibrate(find_category(tmp_path / "mine"), out, replace(TINY, holdout=0.25), job)
    (out / CALIBRATION).unlink()
    return out


def resume(run: Path, job: TrainingJob) -> None:
    train_and_calibrate(find_category(run.parent / "mine"), run, TINY, job)


def test_the_same_images_are_accepted(run: Path, job: TrainingJob) -> None:
    resume(run, job)
    assert (run / CALIBRATION).exists()


@pytest.mark.parametrize(
    ("folder", "what"), [("mine/train/good", "good images"), ("textures", "textures")]
)
def test_other_images_of_the_same_names_and_sizes_are_refused(
    run: Path, job: TrainingJob, folder: str, what: str
) -> None:
    bitmaps(run.parent / folder, 7)
    with pytest.raises(DeSTSegError, match=rf"{what} of the same names but another content"):
        resume(run, job)


def test_a_run_of_version_0_1_knows_names_and_sizes_only(run: Path, job: TrainingJob) -> None:
    described = read_json(run / CONFIG)
    for key in ("good_pixels", "texture_pixels"):
        del described["inputs"][key]
    write_json(run / CONFIG, described)
    bitmaps(run.parent / "textures", 7)
    resume(run, job)


def test_a_complete_run_is_complete_whatever_became_of_its_images(
    run: Path, job: TrainingJob, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(run, job)
    bitmaps(run.parent / "mine/train/good", 7)
    resume(run, job)
    assert "is complete; nothing is left to do" in capsys.readouterr().out


def test_the_fingerprint_is_of_content_and_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    same = fingerprint_pixels(pixels)
    assert fingerprint_pixels(pixels.copy(order="F")) == same
    assert fingerprint_pixels(pixels[::-1]) != same
    assert fingerprint_pixels(pixels[:, :2]) != same
    pixels[1, 2, 3, 0] ^= 1
    assert fingerprint_pixels(pixels) != same
