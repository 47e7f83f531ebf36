"""Maps, scores, thresholds and overlays of photographs."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from destseg_lib import DeSTSeg, DeSTSegError, ModelConfig, TrainingConfig, load_teacher
from destseg_lib.config import PhaseConfig
from destseg_lib.evaluation import predict as prediction_module
from destseg_lib.evaluation.pictures import LINE, overlay, overlay_names, read_photograph
from destseg_lib.evaluation.predict import (
    predict,
    predict_maps,
    score_images,
    threshold_at,
)
from destseg_lib.runs.run import Run
from destseg_lib.teacher import normalise

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64
KEYS = {"path", "score", "threshold", "anomalous"}


@pytest.fixture(scope="module")
def run() -> Run:
    model = DeSTSeg(load_teacher("random"), ModelConfig(width=0.125)).eval()
    config = TrainingConfig(
        student=PhaseConfig(steps=1, lr=0.1),
        segmentation=PhaseConfig(steps=1, lr=0.1),
        model=model.config,
        image_size=SIZE,
        batch_size=2,
        precision="fp32",
    )
    return Run(model, config, "random", ())


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def photographs(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    rng = np.random.default_rng(seed)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)).save(path)
    return paths


def calibrated(run: Run, scores: list[float]) -> Run:
    return replace(run, calibration_scores=tuple(scores))


def is_outlined(file: Path) -> bool:
    picture = np.asarray(Image.open(file).convert("RGB"))
    return bool((picture == LINE).all(axis=2).any())


# Maps and scores


def test_maps_are_the_models_own_brought_to_256_pixels(run: Run) -> None:
    images = pixels(3)
    with torch.no_grad():
        x = normalise(torch.tensor(images).permute(0, 3, 1, 2) / 255)
        expected = [
            F.interpolate(m, size=(256, 256), mode="bilinear", align_corners=False)[:, 0].numpy()
            for m in run.model(x)
        ]
    batches = list(predict_maps(run.model, images, precision="fp32", batch_size=2, progress=False))
    assert [batch.final.shape for batch in batches] == [(2, 256, 256), (1, 256, 256)]
    for which, maps in enumerate(expected):
        found = np.concatenate([batch[which] for batch in batches])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, maps, rtol=1e-4, atol=1e-6)


def test_another_size_can_be_asked_for(run: Run) -> None:
    (maps,) = predict_maps(run.model, pixels(1), precision="fp32", size=40, progress=False)
    assert maps.final.shape == maps.student.shape == (1, 40, 40)


def test_half_precision_without_cuda_is_single_precision(run: Run) -> None:
    single, half = (
        next(predict_maps(run.model, pixels(2), precision=precision, progress=False))
        for precision in ("fp32", "fp16")
    )
    np.testing.assert_array_equal(single.final, half.final)


def test_a_model_left_in_train_mode_is_predicted_with_in_eval_mode(run: Run) -> None:
    expected = score_images(run.model, pixels(3), precision="fp32", progress=False)
    run.model.train()
    found = score_images(run.model, pixels(3), precision="fp32", progress=False)
    np.testing.assert_array_equal(found, expected)


def test_an_image_score_is_the_mean_of_the_hundred_largest_values(run: Run) -> None:
    images = pixels(5)
    maps = np.concatenate(
        [m.final for m in predict_maps(run.model, images, precision="fp32", progress=False)]
    )
    expected = [np.sort(m.ravel().astype(np.float64))[-100:].mean() for m in maps]
    found = score_images(run.model, images, precision="fp32", batch_size=2, progress=False)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_images_have_no_scores(run: Run) -> None:
    assert score_images(run.model, pixels(0), precision="fp32", progress=False).shape == (0,)


# Threshold


@pytest.mark.parametrize(
    ("fpr", "count", "largest"),
    [(0.01, 99, 1), (0.01, 198, 1), (0.01, 199, 2), (0.1, 9, 1), (0.5, 3, 2), (0.29, 99, 29)],
)
def test_threshold_is_the_kth_largest_score(fpr: float, count: int, largest: int) -> None:
    scores = np.random.default_rng(0).permutation(count) / 7
    threshold = threshold_at(scores, fpr)
    assert threshold is not None
    assert threshold.value == sorted(scores, reverse=True)[largest - 1]
    assert (threshold.fpr, threshold.calibrated_on) == (fpr, count)


@pytest.mark.parametrize(("fpr", "count"), [(0.05, 39), (0.2, 7), (0.01, 150)])
def test_new_good_images_exceed_it_as_often_as_promised_and_no_more(fpr: float, count: int) -> None:
    # Scores of a known distribution: the chance to exceed a threshold t is exp(-t).
    rng = np.random.default_rng(1)
    chances = []
    for _ in range(3000):
        threshold = threshold_at(rng.exponential(size=count), fpr)
        assert threshold is not None
        chances.append(math.exp(-threshold.value))
    expected = math.floor(fpr * (count + 1) + 1e-9) / (count + 1)
    error = 4 * np.std(chances) / math.sqrt(len(chances))
    assert np.mean(chances) == pytest.approx(expected, abs=error)
    assert expected <= fpr + 1e-12


@pytest.mark.parametrize(
    ("fpr", "count", "needed"), [(0.01, 98, 99), (0.01, 0, 99), (0.1, 8, 9), (0.03, 5, 33)]
)
def test_a_rate_too_small_for_the_images_is_refused_with_the_number_needed(
    fpr: float, count: int, needed: int
) -> None:
    with pytest.raises(DeSTSegError) as refused:
        threshold_at(np.arange(count), fpr)
    message = str(refused.value)
    assert f"rate of {fpr:g} cannot be told from {count} good images" in message
    assert f"it takes {needed}." in message
    assert all(option in message for option in ("--holdout", "--good DIR", "--fpr"))
    assert threshold_at(np.arange(needed), fpr) is not None
    with pytest.raises(DeSTSegError):
        threshold_at(np.arange(needed - 1), fpr)


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_a_rate_that_is_no_share_is_refused(fpr: float) -> None:
    with pytest.raises(DeSTSegError, match="expected a share between 0 and 1"):
        threshold_at(np.arange(1000), fpr)


def test_without_a_rate_it_is_a_hundredth_or_the_smallest_there_is() -> None:
    many, few = threshold_at(np.arange(500), None), threshold_at([3.0, 1.0, 2.0], None)
    assert many is not None and few is not None
    assert many.fpr == 0.01
    assert (few.value, few.fpr) == (3.0, 0.25)
    assert threshold_at([], None) is None


# Predicting files


def test_scores_and_overlays_are_written(run: Run, tmp_path: Path) -> None:
    paths, out = photographs(tmp_path / "in", 5), tmp_path / "deep" / "out"
    rows = predict(calibrated(run, [0.1, 0.2, 0.3]), paths, out, progress=False)
    assert json.loads((out / "scores.json").read_text()) == rows
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert all(set(row) == KEYS for row in rows)
    assert {row["threshold"] for row in rows} == {0.3}
    assert all(row["anomalous"] == (row["score"] > 0.3) for row in rows)
    assert {f.name for f in out.iterdir()} == {f"{p.stem}.png" for p in paths} | {"scores.json"}


def test_a_score_equal_to_the_threshold_is_not_anomalous(run: Run, tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 3)
    scores = sorted(row["score"] for row in predict(run, paths, tmp_path / "a", progress=False))
    rows = predict(calibrated(run, [scores[1]]), paths, tmp_path / "b", fpr=0.5, progress=False)
    assert sorted(row["score"] for row in rows if row["anomalous"]) == [scores[2]]


def test_exactly_the_anomalous_images_are_outlined(run: Run, tmp_path: Path) -> None:
    paths, out = photographs(tmp_path / "in", 6), tmp_path / "out"
    scores = sorted(row["score"] for row in predict(run, paths, tmp_path / "a", progress=False))
    rows = predict(calibrated(run, [scores[2]]), paths, out, fpr=0.5, progress=False)
    assert sum(row["anomalous"] for row in rows) == 3
    for row in rows:
        assert is_outlined(out / f"{Path(row['path']).stem}.png") == row["anomalous"]


def test_without_calibration_nothing_is_decided(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = predict(run, photographs(tmp_path / "in", 2), tmp_path / "out", progress=False)
    assert all(row["threshold"] is None and row["anomalous"] is None for row in rows)
    assert "no threshold" in capsys.readouterr().out


def test_more_good_images_join_the_calibration(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, paths = photographs(tmp_path / "good", 4, seed=1), photographs(tmp_path / "in", 2)
    known = [row["score"] for row in predict(run, good, tmp_path / "a", progress=False)]
    rows = predict(
        calibrated(run, [9.0]), paths, tmp_path / "out", fpr=0.4, good=good, progress=False
    )
    # The second largest of five: the 9 that was there before, then the best of the new ones.
    assert rows[0]["threshold"] == pytest.approx(max(known), rel=1e-6)
    assert "rate of 40.00%, calibrated on 5 good images" in capsys.readouterr().out


def test_a_rate_that_cannot_be_resolved_is_refused_before_anything_is_scored(
    run: Run, tmp_path: Path
) -> None:
    paths, out = photographs(tmp_path / "in", 2), tmp_path / "out"
    with pytest.raises(DeSTSegError, match="cannot be told from 2 good images"):
        predict(calibrated(run, [1.0]), paths, out, fpr=0.01, good=paths[:1], progress=False)
    assert not (out / "scores.json").exists()


def test_equal_file_names_in_different_folders_keep_their_overlays(
    run: Run, tmp_path: Path
) -> None:
    paths = photographs(tmp_path / "in" / "crack", 2) + photographs(tmp_path / "in" / "good", 2)
    out = tmp_path / "out"
    rows = predict(run, paths, out, progress=False)
    assert len(rows) == 4
    assert {file.name for file in out.glob("*.png")} == {
        "crack-000.png",
        "crack-001.png",
        "good-000.png",
        "good-001.png",
    }


def test_overlay_names_differ_even_where_everything_conspires() -> None:
    paths = ["p/a.png", "p/a.jpg", "p/A.bmp", "p/a-2.png", "p/b/c.png", "p/b-c.png"]
    names = overlay_names([Path(path) for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[0] == "a.png"


def test_interruption_keeps_what_is_done(run: Run, tmp_path: Path) -> None:
    paths, out = photographs(tmp_path / "in", 40), tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it

    calls = []

    def press_control_c(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with (
        run.model.student.register_forward_pre_hook(press_control_c),
        pytest.raises(KeyboardInterrupt, match="32 of 40 images"),
    ):
        predict(run, paths, out, progress=False)
    rows = json.loads((out / "scores.json").read_text())
    # The batch in hand was finished; every image that is listed has its overlay.
    assert [row["path"] for row in rows] == [str(path) for path in paths[:32]]
    assert {file.stem for file in out.glob("*.png")} == {Path(row["path"]).stem for row in rows}
    assert signal.getsignal(signal.SIGINT) is before


def test_an_abrupt_end_keeps_what_is_done(run: Run, tmp_path: Path) -> None:
    paths, out = photographs(tmp_path / "in", 40), tmp_path / "out"
    calls = []

    def interrupt(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with (
        run.model.student.register_forward_pre_hook(interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        predict(run, paths, out, progress=False)
    assert len(json.loads((out / "scores.json").read_text())) == 32


def test_scores_reach_the_disk_while_it_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_module, "SAVE_EVERY", 0.0)
    paths, out = photographs(tmp_path / "in", 20), tmp_path / "out"
    held: list[int] = []

    def look(*_: object) -> None:
        held.append(len(json.loads((out / "scores.json").read_text())))

    with run.model.student.register_forward_pre_hook(look):
        predict(run, paths, out, progress=False)
    assert held == [0, 16]


def test_an_unreadable_image_stops_or_is_listed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = photographs(tmp_path / "in", 3)
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    with pytest.raises(DeSTSegError, match=r"001\.png cannot be decoded"):
        predict(run, paths, tmp_path / "a", progress=False)
    assert json.loads((tmp_path / "a" / "scores.json").read_text()) == []
    capsys.readouterr()
    rows = predict(run, paths, tmp_path / "b", skip_unreadable=True, progress=False)
    assert [row["path"] for row in rows] == [str(paths[0]), str(paths[2])]
    assert f"skipped {paths[1]}: " in capsys.readouterr().out


def test_nothing_readable_is_an_error_even_when_skipping(run: Run, tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 2)
    for path in paths:
        path.write_text("no image")
    with pytest.raises(DeSTSegError, match="None of the 2 images can be read"):
        predict(run, paths, tmp_path / "out", skip_unreadable=True, progress=False)


def test_no_images_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match="list of files is empty"):
        predict(run, [], tmp_path / "out", progress=False)


def test_an_output_folder_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DeSTSegError, match=r"out cannot be made a folder .* another --out"):
        predict(run, photographs(tmp_path / "in", 1), tmp_path / "out", progress=False)


def test_an_output_folder_that_may_not_be_written_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("destseg_lib.runs.checkpoint.tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(DeSTSegError, match=r"scores\.json could not be written .*denied.*--out"):
        predict(run, photographs(tmp_path / "in", 1), tmp_path / "out", progress=False)


def test_the_folder_of_the_photographs_is_refused_for_the_overlays(
    run: Run, tmp_path: Path
) -> None:
    paths = photographs(tmp_path / "in", 1)
    before = paths[0].read_bytes()
    with pytest.raises(DeSTSegError, match="where the overlays go"):
        predict(run, paths, tmp_path / "in", progress=False)
    assert paths[0].read_bytes() == before


# Overlays


def disc(size: int = 256, radius: float = 20.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (np.hypot(x - 80, y - 100) < radius).astype(np.float32)


def line_of(picture: np.ndarray) -> np.ndarray:
    return np.asarray((picture == LINE).all(axis=2))


def test_the_outline_surrounds_the_defect_and_leaves_it_visible() -> None:
    photo = np.full((512, 512, 3), 90, np.uint8)
    picture = overlay(photo, disc(), 0.5)[:, :512]
    y, x = np.nonzero(line_of(picture))
    distance = np.hypot(x - 160.5, y - 200.5)  # the disc at twice its size
    assert distance.min() == pytest.approx(40, abs=1.5)
    assert distance.max() == pytest.approx(42, abs=1.5)
    angles = np.arctan2(y - 200.5, x - 160.5)
    assert len(np.unique(np.round(angles, 1))) > 60  # it goes all the way round
    assert (picture[190:210, 150:170] == 90).all()
    assert (picture[300:] == 90).all()


@pytest.mark.parametrize("shade", [0, 255, (0xD5, 0x5E, 0x00)])
def test_the_outline_shows_on_any_photograph(shade: object) -> None:
    photo = np.broadcast_to(np.asarray(shade, np.uint8), (128, 128, 3)).copy()
    assert (overlay(photo, disc(), 0.5)[:, :128] != photo).any()


def test_without_a_threshold_the_photograph_is_left_alone() -> None:
    photo = pixels(1)[0]
    np.testing.assert_array_equal(overlay(photo, disc(), None)[:, :SIZE], photo)


def test_a_defect_all_over_or_a_pixel_wide_is_outlined_too() -> None:
    photo = np.full((60, 40, 3), 90, np.uint8)
    peak = np.zeros((256, 256), np.float32)
    peak[255, 0] = 0.9
    for anomaly_map in (np.ones((256, 256), np.float32), peak):
        assert line_of(overlay(photo, anomaly_map, 0.5)).any()


def test_heat_is_on_one_scale_for_all_images() -> None:
    photo = np.zeros((64, 64, 3), np.uint8)
    faint, strong = (
        overlay(photo, np.full((256, 256), value, np.float32), None)[:, -1].mean()
        for value in (0.1, 0.9)
    )
    assert faint < strong / 3
    half = overlay(photo, np.full((256, 256), 0.45, np.float32), None, scale=0.5)[:, -1].mean()
    assert half == pytest.approx(strong)


def test_a_photograph_keeps_its_aspect_and_orientation(tmp_path: Path) -> None:
    wide = np.zeros((300, 1500, 3), np.uint8)
    wide[:, :750] = 255  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: bright on top
    Image.fromarray(wide).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(wide).save(tmp_path / "plain.png")
    plain, turned = (read_photograph(tmp_path / f"{name}.png") for name in ("plain", "turned"))
    assert plain.shape == (205, 1024, 3)
    assert turned.shape == (1024, 205, 3)
    assert plain[:, :500].min() == 255 and plain[:, -500:].max() == 0
    assert turned[:500].min() == 255 and turned[-500:].max() == 0


def test_a_student_only_model_is_shown_relative_to_its_threshold(run: Run, tmp_path: Path) -> None:
    model = DeSTSeg(load_teacher("random"), ModelConfig(width=0.125, segmentation=False)).eval()
    alone = replace(run, model=model, config=replace(run.config, model=model.config))
    paths = photographs(tmp_path / "in", 1)
    score = predict(alone, paths, tmp_path / "a", progress=False)[0]["score"]
    brightness = []
    for name, threshold in (("low", score / 4), ("high", score * 4)):
        predict(calibrated(alone, [threshold]), paths, tmp_path / name, fpr=0.5, progress=False)
        picture = np.asarray(Image.open(tmp_path / name / "000.png"))
        brightness.append(picture[:, -60:].mean())
    assert brightness[0] > 2 * brightness[1]
