"""Metrics of a trained model: what is measured, what is not and why, and how it is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny import TINY, noise, tiny_model

from destseg_lib import DeSTSegError, TrainingConfig
from destseg_lib.config import config_from_dict
from destseg_lib.evaluation.evaluate import evaluate, evaluate_category
from destseg_lib.evaluation.result import Evaluation, MapMetrics
from destseg_lib.evaluation.tables import METRIC_NAMES, results_table
from destseg_lib.files import write_json
from destseg_lib.files.outputs import LIST
from destseg_lib.images.folders import find_category
from destseg_lib.images.load import load_images
from destseg_lib.images.read import read_mask
from destseg_lib.model import predict_maps
from destseg_lib.runs.checkpoint import train_with_checkpoints
from destseg_lib.runs.run import Run, save_calibration, start_run

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
NO_METRICS = MapMetrics(*[None] * 6)


def make_category(
    root: Path, *, good: int = 4, spots: int = 3, cracks: int = 2, masks: bool = True
) -> Path:
    rng = np.random.default_rng(5)

    def save(array: np.ndarray, *parts: str) -> None:
        file = root.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)

    counts = {("train", "good"): 4, ("test", "good"): good}
    counts |= {("test", "spot"): spots, ("test", "crack"): cracks}
    for (part, kind), count in counts.items():
        for number in range(count):
            image = rng.integers(100, 130, (80, 100, 3), dtype=np.uint8)
            if kind != "good":
                y, x = int(rng.integers(5, 50)), int(rng.integers(5, 60))
                image[y : y + 20, x : x + 25] = (250, 10, 10)
                if masks:
                    mask = np.zeros((80, 100), np.uint8)
                    mask[y : y + 20, x : x + 25] = 255
                    save(mask, "ground_truth", kind, f"{number}_mask.png")
            save(image, part, kind, f"{number}.png")
    return root


def make_run(
    folder: Path, config: TrainingConfig, data: Path, calibration: tuple[float, ...]
) -> None:
    """The folder of a finished run."""
    model = tiny_model(config)
    start_run(folder, config, model.teacher, {"category": data.name})
    train_with_checkpoints(folder, model, noise(), config, progress=False)
    save_calibration(folder, calibration)


def measure(run: Run, data: Path, **options: Any) -> Evaluation:
    return evaluate_category(run, find_category(data), progress=False, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_category(tmp_path_factory.mktemp("data") / "widget")


@pytest.fixture(scope="module")
def result(untrained_run: Run, data: Path) -> Evaluation:
    return measure(untrained_run, data)


@pytest.fixture(scope="module")
def maps_and_truth(
    untrained_run: Run, data: Path
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Both maps (N, 256, 256), the masks, and the type of each image, put together by hand."""
    test = find_category(data).test
    pixels = load_images([image.path for image in test], 32, progress=False).pixels
    batches = list(predict_maps(untrained_run.model, pixels, precision="fp32", progress=False))
    maps = {
        "final": np.concatenate([batch.final for batch in batches]),
        "student": np.concatenate([batch.student for batch in batches]),
    }
    masks = [image.mask and read_mask(image.mask, 256).pixels for image in test]
    truth = np.stack([np.zeros((256, 256)) if mask is None else mask for mask in masks])
    return maps, truth, np.array([image.defect for image in test])


def top_hundred(maps: np.ndarray) -> np.ndarray:
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -100:].mean(axis=1)


# One category


@pytest.mark.parametrize("which", ["final", "student"])
def test_metrics_are_scikit_learns_on_the_maps_at_256_pixels(maps_and_truth, result, which) -> None:
    maps, truth, defects = maps_and_truth
    found = getattr(result, which)
    scores = top_hundred(maps[which])
    assert found.image_auroc == pytest.approx(roc_auc_score(defects != "good", scores))
    flat = truth.ravel(), maps[which].ravel()
    assert found.pixel_auroc == pytest.approx(roc_auc_score(*flat), abs=1e-5)
    assert found.pixel_ap == pytest.approx(average_precision_score(*flat), abs=1e-5)
    assert all(0 <= getattr(found, name) <= 1 for name in METRIC_NAMES)


