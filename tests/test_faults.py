"""A run survives whatever ends it: kills at any moment, a full disk, interrupts, divergence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import Fork
from PIL import Image

from destseg_lib import cli
from destseg_lib.runs.run import CALIBRATION, CHECKPOINT, CONFIG, LOG, MODEL

STEPS = 12  # of each phase
EVERY = 4  # steps between checkpoints
TESTS = Path(__file__).resolve().parent

Job = Callable[..., int]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can fork")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for n in range(6):
        pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def arguments(photographs: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(photographs), "--out", str(out), "--teacher", "random"),
        *("--recipe", "tiny", "--textures", str(photographs)),
        *("--image-size", "32", "--batch-size", "4"),
        *("--student-steps", str(STEPS), "--segmentation-steps", str(STEPS), "--width", "0.0625"),
        *("--precision", "fp32", "--device", "cpu", "--checkpoint-every", str(EVERY)),
        *("--quiet", *more),
    ]


@pytest.fixture(scope="module")
def run_job(fork: Fork, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Train into a folder in a process of its own, with a fault; return the exit status."""
    logs = tmp_path_factory.mktemp("logs")

    def run(
        out: Path,
        moment: dict[str, int] | None = None,
        *,
        file_limit: int | None = None,
        log: Path = logs / "output",
        data: Path = photographs,
    ) -> int:
        command = arguments(data, out, "--resume")
        status, output = fork(command, log, moment=moment or {}, file_limit=file_limit)
        if moment is None and file_limit is None and status != 0:
            pytest.fail(f"train ended with {status}:\n{output}")
        return status

    return run


