"""Scores, decisions and overlays of photographs."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, tiny_model

from destseg_lib import DeSTSegError
from destseg_lib.evaluation import predict as prediction_module
from destseg_lib.evaluation.pictures import LINE, overlay, overlay_names, read_photograph
from destseg_lib.evaluation.predict import predict
from destseg_lib.files.outputs import LIST
from destseg_lib.images import load as load_module
from destseg_lib.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = {"path", "score", "threshold", "anomalous"}


def photographs(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    rng = np.random.default_rng(seed)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)).save(path)
    return paths


def calibrated(run: Run, *scores: float) -> Run:
    return replace(run, calibration_scores=scores)


def listed(out: Path) -> list[str]:
    """The photographs that ``scores.json`` holds."""
    return [row["path"] for row in json.loads((out / "scores.json").read_text())]


@pytest.fixture(params=[1, 64], ids=["no idle cores", "idle cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The network has one thread, on a machine with so many cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: request.param)
    return request.param


@pytest.fixture
def run(untrained_run: Run) -> Run:
    return untrained_run


# Predicting files


def test_scores_and_overlays_are_written(run: Run, tmp_path: Path) -> None:
    paths, out = photographs(tmp_path / "in", 5), tmp_path / "deep" / "out"
    rows = predict(calibrated(run, 0.1, 0.2, 0.3), paths, out, progress=False)
    assert json.loads((out / "scores.json").read_text()) == rows
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert all(set(row) == {"path", "score", "threshold", "anomalous"} for row in rows)
    assert {row["threshold"] for row in rows} == {0.3}
    assert all(row["anomalous"] == (row["score"] > 0.3) for row in rows)
    assert {f.name for f in out.iterdir()} == {f"{p.stem}.png" for p in paths} | {
        "scores.json",
        LIST,
    }


def test_images_above_the_threshold_are_anomalous_and_outlined_and_no_others(
    run: Run, tmp_path: Path
) -> None:
    paths, out = photographs(tmp_path / "in", 6), tmp_path / "out"
    scores = sorted(row["score"] for row in predict(run, paths, tmp_path / "a", progress=False))
    rows = predict(calibrated(run, scores[2]), paths, out, fpr=0.5, progress=False)
    # The score that equals the threshold is not above it.
    assert sorted(row["score"] for row in rows if row["anomalous"]) == scores[3:]
    for row in rows:
        picture = np.asarray(Image.open(out / f"{Path(row['path']).stem}.png").convert("RGB"))
        assert line_of(picture).any() == row["anomalous"]


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
        calibrated(run, 9.0), paths, tmp_path / "out", fpr=0.4, good=good, progress=False
    )
    # The second largest of five: the 9 that was there before, then the best of the new ones.
    assert rows[0]["threshold"] == pytest.approx(max(known), rel=1e-6)
    assert "rate of 40.00%, calibrated on 5 good images" in capsys.readouterr().out


def test_a_rate_that_cannot_be_resolved_is_refused_before_anything_is_scored(
    run: Run, tmp_path: Path
) -> None:
    paths, out = photographs(tmp_path / "in", 2), tmp_path / "out"
    with pytest.raises(DeSTSegError, match="but there are 2"):
        predict(calibrated(run, 1.0), paths, out, fpr=0.01, good=paths[:1], progress=False)
    assert not (out / "scores.json").exists()


def test_equal_file_names_in_different_folders_keep_their_overlays(
    run: Run, tmp_path: Path
) -> None:
    paths = photographs(tmp_path / "in" / "crack", 2) + photographs(tmp_path / "in" / "good", 2)
    predict(run, paths, tmp_path / "out", progress=False)
    written = {file.stem for file in (tmp_path / "out").glob("*.png")}
    assert written == {"crack-000", "crack-001", "good-000", "good-001"}


def test_overlay_names_differ_even_if_everything_conspires() -> None:
    paths = ["p/a.png", "p/a.jpg", "p/A.bmp", "p/a-2.png", "p/b/c.png", "p/b-c.png"]
    names = overlay_names([Path(path) for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[0] == "a.png"


@pytest.mark.parametrize("abrupt", [False, True])
def test_an_interruption_keeps_what_is_done(
    run: Run, tmp_path: Path, abrupt: bool, cores: int
) -> None:
    paths, out = photographs(tmp_path / "in", 40), tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    calls: list[object] = []

    def interrupt(*_: object) -> None:
        calls.append(_)
        if not abrupt and len(calls) == 2:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C: the batch in hand is finished
        if abrupt and len(calls) == 3:
            raise KeyboardInterrupt

    with (
        run.model.student.register_forward_pre_hook(interrupt),
        pytest.raises(KeyboardInterrupt, match=None if abrupt else "32 of 40 images"),
    ):
        predict(run, paths, out, progress=False)
    # Every image that is listed has its overlay.
    assert listed(out) == [str(path) for path in paths[:32]]
    assert {file.stem for file in out.glob("*.png")} == {path.stem for path in paths[:32]}
    assert signal.getsignal(signal.SIGINT) is before


def test_scores_reach_the_disk_before_the_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(prediction_module, "SAVE_EVERY", 0.0)
    paths, out = photographs(tmp_path / "in", 40), tmp_path / "out"
    held: list[int] = []
    with run.model.student.register_forward_pre_hook(lambda *_: held.append(len(listed(out)))):
        predict(run, paths, out, progress=False)
    # Pictures of one batch may wait while the network computes on idle cores, no more.
    assert held == ([0, 16, 32] if cores == 1 else [0, 0, 16])


def test_the_network_waits_for_files_and_pictures_only_where_it_has_all_cores(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    paths, drawn = photographs(tmp_path / "in", 40), threading.Event()
    real = prediction_module.write_overlay

    def slow(*arguments: object) -> None:
        drawn.wait(0.2 if cores == 1 else 30)  # for the second batch, which idle cores compute
        real(*arguments)

    monkeypatch.setattr(prediction_module, "write_overlay", slow)
    seen: list[bool] = []

    def second(*_: object) -> None:
        seen.append((tmp_path / "out" / "000.png").exists())
        if len(seen) == 2:
            drawn.set()

    with run.model.student.register_forward_pre_hook(second):
        rows = predict(run, paths, tmp_path / "out", progress=False)
    assert seen[:2] == [False, cores == 1]
    assert [row["path"] for row in rows] == [str(path) for path in paths]


def test_idle_cores_change_no_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "_CHUNK_BYTES", 3 * 32**2 * 20)  # batches of 16, 4, 16, 4
    monkeypatch.setattr(load_module, "_WORKERS", 2)
    paths = photographs(tmp_path / "in", 40)
    paths[5].write_bytes(b"no image")
    found = {}
    for count in (1, 64):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        out = tmp_path / str(count)
        rows = predict(calibrated(run, 0.1, 0.2), paths, out, skip_unreadable=True, progress=False)
        found[count] = rows, [file.read_bytes() for file in sorted(out.glob("*.png"))]
    assert len(found[1][0]) == len(found[1][1]) == 39
    assert found[1] == found[64]


def test_a_picture_that_cannot_be_written_ends_the_prediction_and_names_its_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    paths, out = photographs(tmp_path / "in", 40), tmp_path / "out"
    real = prediction_module.write_overlay

    def full(outputs: object, name: str, *more: object) -> None:
        if name == "003.png":
            raise DeSTSegError(f"{name} could not be written: no space is left")
        real(outputs, name, *more)

    monkeypatch.setattr(prediction_module, "write_overlay", full)
    with pytest.raises(DeSTSegError, match=r"003\.png could not be written"):
        predict(run, paths, out, progress=False)
    rows = listed(out)
    assert rows[:3] == [str(path) for path in paths[:3]]
    assert str(paths[3]) not in rows
    assert all((out / Path(row).name).is_file() for row in rows)


def test_an_unreadable_image_is_an_error_or_is_listed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = photographs(tmp_path / "in", 3)
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    with pytest.raises(DeSTSegError, match=r"001\.png cannot be decoded"):
        predict(run, paths, tmp_path / "a", progress=False)
    assert listed(tmp_path / "a") == []
    capsys.readouterr()
    rows = predict(run, paths, tmp_path / "b", skip_unreadable=True, progress=False)
    assert [row["path"] for row in rows] == [str(paths[0]), str(paths[2])]
    assert f"skipped {paths[1]}: " in capsys.readouterr().out


def test_no_readable_image_is_an_error_even_when_skipping(run: Run, tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 2)
    for path in paths:
        path.write_text("no image")
    with pytest.raises(DeSTSegError, match="None of the 2 images can be read"):
        predict(run, paths, tmp_path / "out", skip_unreadable=True, progress=False)
    with pytest.raises(DeSTSegError, match="list of files is empty"):
        predict(run, [], tmp_path / "out", progress=False)


def test_an_output_folder_that_cannot_be_used_is_refused(run: Run, tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 1)
    before = paths[0].read_bytes()
    with pytest.raises(DeSTSegError, match="where the overlays go"):
        predict(run, paths, tmp_path / "in", progress=False)
    assert paths[0].read_bytes() == before
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DeSTSegError, match=r"out could not be written .*exists.* another --out"):
        predict(run, paths, tmp_path / "out", progress=False)
    (tmp_path / "taken" / "scores.json").mkdir(parents=True)
    with pytest.raises(DeSTSegError, match=r"scores\.json could not be written"):
        predict(run, paths, tmp_path / "taken", progress=False)


# Overlays


def disc(size: int = 256, radius: float = 20.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (np.hypot(x - 80, y - 100) < radius).astype(np.float32)


def flat(value: float) -> np.ndarray:
    return np.full((256, 256), value, np.float32)


def line_of(picture: np.ndarray) -> np.ndarray:
    return np.asarray((picture == LINE).all(axis=2))


def test_the_outline_surrounds_the_defect_and_leaves_it_visible() -> None:
    photo = np.full((512, 512, 3), 90, np.uint8)
    picture = overlay(photo, disc(), 0.5)[:, :512]
    y, x = np.nonzero(line_of(picture))
    distance = np.hypot(x - 160.5, y - 200.5)  # the disc at twice its size
    assert (distance.min(), distance.max()) == pytest.approx((40, 42), abs=1.5)
    angles = np.arctan2(y - 200.5, x - 160.5)
    assert len(np.unique(np.round(angles, 1))) > 60  # it goes all the way round
    assert (picture[190:210, 150:170] == 90).all()
    assert (picture[300:] == 90).all()


@pytest.mark.parametrize("shade", [0, 255, (0xD5, 0x5E, 0x00)])
def test_the_outline_shows_on_any_photograph_if_there_is_a_threshold(shade: object) -> None:
    photo = np.broadcast_to(np.asarray(shade, np.uint8), (128, 128, 3)).copy()
    assert (overlay(photo, disc(), 0.5)[:, :128] != photo).any()
    np.testing.assert_array_equal(overlay(photo, disc(), None)[:, :128], photo)


def test_a_defect_all_over_or_one_pixel_wide_is_outlined_too() -> None:
    photo = np.full((60, 40, 3), 90, np.uint8)
    peak = flat(0)
    peak[255, 0] = 0.9
    for anomaly_map in (flat(1), peak):
        assert line_of(overlay(photo, anomaly_map, 0.5)).any()


def test_heat_is_on_one_scale_for_all_images() -> None:
    def brightness(value: float, scale: float = 1.0) -> float:
        photo = np.zeros((64, 64, 3), np.uint8)
        return float(overlay(photo, flat(value), None, scale=scale)[:, -1].mean())

    assert brightness(0.1) < brightness(0.9) / 3
    assert brightness(0.45, scale=0.5) == pytest.approx(brightness(0.9))


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
    config = replace(TINY, model=replace(TINY.model, segmentation=False))
    alone = replace(run, model=tiny_model(config), config=config)
    paths = photographs(tmp_path / "in", 1)
    score = predict(alone, paths, tmp_path / "a", progress=False)[0]["score"]
    brightness = []
    for name, threshold in (("low", score / 4), ("high", score * 4)):
        predict(calibrated(alone, threshold), paths, tmp_path / name, fpr=0.5, progress=False)
        picture = np.asarray(Image.open(tmp_path / name / "000.png"))
        brightness.append(picture[:, -60:].mean())
    assert brightness[0] > 2 * brightness[1]
