"""Files of 16 bits that hold fewer: white is found on the training set and kept by the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY

from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.evaluation.predict import predict
from destseg_lib.images.folders import find_category, find_images
from destseg_lib.images.load import white_level
from destseg_lib.images.view import WHITE
from destseg_lib.runs.run import CONFIG, load_run
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

pytestmark = pytest.mark.usefixtures("one_thread")

JOB = TrainingJob(teacher="random", device="cpu", progress=False)
CONFIG_OF_RUN = replace(TINY, holdout=0.25)
CPU = torch.device("cpu")


def category(folder: Path, bits: int | None, brightest: float = 1.0) -> Path:
    """Eight good training and two test images; None saves 8 bits, a number so many in 16."""
    rng = np.random.default_rng(0)
    for place, count in (("train/good", 8), ("test/good", 2)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            grey = rng.integers(0, 256, (32, 32)) * brightest
            grey[0, 0] = 255 * brightest
            if bits is None:
                pixels = grey.astype(np.uint8)
            else:
                pixels = (grey * ((2**bits - 1) / 255)).round().astype(np.uint16)
            Image.fromarray(pixels).save(folder / place / f"{number}.png")
    return folder


def trained(data: Path, out: Path) -> Path:
    train_and_calibrate(find_category(data), out, CONFIG_OF_RUN, JOB)
    return out


@pytest.mark.parametrize(
    ("largest", "white"),
    [(1, 255), (255, 255), (256, 511), (4095, 4095), (4096, 8191), (40000, 65535), (65535, 65535)],
)
def test_white_is_the_least_power_that_no_training_image_exceeds(
    tmp_path: Path, largest: int, white: int
) -> None:
    for name, value in (("a.png", 0), ("b.png", largest)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / name)
    assert white_level(find_images([tmp_path])) == white


def test_a_set_of_8_bits_leaves_white_as_it_was(tmp_path: Path) -> None:
    category(tmp_path / "mine", None)
    assert white_level(find_images([tmp_path])) == WHITE
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    assert white_level([tmp_path / "damaged.png"]) == WHITE


def test_a_run_on_12_bits_scores_as_one_on_8(tmp_path: Path) -> None:
    scores = {}
    for bits in (None, 12):
        data = category(tmp_path / f"data{bits}" / "mine", bits)
        run = load_run(trained(data, tmp_path / f"run{bits}"), CPU)
        rows = predict(run, find_images([data / "test"]), tmp_path / f"out{bits}", progress=False)
        scores[bits] = [*run.calibration_scores, *(row["score"] for row in rows)]
    np.testing.assert_allclose(scores[12], scores[None], rtol=1e-6)
    kept = json.loads((tmp_path / "run12" / CONFIG).read_text())["inputs"]
    assert kept["white_level"] == 4095
    assert "white_level" not in json.loads((tmp_path / "runNone" / CONFIG).read_text())["inputs"]


@pytest.fixture(scope="module")
def run_on_12_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("white")
    return trained(category(folder / "mine", 12), folder / "run")


@pytest.mark.parametrize(
    ("bits", "says"),
    [(14, "their brightest parts are cut off"), (9, "they are read nearly black")],
)
def test_images_of_another_range_are_reported(
    run_on_12_bits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bits: int, says: str
) -> None:
    data = category(tmp_path / "mine", bits)
    run = load_run(run_on_12_bits, CPU)
    predict(run, find_images([data / "test"]), tmp_path / "out", progress=False)
    assert says in capsys.readouterr().out
    evaluate_category(run, find_category(data), progress=False)
    assert says in capsys.readouterr().out


def test_images_of_the_same_range_are_not(
    run_on_12_bits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = category(tmp_path / "mine", 12, brightest=0.5)
    run = load_run(run_on_12_bits, CPU)
    predict(run, find_images([data / "test"]), tmp_path / "out", progress=False)
    assert "warning" not in capsys.readouterr().out


def test_a_resumed_run_keeps_the_white_it_began_with(run_on_12_bits: Path, tmp_path: Path) -> None:
    described = json.loads((run_on_12_bits / CONFIG).read_text())
    for key in ("white_level", "good_pixels"):
        del described["inputs"][key]  # version 0.1 did not write it
    (old := tmp_path / "run").mkdir()
    (old / CONFIG).write_text(json.dumps(described))
    for name in ("teacher.safetensors",):
        (old / name).write_bytes((run_on_12_bits / name).read_bytes())
    train_and_calibrate(find_category(run_on_12_bits.parent / "mine"), old, TINY, JOB)
    assert load_run(old, CPU).white_level == WHITE