def test_a_defect_type_is_measured_against_all_good_images(maps_and_truth, result) -> None:
    maps, truth, defects = maps_and_truth
    assert set(result.defects) == {"spot", "crack"}
    for name, found in result.defects.items():
        rows = (defects == name) | (defects == "good")
        final = maps["final"][rows]
        expected = roc_auc_score(defects[rows] == name, top_hundred(final))
        assert found.image_auroc == pytest.approx(expected)
        expected = average_precision_score(truth[rows].ravel(), final.ravel())
        assert found.pixel_ap == pytest.approx(expected, abs=1e-5)


def test_the_json_says_what_was_measured_and_how(
    untrained_run: Run, data: Path, tmp_path: Path
) -> None:
    elsewhere = replace(untrained_run, teacher_name="somebody/weights.safetensors")
    write_json(tmp_path / "result.json", measure(elsewhere, data).to_dict())
    text = (tmp_path / "result.json").read_text()
    found = json.loads(text)
    # The order too, as people read these files.
    assert list(found) == [
        "category", *METRIC_NAMES, "cosine_product", "reasons", "exact", "images", "defects",
        "regions", "regions_before_resizing", "regions_lost", "skipped", "metric_size",
        "top_pixels", "threshold", "teacher", "seed", "config", "provenance",
    ]  # fmt: skip
    assert list(found["cosine_product"]) == list(METRIC_NAMES)
    by_defect = {"crack": 2, "spot": 3}
    assert found["images"] == {"good": 4, "defective": 5, "by_defect": by_defect}
    assert set(found["defects"]["spot"]) == {"image_auroc", "pixel_ap"}
    assert (found["metric_size"], found["top_pixels"]) == (256, 100)
    assert (found["regions"], found["regions_before_resizing"]) == (5, 5)
    assert (found["regions_lost"], found["reasons"], found["skipped"]) == (0, {}, [])
    assert (found["category"], found["exact"], found["seed"]) == ("widget", True, TINY.seed)
    assert (found["teacher"], "somebody" in text) == ("weights.safetensors", False)
    assert {"commit", "device", "packages"} <= set(found["provenance"])
    assert config_from_dict(found["config"]) == untrained_run.config


def test_summed_levels_are_named(untrained_run: Run, data: Path) -> None:
    config = replace(TINY, model=replace(TINY.model, student_map="sum", segmentation=False))
    found = measure(replace(untrained_run, model=tiny_model(config), config=config), data)
    assert found.final == found.student
    assert found.to_dict()["cosine_product"]["student_map"] == "sum"
    assert "distance sum" in results_table(found)


def test_streamed_metrics_are_within_their_stated_bounds(
    untrained_run: Run, data: Path, result: Evaluation
) -> None:
    streamed = measure(untrained_run, data, memory_share=0)
    assert not streamed.exact and streamed.error_bounds is not None
    found = streamed.to_dict()
    both = [(found, result.to_dict(), found["error_bound"])]
    both += [tuple(part["cosine_product"] for part in both[0])]
    for part, exact, bound in both:
        for name in METRIC_NAMES:
            assert bound[name] < 0.2  # an untrained model has nearly flat maps
            assert abs(part[name] - exact[name]) <= bound[name] + 1e-12, name
    for name, metrics in result.defects.items():
        assert streamed.defects[name].pixel_ap == pytest.approx(metrics.pixel_ap, abs=0.02)
    assert (streamed.regions, streamed.images) == (result.regions, result.images)
    assert "off by at most" in results_table(streamed)


@pytest.mark.parametrize("memory_share", [0.25, 0.0])
def test_without_masks_pixel_metrics_are_none_with_the_reason(
    untrained_run: Run, tmp_path: Path, memory_share: float
) -> None:
    root = make_category(tmp_path / "bare", masks=False)
    found = measure(untrained_run, root, memory_share=memory_share)
    for metrics in (found.final, found.student):
        assert metrics.image_auroc is not None
        assert metrics == replace(NO_METRICS, image_auroc=metrics.image_auroc)
    assert found.reasons == dict.fromkeys(METRIC_NAMES[1:], "the set has no masks")
    assert found.exact
    table = results_table(found)
    assert table.count("–") == 10
    assert "no pixel AUROC, pixel AP, AUPRO, IAP, IAP@90: the set has no masks" in table


