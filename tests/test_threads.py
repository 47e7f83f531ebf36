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
from destseg_lib.files import read_json, write_json
from destseg_lib.images.folders import find_category
from destseg_lib.runs import threads as module
from destseg_lib.runs import train as training
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.threads import choose_threads, fastest
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


def test_the_steps_of_the_recipe_decide_and_not_those_that_were_timed():
    measured = {1: {"student": 1.0, "segmentation": 3.0}, 2: {"student": 2.0, "segmentation": 1.0}}
    for student, segmentation, expected in ((10, 1, 1), (1, 10, 2)):
        config = replace(
            TINY,
            student=replace(TINY.student, steps=student),
            segmentation=replace(TINY.segmentation, steps=segmentation),
        )
        assert fastest(measured, config) == expected


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


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((), None, "auto"),
        ((), "3", None),
        (("--threads", "1"), "3", 1),
        (("--threads", "4"), None, 4),
    ],
)
def test_the_command_times_them_where_nothing_was_asked_for(
    options, environment, expected, category, tmp_path, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    jobs = []
    monkeypatch.setattr(
        "destseg_lib.cli.train.train_and_calibrate", lambda c, o, config, job: jobs.append(job)
    )
    command = ["train", "--data", str(category.root), "--out", str(tmp_path / "run"), *options]
    assert cli.main([*command, "--device", "cpu"]) == 0
    assert [job.threads for job in jobs] == [expected]


def test_no_threads_are_refused():
    with pytest.raises(DeSTSegError, match="0 threads cannot compute; give --threads 1 or more"):
        replace(JOB, threads=0)
