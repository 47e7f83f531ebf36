"""Trained models that ship."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from destseg_lib import cli
from destseg_lib.config import tiny_recipe
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import ImageCounts, draw_category, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category
from destseg_lib.metrics import anomaly_metrics
from destseg_lib.model import predict_maps
from destseg_lib.runs import shipped
from destseg_lib.runs.run import load_run
from destseg_lib.runs.shipped import (
    PREFIX,
    SUFFIX,
    WEIGHTS,
    load_pretrained,
    pretrained_header,
    pretrained_names,
    save_pretrained,
)
from destseg_lib.runs.train import TrainingJob, train_and_calibrate
from destseg_lib.teacher import load_teacher
from destseg_lib.training import with_steps

CPU = torch.device("cpu")
NAMES = pretrained_names()


def test_at_least_three_ship_and_each_is_a_drawn_category():
    assert len(NAMES) >= 3
    assert set(NAMES) <= {product.name for product in CATEGORIES}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_says_where_it_came_from(name):
    assert (WEIGHTS / f"{PREFIX}{name}{SUFFIX}").stat().st_size <= 4_000_000
    header = pretrained_header(name)
    assert f"pretrain {name} " in header["command"]
    assert header["teacher"] == {
        "name": "builtin",
        "fingerprint": load_teacher("builtin").fingerprint(),
    }
    assert header["provenance"]["commit"]
    assert header["provenance"]["packages"]["torch"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_still_gives_the_metrics_in_its_header(name):
    """On the whole test set it was measured on; only the arithmetic may differ."""
    run = load_pretrained(name, CPU)
    images = draw_category(name, 256, ImageCounts(train=0), progress=False)
    small = [Image.fromarray(p).resize((128, 128), Image.Resampling.BILINEAR) for p in images.test]
    maps = [
        m.final
        for m in predict_maps(
            run.model,
            np.stack([np.asarray(image) for image in small]),
            precision="fp32",
            progress=False,
        )
    ]
    labels = [defect != "good" for defect in images.defects]
    figures = anomaly_metrics(np.concatenate(maps), images.masks, labels=labels)
    recorded = pretrained_header(name)["figures"]
    assert figures["image_auroc"] == pytest.approx(recorded["image_auroc"], abs=0.02)
    assert figures["pixel_auroc"] == pytest.approx(recorded["pixel_auroc"], abs=0.02)


def test_a_category_without_a_model_is_refused_by_name():
    with pytest.raises(DeSTSegError, match=f"no trained model ships for 'spoon'; .*{NAMES[0]}"):
        load_pretrained("spoon", CPU)


def trained(tmp_path, teacher):
    category = find_category(
        write_category("metal", tmp_path, 32, ImageCounts(6, 1, 1), progress=False)
    )
    config = with_steps(tiny_recipe(), 2, 2)
    model = replace(config.model, width=0.0625, segmentation_width=0.0625)
    config = replace(config, image_size=32, batch_size=2, model=model, precision="fp32")
    out = tmp_path / f"run-{teacher}"
    train_and_calibrate(category, out, config, TrainingJob(teacher=teacher, progress=False))
    return out


def test_a_packed_run_gives_the_maps_of_the_run(tmp_path, monkeypatch):
    out = trained(tmp_path, "builtin")
    save_pretrained(out, tmp_path / f"{PREFIX}metal{SUFFIX}", {"product": "metal"})
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    packed, whole = load_pretrained("metal", CPU), load_run(out, CPU)
    assert (packed.config, packed.calibration_scores) == (whole.config, whole.calibration_scores)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found, expected in zip(packed.model(images), whole.model(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_a_run_with_another_teacher_is_not_packed(tmp_path):
    out = trained(tmp_path, "random")
    with pytest.raises(DeSTSegError, match="the teacher random, which does not ship"):
        save_pretrained(out, tmp_path / "model.safetensors", {})
    assert not (tmp_path / "model.safetensors").exists()


def test_a_model_of_another_builtin_teacher_is_refused(tmp_path, monkeypatch):
    out = trained(tmp_path, "builtin")
    known = {"product": "metal", "teacher": {"name": "builtin", "fingerprint": "0" * 16}}
    save_pretrained(out, tmp_path / f"{PREFIX}metal{SUFFIX}", known)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(DeSTSegError, match="belongs to another built-in teacher; install"):
        load_pretrained("metal", CPU)


def test_predict_takes_a_shipped_model_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--train", "1", "--good", "1", "--defective", "1", "--quiet"]
    assert cli.main(["make-data", NAMES[0], *few]) == 0
    command = ["predict", f"data/world/{NAMES[0]}/test", "--run", f"pretrained:{NAMES[0]}"]
    assert cli.main([*command, "--out", "found", "--quiet"]) == 0
    assert "images, " in capsys.readouterr().out
    assert (tmp_path / "found" / "scores.json").exists()