@pytest.mark.parametrize(
    ("counts", "missing"), [({"spots": 0, "cracks": 0}, "anomalous"), ({"good": 0}, "normal")]
)
def test_a_single_class_is_none_with_the_reason(
    untrained_run: Run, tmp_path: Path, counts: dict[str, int], missing: str
) -> None:
    found = measure(untrained_run, make_category(tmp_path / "single", **counts))
    why = f"there are no {missing} images, so nothing to rank"
    assert (found.final.image_auroc, found.reasons["image_auroc"]) == (None, why)
    assert f"no image AUROC: {why}" in results_table(found)


def test_no_test_images_are_an_error(untrained_run: Run, tmp_path: Path) -> None:
    root = make_category(tmp_path / "plain", good=0, spots=0, cracks=0)
    with pytest.raises(DeSTSegError, match="plain has no test images"):
        measure(untrained_run, root)


def test_a_region_lost_in_resizing_is_counted(untrained_run: Run, tmp_path: Path) -> None:
    root = make_category(tmp_path / "thin", spots=1, cracks=0)
    big = np.zeros((1024, 1024), np.uint8)
    big[100:400, 100:400] = 255
    big[700, 700] = 255  # vanishes when four pixels become one
    Image.fromarray(big).save(root / "ground_truth" / "spot" / "0_mask.png")
    Image.fromarray(big).save(root / "test" / "spot" / "0.png")
    found = measure(untrained_run, root)
    assert (found.regions_before_resizing, found.regions, found.regions_lost) == (2, 1, 1)
    assert "1 of 2 regions were lost in resizing" in results_table(found)


