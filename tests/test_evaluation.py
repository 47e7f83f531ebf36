"""Figures of a trained model: what is measured, what is not and why, and how it is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from destseg_lib import DeSTSeg, DeSTSegError, ModelConfig, TrainingConfig, load_teacher
from destseg_lib.config import PhaseConfig, config_from_dict
from destseg_lib.evaluation.evaluate import evaluate, evaluate_category, results_table
from destseg_lib.evaluation.predict import predict_maps
from destseg_lib.images.folders import find_category, read_mask
from destseg_lib.images.load import load_images
from destseg_lib.runs.checkpoint import train_with_checkpoints
from destseg_lib.runs.run import Run, load_run, save_calibration, start_run
from destseg_lib.textures import procedural_textures
from destseg_lib.training import TrainingImages

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64
SIX = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap90")
CPU = torch.device("cpu")


def picture(rng: np.random.Generator, spot: tuple[int, int] | None = None) -> np.ndarray:
    image = rng.integers(100, 130, (80, 100, 3), dtype=np.uint8)
    if spot is not None:
        image[spot[0] : spot[0] + 20, spot[1] : spot[1] + 25] = (250, 10, 10)
    return image


def make_category(
    root: Path, *, good: int = 4, spots: int = 3, cracks: int = 2, masks: bool = True
) -> Path:
    rng = np.random.default_rng(5)

    def save(array: np.ndarray, *parts: str) -> None:
        file = root.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)

    for number in range(4):
        save(picture(rng), "train", "good", f"{number}.png")
    for number in range(good):
        save(picture(rng), "test", "good", f"{number}.png")
    for defect, count in (("spot", spots), ("crack", cracks)):
        for number in range(count):
            corner = int(rng.integers(5, 50)), int(rng.integers(5, 60))
            save(picture(rng, corner), "test", defect, f"{number}.png")
            if masks:
                mask = np.zeros((80, 100), np.uint8)
                mask[corner[0] : corner[0] + 20, corner[1] : corner[1] + 25] = 255
                save(mask, "ground_truth", defect, f"{number}_mask.png")
    return root


def make_run(folder: Path, data: Path, *, calibration: tuple[float, ...], **model: Any) -> Path:
    config = TrainingConfig(
        student=PhaseConfig(steps=2, lr=0.05),
        segmentation=PhaseConfig(steps=2, lr=0.01),
        model=ModelConfig(width=0.125, **model),
        image_size=SIZE,
        batch_size=2,
        precision="fp32",
        seed=3,
    )
    teacher = load_teacher("random")
    start_run(folder, config, teacher, {"category": data.name})
    good = load_images(find_category(data).train, SIZE, progress=False).pixels
    images = TrainingImages(good, procedural_textures(2, SIZE, torch.Generator().manual_seed(0)))
    train_with_checkpoints(folder, DeSTSeg(teacher, config.model), images, config, progress=False)
    save_calibration(folder, calibration)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_category(tmp_path_factory.mktemp("data") / "widget")


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", data, calibration=())


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return load_run(run_folder, CPU)


@pytest.fixture(scope="module")
def result(run: Run, data: Path) -> dict[str, Any]:
    return evaluate_category(run, find_category(data), progress=False)


def maps_and_truth(run: Run, data: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    test = find_category(data).test
    pixels = load_images([image.path for image in test], SIZE, progress=False).pixels
    batches = list(predict_maps(run.model, pixels, precision="fp32", progress=False))
    maps = {
        "final": np.concatenate([batch.final for batch in batches]),
        "student": np.concatenate([batch.student for batch in batches]),
    }
    truth = np.stack(
        [
            np.zeros((256, 256)) if image.mask is None else read_mask(image.mask, 256).pixels
            for image in test
        ]
    )
    return maps, truth, np.array([image.defect for image in test])


def top_hundred(maps: np.ndarray) -> np.ndarray:
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -100:].mean(axis=1)


# One category


@pytest.mark.parametrize("which", ["final", "student"])
def test_figures_are_scikit_learns_on_the_maps_at_256_pixels(
    run: Run, data: Path, result: dict[str, Any], which: str
) -> None:
    maps, truth, defects = maps_and_truth(run, data)
    found = result if which == "final" else result["cosine_product"]
    scores = top_hundred(maps[which])
    assert found["image_auroc"] == pytest.approx(roc_auc_score(defects != "good", scores))
    flat = truth.ravel(), maps[which].ravel()
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(*flat), abs=1e-5)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(*flat), abs=1e-5)
    assert all(0 <= found[key] <= 1 for key in SIX)


def test_a_defect_type_is_measured_against_all_good_images(
    run: Run, data: Path, result: dict[str, Any]
) -> None:
    maps, truth, defects = maps_and_truth(run, data)
    assert set(result["defects"]) == {"spot", "crack"}
    for name, found in result["defects"].items():
        rows = (defects == name) | (defects == "good")
        final = maps["final"][rows]
        expected = roc_auc_score(defects[rows] == name, top_hundred(final))
        assert found["image_auroc"] == pytest.approx(expected)
        expected = average_precision_score(truth[rows].ravel(), final.ravel())
        assert found["pixel_ap"] == pytest.approx(expected, abs=1e-5)


def test_the_json_says_what_was_measured_and_how(run: Run, result: dict[str, Any]) -> None:
    assert result["category"] == "widget"
    by_defect = {"crack": 2, "spot": 3}
    assert result["images"] == {"good": 4, "defective": 5, "by_defect": by_defect}
    assert (result["metric_size"], result["top_pixels"]) == (256, 100)
    assert (result["regions"], result["regions_before_resizing"]) == (5, 5)
    assert (result["regions_lost"], result["reasons"], result["skipped"]) == (0, {}, [])
    assert result["exact"] is True and "error_bound" not in result
    assert (result["seed"], result["teacher"]) == (3, "random")
    assert set(result["cosine_product"]) == set(SIX)
    assert {"commit", "device", "packages"} <= set(result["provenance"])
    read_back = json.loads(json.dumps(result, allow_nan=False))
    assert config_from_dict(read_back["config"]) == run.config


def test_a_teachers_folder_stays_out_of_the_json(run: Run, data: Path) -> None:
    elsewhere = replace(run, teacher_name="somebody/weights.safetensors")
    found = evaluate_category(elsewhere, find_category(data), progress=False)
    assert found["teacher"] == "weights.safetensors"
    assert "somebody" not in json.dumps(found)


def test_summed_levels_are_named(data: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", data, calibration=(), student_map="sum", segmentation=False)
    found = evaluate(folder, data, device=CPU, progress=False)
    assert found["cosine_product"] == {key: found[key] for key in SIX} | {"student_map": "sum"}
    assert "cosine sum" in results_table(found)


def test_streamed_figures_lie_within_their_stated_bound(
    run: Run, data: Path, result: dict[str, Any]
) -> None:
    streamed = evaluate_category(run, find_category(data), memory_share=0, progress=False)
    assert streamed["exact"] is False
    for part, exact, bound in (
        (streamed, result, streamed["error_bound"]),
        (
            streamed["cosine_product"],
            result["cosine_product"],
            streamed["error_bound"]["cosine_product"],
        ),
    ):
        for key in SIX:
            assert bound[key] < 0.2  # a model of two steps has nearly flat maps
            assert abs(part[key] - exact[key]) <= bound[key] + 1e-12, key
    for name, figures in result["defects"].items():
        assert streamed["defects"][name]["pixel_ap"] == pytest.approx(figures["pixel_ap"], abs=0.02)
    assert (streamed["regions"], streamed["images"]) == (result["regions"], result["images"])
    assert "off by at most" in results_table(streamed)


@pytest.mark.parametrize("memory_share", [0.25, 0.0])
def test_without_masks_pixel_figures_are_null_with_the_reason(
    run: Run, tmp_path: Path, memory_share: float
) -> None:
    category = find_category(make_category(tmp_path / "bare", masks=False))
    found = evaluate_category(run, category, memory_share=memory_share, progress=False)
    for part in (found, found["cosine_product"]):
        assert part["image_auroc"] is not None
        assert all(part[key] is None for key in SIX[1:])
    assert found["reasons"] == dict.fromkeys(SIX[1:], "the set has no masks")
    assert found["exact"] is True
    table = results_table(found)
    assert table.count("–") == 10
    assert "no pixel AUROC, pixel AP, AUPRO, IAP, IAP@90: the set has no masks" in table


@pytest.mark.parametrize(
    ("counts", "missing"), [({"spots": 0, "cracks": 0}, "anomalous"), ({"good": 0}, "normal")]
)
def test_a_single_class_is_null_with_the_reason(
    run: Run, tmp_path: Path, counts: dict[str, int], missing: str
) -> None:
    category = find_category(make_category(tmp_path / "single", **counts))
    found = evaluate_category(run, category, progress=False)
    why = f"there are no {missing} images, so nothing to rank"
    assert found["image_auroc"] is None and found["reasons"]["image_auroc"] == why
    assert f"no image AUROC: {why}" in results_table(found)


def test_no_test_images_are_an_error(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "plain", good=0, spots=0, cracks=0)
    with pytest.raises(DeSTSegError, match="plain has no test images"):
        evaluate_category(run, find_category(tmp_path / "plain"), progress=False)


def test_a_region_lost_in_resizing_is_counted(run: Run, tmp_path: Path) -> None:
    root = make_category(tmp_path / "thin", spots=1, cracks=0)
    big = np.zeros((1024, 1024), np.uint8)
    big[100:400, 100:400] = 255
    big[700, 700] = 255  # vanishes when four pixels become one
    Image.fromarray(big).save(root / "ground_truth" / "spot" / "0_mask.png")
    Image.fromarray(big).save(root / "test" / "spot" / "0.png")
    found = evaluate_category(run, find_category(root), progress=False)
    counts = found["regions_before_resizing"], found["regions"], found["regions_lost"]
    assert counts == (2, 1, 1)
    assert "1 of 2 regions were lost in resizing" in results_table(found)


@pytest.mark.parametrize("broken", ["test/spot/1.png", "ground_truth/spot/1_mask.png"])
def test_an_unreadable_file_stops_or_is_listed(run: Run, tmp_path: Path, broken: str) -> None:
    root = make_category(tmp_path / "widget")
    category = find_category(root)
    (root / broken).write_bytes((root / broken).read_bytes()[:60])
    with pytest.raises(DeSTSegError, match="cannot be decoded"):
        evaluate_category(run, category, progress=False)
    found = evaluate_category(run, category, skip_unreadable=True, progress=False)
    assert found["images"]["by_defect"] == {"crack": 2, "spot": 2}
    (skipped,) = found["skipped"]
    assert skipped["file"] == "test/spot/1.png"
    assert f"{broken} cannot be decoded" in skipped["reason"]
    assert str(tmp_path) not in json.dumps(found)
    assert "1 unreadable files were left out" in results_table(found)


# Threshold


def test_the_threshold_and_what_it_achieves(run: Run, data: Path) -> None:
    maps, _, defects = maps_and_truth(run, data)
    scores = top_hundred(maps["final"])
    good = np.sort(scores[defects == "good"])
    value = float(good[-2] + good[-1]) / 2  # one of the four good test images lies above
    calibrated = replace(run, calibration_scores=(value, value - 1, value - 2))
    found = evaluate_category(calibrated, find_category(data), fpr=0.25, progress=False)
    assert found["threshold"] == {
        "value": value,
        "fpr": 0.25,
        "calibrated_on": 3,
        "achieved_fpr": 0.25,
        "good_images": 4,
        "detected": pytest.approx((scores[defects != "good"] > value).mean()),
    }
    assert "false-positive rate of 25.00%, calibrated on 3 good images: 25.0%" in results_table(
        found
    )


def test_nothing_held_out_means_no_threshold(result: dict[str, Any]) -> None:
    assert result["threshold"] is None
    assert "no threshold" in results_table(result)


def test_a_rate_that_cannot_be_resolved_is_refused_with_the_number_needed(
    run: Run, data: Path
) -> None:
    calibrated = replace(run, calibration_scores=(0.1, 0.2))
    with pytest.raises(DeSTSegError, match=r"from 2 good images .* it takes 99"):
        evaluate_category(calibrated, find_category(data), fpr=0.01, progress=False)


# Figures


def test_a_figure_of_best_and_worst_cases_is_written(run: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures" / "widget.png"
    calibrated = replace(run, calibration_scores=(0.0,))  # every image is an alarm
    evaluate_category(calibrated, find_category(data), fpr=0.5, figure=file, progress=False)
    image = np.asarray(Image.open(file).convert("RGB"))
    assert min(image.shape[:2]) > 500
    assert image.std() > 10


def test_a_figure_that_cannot_be_written_is_an_error_before_the_work(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeSTSegError, match="could not be written"):
        evaluate_category(run, find_category(data), figure=tmp_path / "file" / "a.png")
    assert "testing widget" not in capsys.readouterr().err  # the bar of the images


# Several categories


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    make_category(root / "bolt", good=3)
    make_category(root / "nut", spots=2, masks=False)
    return root


def test_several_categories_and_their_mean(run_folder: Path, several: Path) -> None:
    seen: list[int] = []
    found = evaluate(
        run_folder,
        several,
        device=CPU,
        progress=False,
        save=lambda results: seen.append(len(results.get("categories", [results]))),
    )
    bolt, nut = found["categories"]["bolt"], found["categories"]["nut"]
    mean = found["mean"]
    assert seen == [1, 2]
    assert mean["image_auroc"] == pytest.approx((bolt["image_auroc"] + nut["image_auroc"]) / 2)
    cosine = [part["cosine_product"]["image_auroc"] for part in (bolt, nut)]
    assert mean["cosine_product"]["image_auroc"] == pytest.approx(math.fsum(cosine) / 2)
    assert all(mean[key] is None and mean["cosine_product"][key] is None for key in SIX[1:])
    assert mean["reasons"] == dict.fromkeys(SIX[1:], "nut: the set has no masks")
    table = results_table(found)
    assert [row.split()[0] for row in table.splitlines()[1:7:2]] == ["bolt", "nut", "mean"]
    assert f"{100 * mean['image_auroc']:.1f}" in table.splitlines()[5]
    json.dumps(found, allow_nan=False)


def test_one_category_is_at_the_top_level(run_folder: Path, data: Path) -> None:
    found = evaluate(run_folder, data, device=CPU, progress=False)
    assert found["category"] == "widget"
    assert "categories" not in found and "mean" not in found


def test_each_category_is_measured_with_its_own_run(several: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "bolt", several / "bolt", calibration=(0.5,))
    with pytest.raises(DeSTSegError, match=r"nut\. Train one with: destseg train"):
        evaluate(tmp_path, several, device=CPU, progress=False)
    make_run(tmp_path / "nut", several / "nut", calibration=(0.7,), segmentation=False)
    found = evaluate(tmp_path, several, device=CPU, figures=tmp_path / "figures", progress=False)[
        "categories"
    ]
    assert (found["bolt"]["threshold"]["value"], found["nut"]["threshold"]["value"]) == (0.5, 0.7)
    assert found["nut"]["config"]["model"]["segmentation"] is False
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"bolt.png", "nut.png"}


def test_a_missing_run_is_named(several: Path, tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"There is no run in .*missing nor in .*bolt"):
        evaluate(tmp_path / "missing", several, device=CPU, progress=False)


def test_an_unfinished_run_is_refused_before_the_first_category_is_measured(
    several: Path, run_folder: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "bolt", several / "bolt", calibration=())
    make_run(tmp_path / "nut", several / "nut", calibration=())
    (tmp_path / "nut" / "calibration.json").unlink()
    measured: list[object] = []
    with pytest.raises(DeSTSegError, match="nut is not finished"):
        evaluate(tmp_path, several, device=CPU, progress=False, save=measured.append)
    assert measured == []