@pytest.fixture(scope="module")
def unbroken(run_job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert run_job(out) == 0
    return out


def check_same(out: Path, unbroken: Path) -> None:
    """Weights and calibration are the same to the bit, the log is whole, nothing else is left."""
    for name in (MODEL, CALIBRATION):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes()
    records = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    places = [(record["phase"], record["step"]) for record in records]
    assert places == [(p, s) for p in ("student", "segmentation") for s in (10, STEPS)]
    assert not list(out.glob("*.partial")) and not (out / CHECKPOINT).exists()


# Eight moments spread evenly over the 24 steps, then half-way through writing each checkpoint.
MOMENTS = [{"step": 1 + round(k * (2 * STEPS - 1) / 7)} for k in range(8)] + [
    {"save": k} for k in range(1, 2 * STEPS // EVERY + 1)
]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: "-".join(map(str, *m.items())))
def test_a_killed_run_ends_with_the_same_bits(
    moment: dict[str, int], run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run_job(out, moment) == -signal.SIGKILL
    assert not (out / MODEL).exists()
    assert run_job(out) == 0
    check_same(out, unbroken)


TRIAL_STEPS = 2 * 2 * 3  # before a run that chooses its threads: two numbers, two phases


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, STEPS + 5])
def test_a_run_that_chose_its_threads_ends_with_the_same_bits_beside_a_busy_process(
    step: int, fork: Fork, photographs: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    command = arguments(photographs, out, "--resume")
    killed, _ = fork(command, log, moment={"step": TRIAL_STEPS + step}, threads=2)
    assert killed == -signal.SIGKILL
    chosen = json.loads((out / CONFIG).read_text())["inputs"]["threads"]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        status, output = fork(command, log, threads=2)
    finally:
        busy.kill()
        busy.wait()
    assert status == 0, output
    assert json.loads((out / CONFIG).read_text())["inputs"]["threads"] == chosen
    whole = tmp_path / "whole"
    stated = arguments(photographs, whole, "--threads", str(chosen))
    status, output = fork(stated, log, threads=2)
    assert status == 0, output
    check_same(out, whole)


# Two for each file that is written whole (teacher, configuration, six checkpoints, model,
# calibration), one for each line of the list of files (teacher, configuration) and one for each of
# four records of the log.
SYNCS = 2 * (2 + 2 * STEPS // EVERY + 2) + 2 + 4


@pytest.mark.slow
@pytest.mark.parametrize("sync", range(1, SYNCS + 1))
def test_a_run_killed_as_a_file_reaches_the_disk_ends_with_the_same_bits(
    sync: int, run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run_job(out, {"sync": sync}) == -signal.SIGKILL
    # The order of the files: each is there only if all that it needs are.
    order = [(out / name).exists() for name in ("teacher.safetensors", CONFIG, MODEL, CALIBRATION)]
    assert order == sorted(order, reverse=True)
    assert run_job(out) == 0
    check_same(out, unbroken)


def test_no_file_reaches_the_disk_unnoticed_by_these_tests(run_job: Job, tmp_path: Path) -> None:
    assert run_job(tmp_path / "run", {"sync": SYNCS + 1}) == 0


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for moment in ({"step": 5}, {"save": 2}, {"step": 1}, {"step": 8}, {"save": 3}, {"sync": 4}):
        assert run_job(out, moment) == -signal.SIGKILL
    assert run_job(out) == 0
    check_same(out, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_ended_from_outside_at_any_time_ends_with_the_same_bits(
    number: signal.Signals, photographs: Path, run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "destseg_lib.cli", *arguments(photographs, out, "--resume")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=TESTS.parent,
    )
    deadline = time.monotonic() + 60
    while not (out / CHECKPOINT).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode in (-number, 130, 0)  # it may just have finished
    if process.returncode == 130:
        assert "stopped at" in errors and "give the same command with --resume" in errors
    assert run_job(out) == 0
    check_same(out, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "number"),
    [(1, signal.SIGTERM), (5, signal.SIGINT), (12, signal.SIGINT), (17, signal.SIGTERM)],
)
def test_an_interrupt_saves_the_current_step_and_resume_ends_with_the_same_bits(
    step: int, number: signal.Signals, run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "output"
    assert run_job(out, {"step": step, "signal": number}, log=log) == 130
    phase, place = ("student", step) if step <= STEPS else ("segmentation", step - STEPS)
    assert f"destseg: stopped at {phase} step {place} of {STEPS}, saved in {out}" in log.read_text()
    assert "Traceback" not in log.read_text()
    kept = torch.load(out / CHECKPOINT, weights_only=True)
    assert (kept["phase"], kept["step"]) == (phase, place)
    assert run_job(out) == 0
    check_same(out, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.9])
def test_a_disk_that_takes_no_more_keeps_the_previous_checkpoint(
    share: float, run_job: Job, unbroken: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "output"
    assert run_job(out, {"step": 8}) == -signal.SIGKILL
    before = (out / CHECKPOINT).read_bytes()
    limit = max(1000, int(share * len(before)))  # the log is still written
    assert run_job(out, file_limit=limit, log=log) == 2
    message = log.read_text()
    assert f"destseg: {out / CHECKPOINT} could not be written" in message
    assert "previous file is kept. Free some space" in message and "--resume" in message
    assert "Traceback" not in message
    assert (out / CHECKPOINT).read_bytes() == before
    assert not list(out.glob("*.partial"))
    assert run_job(out) == 0
    check_same(out, unbroken)


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The message of a command that must be refused with status 2."""
    assert cli.main(list(command)) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seed 7", "was started with seed 0, not 7"),
        ("--width 0.5", "was started with width 0.0625, not 0.5"),
        ("--segmentation-width 0.5", "was started with segmentation width None, not 0.5"),
        ("--student-steps 99", "was started with student steps 12, not 99"),
        ("--levels 2,3", "was started with levels (1, 2, 3), not (2, 3)"),
        ("--no-l1", "was started with l1 True, not False"),
        ("--recipe paper", "was started with recipe tiny, not paper"),
        ("--teacher imagenet", "was started with teacher random, not imagenet"),
    ],
)
def test_resume_refuses_a_contradicting_option(
    options: str,
    message: str,
    unbroken: Path,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = refused(capsys, *arguments(photographs, unbroken, "--resume", *options.split()))
    assert message in printed and "leave the option out to resume" in printed


def test_resume_accepts_what_does_not_contradict(
    unbroken: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A time budget and the fastest precision were settled when the run began.
    more = ("--resume", "--precision", "auto", "--time-budget", "5", "--student-steps", "99")
    assert cli.main(arguments(photographs, unbroken, *more)) == 0
    few = ["train", "--data", str(photographs), "--out", str(unbroken), "--resume"]
    assert cli.main(few) == 0
    assert "is complete; nothing is left to do" in capsys.readouterr().out


@pytest.fixture
def elsewhere(photographs: Path, tmp_path: Path) -> Path:
    """A copy of the photographs that a test may change."""
    return shutil.copytree(photographs, tmp_path / photographs.name)


@pytest.mark.slow
def test_resume_goes_on_where_the_same_photographs_are_elsewhere(
    run_job: Job, elsewhere: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run_job(out, {"step": 20}) == -signal.SIGKILL
    assert run_job(out, data=elsewhere) == 0
    check_same(out, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fewer", "was started with good images = 6, now it is 5"),
        ("other name", "was started with good images of other names or file sizes"),
        ("other size", "was started with good images of other names or file sizes"),
        ("other textures", "was started with textures of other names or file sizes"),
        ("no textures", "was started with textures = photographs"),
    ],
)
def test_resume_refuses_other_images(
    change: str,
    message: str,
    run_job: Job,
    photographs: Path,
    elsewhere: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert run_job(out, {"step": 5}) == -signal.SIGKILL
    command = arguments(elsewhere, out, "--resume")
    if change == "fewer":
        (elsewhere / "0.png").unlink()
    elif change == "other name":
        (elsewhere / "0.png").rename(elsewhere / "00.png")
    else:
        Image.new("RGB", (64, 48)).save(elsewhere / "0.png")
    if change == "other textures":
        command[command.index("--data") + 1] = str(photographs)
    elif change == "no textures":
        command[command.index("--data") + 1] = str(photographs)
        place = command.index("--textures")
        del command[place : place + 2]
    printed = refused(capsys, *command)
    assert message in printed and "give the same --data and --textures" in printed


@pytest.mark.slow
def test_an_unfinished_run_is_not_measured(
    run_job: Job, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_job(out, {"step": 5}) == -signal.SIGKILL
    message = refused(
        capsys, "predict", "--run", str(out), str(photographs), "--out", str(tmp_path / "p")
    )
    assert "is not finished" in message and "--resume" in message
    message = refused(capsys, "evaluate", "--run", str(out), "--data", str(photographs))
    assert "is not finished" in message and "--resume" in message


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(
    run_job: Job, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_job(out, {"step": 5}) == -signal.SIGKILL
    whole = (out / CHECKPOINT).read_bytes()
    (out / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    message = refused(capsys, *arguments(photographs, out, "--resume"))
    assert str(out / CHECKPOINT) in message and "could not be read" in message