def test_a_defective_image_whose_mask_marks_nothing_is_named(
    untrained_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_category(tmp_path / "widget")
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(data / "ground_truth/spot/1_mask.png")
    found = measure(untrained_run, data)
    said = capsys.readouterr().out
    assert "masks of defective images that mark nothing: 1," in said and "1_mask.png" in said
    assert found.images.defective == 5


@pytest.mark.parametrize("broken", ["test/spot/1.png", "ground_truth/spot/1_mask.png"])
def test_an_unreadable_file_is_an_error_or_is_listed(
    untrained_run: Run, tmp_path: Path, broken: str
) -> None:
    root = make_category(tmp_path / "widget", spots=2)
    category = find_category(root)
    (root / broken).write_bytes((root / broken).read_bytes()[:60])
    with pytest.raises(DeSTSegError, match="cannot be decoded"):
        evaluate_category(untrained_run, category, progress=False)
    found = evaluate_category(untrained_run, category, skip_unreadable=True, progress=False)
    assert found.images.by_defect == {"crack": 2, "spot": 1}
    (skipped,) = found.skipped
    assert skipped.file == "test/spot/1.png"
    assert f"{broken} cannot be decoded" in skipped.reason
    assert str(tmp_path) not in json.dumps(found.to_dict())
    assert "1 unreadable files were left out" in results_table(found)


# Threshold


def test_the_threshold_and_what_it_achieves(untrained_run, data, maps_and_truth) -> None:
    maps, _, defects = maps_and_truth
    scores = top_hundred(maps["final"])
    good = np.sort(scores[defects == "good"])
    value = float(good[-2] + good[-1]) / 2  # exceeded by one of the four good test images
    calibrated = replace(untrained_run, calibration_scores=(value, value - 1, value - 2))
    found = measure(calibrated, data, fpr=0.25)
    detected = pytest.approx((scores[defects != "good"] > value).mean())
    assert found.to_dict()["threshold"] == {
        "value": value, "fpr": 0.25, "calibrated_on": 3, "achieved_fpr": 0.25, "good_images": 4,
        "detected": detected,
    }  # fmt: skip
    note = "rate of 25.00%, calibrated on 3 good images; it is exceeded by 25.0% of the good test"
    assert note in results_table(found)


def test_without_enough_held_out_images_there_is_no_threshold(untrained_run, data, result) -> None:
    assert result.threshold is None
    assert "no threshold" in results_table(result)
    calibrated = replace(untrained_run, calibration_scores=(0.1, 0.2))
    with pytest.raises(DeSTSegError, match=r"at least 99 good images .* there are 2"):
        measure(calibrated, data, fpr=0.01)


# Pictures


def test_a_sheet_of_best_and_worst_cases_is_written(
    untrained_run: Run, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "figures" / "widget.png"
    calibrated = replace(untrained_run, calibration_scores=(0.0,))  # every image is an alarm
    measure(calibrated, data, fpr=0.5, figure=file)
    image = np.asarray(Image.open(file).convert("RGB"))
    assert min(image.shape[:2]) > 500
    assert image.std() > 10


def test_a_sheet_that_cannot_be_written_is_an_error_before_the_work(
    untrained_run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeSTSegError, match=r"file could not be written .*--figures"):
        evaluate_category(untrained_run, find_category(data), figure=tmp_path / "file" / "a.png")
    assert "testing widget" not in capsys.readouterr().err  # the bar of the images


# Several categories


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    make_category(root / "bolt", good=3)
    make_category(root / "nut", spots=2, masks=False)
    return root


def test_several_categories_and_their_mean(
    untrained_run: Run, several: Path, tmp_path: Path
) -> None:
    file, before = tmp_path / "metrics.json", list[list[str]]()

    def note(*_: object) -> None:
        before.append(list(json.loads(file.read_text())["categories"]) if file.exists() else [])

    with untrained_run.model.student.register_forward_pre_hook(note):
        results = evaluate(untrained_run, several, progress=False, json=file)
    found = results.to_dict()
    assert before == [[], ["bolt"]], "the results so far are kept after each category"
    assert json.loads(file.read_text()) == json.loads(json.dumps(found))
    bolt, nut = found["categories"]["bolt"], found["categories"]["nut"]
    mean = found["mean"]
    assert list(mean) == [*METRIC_NAMES, "cosine_product", "reasons"]
    for part in (lambda result: result, lambda result: result["cosine_product"]):
        expected = (part(bolt)["image_auroc"] + part(nut)["image_auroc"]) / 2
        assert part(mean)["image_auroc"] == pytest.approx(expected)
        assert all(part(mean)[name] is None for name in METRIC_NAMES[1:])
    assert mean["reasons"] == dict.fromkeys(METRIC_NAMES[1:], "nut: the set has no masks")
    table = results_table(results).splitlines()
    assert [row.split()[0] for row in table[1:7:2]] == ["bolt", "nut", "mean"]
    assert f"{100 * mean['image_auroc']:.1f}" in table[5]
    json.dumps(found, allow_nan=False)


@pytest.mark.slow
def test_each_category_is_measured_with_its_own_run(several: Path, tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"There is no run in .*missing nor in .*bolt"):
        evaluate(tmp_path / "missing", several, device=CPU, progress=False)
    make_run(tmp_path / "bolt", TINY, several / "bolt", (0.5,))
    with pytest.raises(DeSTSegError, match=r"nut\. Train one with: destseg train"):
        evaluate(tmp_path, several, device=CPU, progress=False)
    config = replace(TINY, model=replace(TINY.model, segmentation=False))
    make_run(tmp_path / "nut", config, several / "nut", (0.7,))
    found = evaluate(
        tmp_path, several, device=CPU, figures=tmp_path / "figures", progress=False
    ).to_dict()["categories"]
    assert (found["bolt"]["threshold"]["value"], found["nut"]["threshold"]["value"]) == (0.5, 0.7)
    assert found["nut"]["config"]["model"]["segmentation"] is False
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"bolt.png", "nut.png", LIST}
    one = evaluate(tmp_path / "bolt", several / "bolt", device=CPU, progress=False).to_dict()
    assert one["category"] == "bolt" and "categories" not in one

    (tmp_path / "nut" / "calibration.json").unlink()
    file = tmp_path / "metrics.json"
    with pytest.raises(DeSTSegError, match="nut is not finished"):
        evaluate(tmp_path, several, device=CPU, progress=False, json=file)
    assert not file.exists(), "an unfinished run is refused before the first category is measured"


@pytest.mark.slow
def test_figures_and_metrics_may_go_into_the_runs_own_folder(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, TINY, data, (0.5, 0.6))
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    for _ in range(2):  # the second time they are replaced
        evaluate(run, data, figures=run, json=run / "metrics.json", progress=False)
    assert {"metrics.json", f"{data.name}.png"} < {path.name for path in run.iterdir()}
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
