"""A run's threads: chosen once by timing, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, noise, tiny_model

from destseg_lib import cli
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.predict import predict
from destseg_lib.evaluation.scoring import score_files
from destseg_lib.files import read_json, write_json
from destseg_lib.images.folders import find_category
from destseg_lib.model import PREDICTION_BATCH, PredictedMaps
from destseg_lib.runs import threads as module
from destseg_lib.runs import train as training
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.run import Run, load_run
from destseg_lib.runs.threads import Pace, choose_threads
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

# Beside a busy process all threads wait for one another; alone they share the work.
BUSY, IDLE = {1: 0.4, 2: 3.6}, {1: 0.8, 2: 0.5}
CONFIG = replace(TINY, holdout=0.5)
JOB = TrainingJob(teacher="random", device="cpu", progress=False)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def timed(monkeypatch):
    """Real trial steps, with times that are given."""

    def so(times: dict[int, float]) -> None:
        def measure(*arguments, **named):
            found = seconds_per_step(*arguments, **named)
            return dict.fromkeys(found, times[torch.get_num_threads()])

        monkeypatch.setattr(module, "seconds_per_step", measure)

    return so


@pytest.fixture
def category(tmp_path: Path):
    folder = tmp_path / "bolt"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return find_category(folder)


def threads_in_training(monkeypatch, stop: bool = False) -> list[int]:
    """Note the threads that training has; end it there if asked to."""
    seen = []
    real = training.train_with_checkpoints

    def noted(*arguments, **named):
        seen.append(torch.get_num_threads())
        if stop:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(training, "train_with_checkpoints", noted)
    return seen


@pytest.mark.parametrize(("times", "chosen"), [(BUSY, 1), (IDLE, 2)])
def test_the_faster_number_is_taken_and_said(timed, capsys, times, chosen):
    timed(times)
    assert choose_threads(tiny_model(), noise(), TINY, "auto")[0] == chosen
    assert f"threads {chosen}, the faster" in capsys.readouterr().out
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("wanted", "threads", "expected"), [(1, 2, 1), (None, 2, 2), ("auto", 1, 1)]
)
def test_nothing_is_timed_where_there_is_nothing_to_choose(wanted, threads, expected, monkeypatch):
    monkeypatch.setattr(module, "seconds_per_step", lambda *a, **k: pytest.fail("timed"))
    torch.set_num_threads(threads)
    assert choose_threads(tiny_model(), noise(), TINY, wanted) == (expected, None)


def test_the_steps_of_the_recipe_decide_and_not_those_that_were_timed(monkeypatch, capsys):
    measured = {1: {"student": 1.0, "segmentation": 3.0}, 2: {"student": 2.0, "segmentation": 1.0}}
    monkeypatch.setattr(
        module, "seconds_per_step", lambda *_, **__: measured[torch.get_num_threads()]
    )
    for student, segmentation, expected, said in (
        (600, 60, 1, "1: 13.0 min, 2: 21.0 min"),
        (60, 600, 2, "1: 31.0 min, 2: 12.0 min"),
    ):
        config = replace(
            TINY,
            student=replace(TINY.student, steps=student),
            segmentation=replace(TINY.segmentation, steps=segmentation),
        )
        assert choose_threads(tiny_model(), noise(), config, "auto") == (
            expected,
            measured[expected],
        )
        assert said in capsys.readouterr().out


def test_the_trial_steps_change_nothing_of_the_run(category, timed, tmp_path):
    timed(BUSY)
    for name, threads in (("asked", 1), ("timed", "auto")):
        train_and_calibrate(category, tmp_path / name, CONFIG, replace(JOB, threads=threads))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("asked", "timed")]
    assert weights[0] == weights[1]
    assert read_json(tmp_path / "timed" / "config.json")["inputs"]["threads"] == 1
    assert torch.get_num_threads() == 2


def test_a_run_that_is_continued_keeps_its_threads(category, timed, tmp_path, monkeypatch, capsys):
    timed(BUSY)
    out, job = tmp_path / "run", replace(JOB, threads="auto")
    with monkeypatch.context() as patch:
        stopped = threads_in_training(patch, stop=True)
        with pytest.raises(KeyboardInterrupt):
            train_and_calibrate(category, out, CONFIG, job)
    timed(IDLE)  # the other process has ended since
    with pytest.raises(DeSTSegError, match="started with threads 1, not 2; leave the option out"):
        train_and_calibrate(category, out, CONFIG, replace(JOB, threads=2))
    continued = threads_in_training(monkeypatch)
    train_and_calibrate(category, out, CONFIG, job)
    assert (stopped, continued) == ([1], [1])
    assert "threads 1, as the run began; torch would take 2" in capsys.readouterr().out


def test_a_run_of_another_version_has_no_number_and_takes_torchs(category, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        threads_in_training(patch, stop=True)
        with pytest.raises(KeyboardInterrupt):
            train_and_calibrate(category, out, CONFIG, replace(JOB, threads=1))
    described = read_json(out / "config.json")
    del described["inputs"]["threads"]
    write_json(out / "config.json", described)
    seen = threads_in_training(monkeypatch)
    train_and_calibrate(category, out, CONFIG, JOB)
    assert seen == [2]


ASKED = [
    ((), None, "auto"),
    ((), "3", None),
    (("--threads", "1"), "3", 1),
    (("--threads", "4"), None, 4),
]


@pytest.fixture(params=ASKED, ids=str)
def asked(request, monkeypatch):
    """Options of a command, in an environment, and the threads that it then wants."""
    options, environment, expected = request.param
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    return options, expected


def test_the_command_times_them_where_nothing_was_asked_for(asked, category, tmp_path, monkeypatch):
    options, expected = asked
    jobs = []
    monkeypatch.setattr(
        "destseg_lib.cli.train.train_and_calibrate", lambda c, o, config, job: jobs.append(job)
    )
    command = ["train", "--data", str(category.root), "--out", str(tmp_path / "run"), *options]
    assert cli.main([*command, "--device", "cpu"]) == 0
    assert [job.threads for job in jobs] == [expected]


# Prediction


@pytest.fixture
def predicting(monkeypatch):
    """A run whose images take as long as is said, on a clock that is turned by hand."""
    clock, times = [0.0], dict(IDLE)

    def maps(run, pixels):
        for start in range(0, len(pixels), PREDICTION_BATCH):
            empty = np.zeros((len(pixels[start : start + PREDICTION_BATCH]), 4, 4), np.float32)
            clock[0] += times[torch.get_num_threads()] * len(empty)
            seen.append((len(empty), torch.get_num_threads()))
            yield PredictedMaps(empty, empty)

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(Run, "maps", maps)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    run = Run(tiny_model().eval(), TINY, "random", ())
    return run, times, seen


def batches_of(pace: Pace, seen: list[tuple[int, int]], pixels: np.ndarray) -> list[int]:
    """The threads of each batch; single images are looks."""
    seen.clear()
    maps = [batch.final for batch in pace.maps(pixels)]
    assert len(np.concatenate(maps)) == len(pixels)
    return [threads for images, threads in seen if images > 1]


PIXELS = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(("times", "threads"), [(IDLE, 2), (BUSY, 1)])
def test_prediction_takes_the_faster_number(predicting, times, threads):
    run, now, seen = predicting
    now.update(times)
    assert batches_of(Pace(run, "auto", 64), seen, PIXELS) == [threads] * 4
    assert torch.get_num_threads() == 2


def test_prediction_follows_a_process_that_comes_and_goes(predicting, capsys):
    run, times, seen = predicting
    pace = Pace(run, "auto", 1000)
    times.update(IDLE)
    assert batches_of(pace, seen, PIXELS) == [2] * 4
    times.update(BUSY)
    found = batches_of(pace, seen, PIXELS)
    assert found[0] == 2
    assert found[-1] == 1
    assert "threads 1, the faster for an image at the moment" in capsys.readouterr().out
    times.update(IDLE)
    assert [batches_of(pace, seen, PIXELS) for _ in range(9)][-1] == [2] * 4


def test_it_looks_less_often_the_longer_it_looks_in_vain(predicting):
    run, times, seen = predicting
    times.update({1: 0.008, 2: 0.005})
    pace, looks = Pace(run, "auto", 1000), []
    for call in range(600):  # of a third of a second each
        batches_of(pace, seen, PIXELS)
        if any(images == 1 for images, _ in seen):
            looks.append(call)
    gaps = np.diff(looks)
    assert 28 < gaps[0] < 34, "ten seconds"
    assert gaps[-1] > 3 * gaps[0]
    assert len(looks) >= 4


def test_dear_looks_are_rare(predicting):
    run, times, seen = predicting
    times.update({1: 8.0, 2: 5.0})
    pace = Pace(run, "auto", 1000)
    batches_of(pace, seen, PIXELS)  # more than five minutes
    assert sum(images == 1 for images, _ in seen) == 4


@pytest.mark.parametrize(
    ("wanted", "images", "threads"), [(1, 64, 1), (None, 64, 2), ("auto", 3, 1)]
)
def test_a_stated_number_is_not_looked_at_and_few_images_take_one(
    predicting, wanted, images, threads
):
    run, _, seen = predicting
    assert set(batches_of(Pace(run, wanted, images), seen, PIXELS)) == {threads}
    assert all(images > 1 for images, _ in seen)


def test_maps_and_scores_are_those_of_any_other_number(category, tmp_path):
    train_and_calibrate(category, tmp_path / "run", CONFIG, replace(JOB, threads=1))
    run, paths = load_run(tmp_path / "run", torch.device("cpu")), list(category.train) * 3
    found = {
        wanted: [
            batch.maps.final for batch in score_files(run, paths, progress=False, threads=wanted)
        ]
        for wanted in (1, 2, "auto")
    }
    for wanted in (2, "auto"):
        np.testing.assert_allclose(*map(np.concatenate, (found[1], found[wanted])), atol=1e-5)


@pytest.mark.parametrize("command", ["predict", "evaluate", "study"])
def test_other_commands_time_them_too(command, asked, tmp_path, monkeypatch):
    options, expected = asked
    seen = []

    def noted(*_, threads, **__):
        seen.append(threads)
        raise DeSTSegError("enough")

    name = {"study": "run_study"}.get(command, command)
    monkeypatch.setattr(f"destseg_lib.cli.{command}.{name}", noted)
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    given = {
        "predict": [str(tmp_path), "--run", "pretrained:metal", "--out", str(tmp_path / "out")],
        "evaluate": ["--run", "pretrained:metal", "--data", str(tmp_path)],
        "study": ["run", "table5", "--categories", "metal", "--out", str(tmp_path / "out")],
    }[command]
    assert cli.main([command, *given, "--device", "cpu", *options]) == 2
    assert seen == [expected]


def test_no_threads_are_refused_before_anything_is_written(predicting, category, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.json").write_text("[1]")
    with pytest.raises(DeSTSegError, match="0 threads cannot compute; give --threads 1 or more"):
        predict(predicting[0], category.train, tmp_path / "out", threads=0, overwrite=True)
    assert (tmp_path / "out" / "scores.json").read_text() == "[1]"
    with pytest.raises(DeSTSegError, match="0 threads cannot compute; give --threads 1 or more"):
        Pace(predicting[0], 0, 9)
    with pytest.raises(DeSTSegError, match="0 threads cannot compute; give --threads 1 or more"):
        replace(JOB, threads=0)
