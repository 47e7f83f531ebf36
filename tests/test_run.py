"""A run's folder: what it holds, what it refuses, and that it gives what training gives."""

from __future__ import annotations

import gzip
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import TINY, noise, tiny_model

from destseg_lib import cli, training
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig, config_to_dict
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import append_json_line, read_json, read_json_lines
from destseg_lib.files.outputs import LIST
from destseg_lib.model import DeSTSeg, score_images
from destseg_lib.runs import checkpoint as checkpoint_module
from destseg_lib.runs.checkpoint import InterruptedRunError, train_with_checkpoints
from destseg_lib.runs.holdout import hold_out
from destseg_lib.runs.inputs import fingerprint_files
from destseg_lib.runs.log import rewind_log
from destseg_lib.runs.run import (
    CALIBRATION,
    CHECKPOINT,
    CONFIG,
    LOG,
    MODEL,
    TEACHER,
    load_run,
    read_run,
    run_teacher,
    save_calibration,
    save_weights,
    start_run,
)
from destseg_lib.teacher import load_teacher
from destseg_lib.training import NonFiniteLossError, phase_config, train

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
OLD_RUN = Path(__file__).resolve().parent / "fixtures" / "run-0.1"


def begin(out: Path, config: TrainingConfig = TINY) -> DeSTSeg:
    """Start a run; return its untrained model."""
    start_run(out, config, load_teacher("random"), {"category": "tile"})
    return tiny_model(config)


def train_run(
    out: Path, model: DeSTSeg | None = None, config: TrainingConfig = TINY, **options: Any
) -> None:
    """Train a run that was begun, or begin one and train it."""
    model = model or begin(out, config)
    train_with_checkpoints(out, model, noise(), config, progress=False, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    train_run(out)
    save_calibration(out, [0.25, 0.5])
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return shutil.copytree(finished, tmp_path / "copy")


def records(out: Path) -> list[tuple[str, int]]:
    return [(r["phase"], r["step"]) for r in read_json_lines(out / LOG)]


# ---- starting


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    model = begin(out)
    described = read_run(out)
    assert described["config"] == TINY
    assert described["inputs"] == {"category": "tile"}
    assert described["teacher"] == {
        "name": "random",
        "fingerprint": load_teacher("random").fingerprint(),
    }
    assert described["provenance"]["python"] == platform.python_version()
    again = run_teacher(out)
    assert again.name == "random"
    for name, tensor in model.teacher.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_run_is_not_started_over_another(tmp_path: Path) -> None:
    begin(tmp_path)
    with pytest.raises(DeSTSegError, match=r"already holds a run; continue it with --resume, or"):
        begin(tmp_path)


@pytest.mark.parametrize("name", [TEACHER, CHECKPOINT, LOG, MODEL, CALIBRATION])
def test_what_another_run_left_is_not_taken_for_this_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"left")
    with pytest.raises(DeSTSegError, match=rf"{name} is there already.*move it away or choose"):
        begin(tmp_path)
    assert (tmp_path / name).read_bytes() == b"left"


def test_a_run_killed_before_its_configuration_was_written_can_be_started(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / CONFIG).unlink()
    begin(tmp_path)
    assert run_teacher(tmp_path).name == "random"


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(DeSTSegError, match=r"run could not be written .*choose another --out"):
        begin(tmp_path / "run")


# ---- training


def test_a_run_gives_what_training_in_memory_gives(finished: Path) -> None:
    model = tiny_model()
    train(model, noise(), TINY, progress=False)
    weights = load_file(finished / MODEL)
    trained = {k: v for k, v in model.state_dict().items() if not k.startswith("teacher")}
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[k], trained[k]) for k in trained)


def test_a_finished_run_holds_what_it_needs_and_no_more(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {CONFIG, TEACHER, LOG, MODEL, CALIBRATION, LIST}
    assert records(finished) == [("student", 6), ("segmentation", 5)]
    with safe_open(finished / MODEL, "pt") as file:
        recorded = json.loads(file.metadata()["config"])
    assert recorded == json.loads(json.dumps(config_to_dict(TINY)))


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4, 6, 2, 4, 5]), (100, [6, 5])])
def test_checkpoints_come_at_the_interval_and_at_the_end_of_a_phase(
    every: int, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, save = [], checkpoint_module.save_checkpoint

    def spy(path: Path, model: DeSTSeg, config: TrainingConfig, state: Any) -> None:
        saved.append(state.step)
        save(path, model, config, state)

    monkeypatch.setattr(checkpoint_module, "save_checkpoint", spy)
    train_run(tmp_path, checkpoint_every=every)
    assert saved == steps


def test_without_a_segmentation_network_there_is_one_phase(tmp_path: Path) -> None:
    train_run(tmp_path, config=replace(TINY, model=ModelConfig(width=1 / 16, segmentation=False)))
    assert records(tmp_path) == [("student", 6)]
    assert all(name.startswith("student.") for name in load_file(tmp_path / MODEL))


def asked_to_stop_after(calls: int) -> Callable[[], Any]:
    """As ``interrupts_wait``, with a request that comes right after so many looks at it."""

    @contextmanager
    def waiting() -> Iterator[Callable[[], bool]]:
        looks = iter(range(1000))
        yield lambda: next(looks) >= calls

    return waiting


@pytest.mark.parametrize("calls", range(11))
def test_a_request_to_stop_at_any_moment_is_saved_at_the_step_it_names(
    calls: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "interrupts_wait", asked_to_stop_after(calls))
        with pytest.raises(InterruptedRunError) as stopped:
            train_run(tmp_path, checkpoint_every=100)
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert str(stopped.value) == (
        f"stopped at {kept['phase']} step {kept['step']} of "
        f"{phase_config(TINY, kept['phase']).steps}, saved in {tmp_path}; "
        "to continue, give the same command with --resume"
    )
    assert kept["step"] + (6 if kept["phase"] == "segmentation" else 0) == calls + 1

    train_run(tmp_path, tiny_model())
    assert (tmp_path / MODEL).read_bytes() == (finished / MODEL).read_bytes()
    assert records(tmp_path) == records(finished)


def test_a_finished_run_is_not_trained_again_and_loses_a_checkpoint_left_behind(copy: Path) -> None:
    before = (copy / MODEL).read_bytes()
    (copy / CHECKPOINT).write_bytes(b"the kill came before this was removed")
    (copy / f"{MODEL}123.destseg.partial").touch()
    (copy / "setup.exe.partial").touch()  # a browser's
    train_run(copy, tiny_model())
    assert (copy / MODEL).read_bytes() == before
    assert not (copy / CHECKPOINT).exists()
    assert [path.name for path in copy.glob("*.partial")] == ["setup.exe.partial"]


@pytest.mark.parametrize("rate", [1e10, 1e38])
@pytest.mark.parametrize("phase", ["student", "segmentation"])
def test_an_absurd_learning_rate_stops_with_finite_weights_in_the_last_checkpoint(
    phase: str, rate: float, tmp_path: Path
) -> None:
    config = replace(TINY, **{phase: PhaseConfig(steps=40, lr=rate)})
    with pytest.raises(NonFiniteLossError, match=rf"{phase} step \d+; the learning rate is") as bad:
        train_run(tmp_path, config=config, checkpoint_every=1)
    message = str(bad.value)
    if not (tmp_path / CHECKPOINT).exists():
        assert message.endswith("No checkpoint had been saved yet")
        return
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert all(bool(torch.isfinite(t).all()) for t in kept["model"].values())
    assert message.endswith(
        f"The last good checkpoint is {tmp_path / CHECKPOINT}, {kept['phase']} step {kept['step']}"
    )
    assert not (tmp_path / MODEL).exists()


def test_a_loss_that_is_not_a_number_does_not_reach_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = training.LOSSES["student"], iter(range(1, 99))

    def diverges(*arguments: Any) -> torch.Tensor:
        return loss(*arguments) * (float("nan") if next(calls) == 5 else 1)

    monkeypatch.setitem(training.LOSSES, "student", diverges)
    with pytest.raises(
        NonFiniteLossError, match=r"loss is nan at student step 5.*last good.*student step 4"
    ):
        train_run(tmp_path, checkpoint_every=2)


# ---- the log


def test_the_log_is_taken_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / LOG
    places = [("student", 10), ("student", 20), ("segmentation", 10), ("segmentation", 20)]
    for phase, step in places:
        append_json_line(path, {"phase": phase, "step": step, "loss": 0.1})
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + '{"phase": "stu')
    rewind_log(path, "segmentation", 15)
    assert path.read_text() == "".join(whole[:3])
    rewind_log(path, "student", 10)
    assert path.read_text() == whole[0]


def test_tensorboard_gets_every_record(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional tensorboard package is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_run(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for phase, step in records(tmp_path):
        assert [event.step for event in events.Scalars(f"{phase}/loss")] == [step]
        assert [event.step for event in events.Scalars(f"{phase}/learning_rate")] == [step]


def test_tensorboard_that_is_not_installed_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DeSTSegError, match="pip install tensorboard"):
        train_run(tmp_path, tensorboard=True)


# ---- loading


def test_a_finished_run_loads_whole(finished: Path) -> None:
    run = load_run(finished, CPU)
    assert run.config == TINY
    assert (run.teacher_name, run.calibration_scores) == ("random", (0.25, 0.5))
    assert not any(module.training for module in run.model.modules())
    loaded = run.model.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in load_file(finished / MODEL).items())


@pytest.mark.parametrize("name", [MODEL, CALIBRATION])
def test_an_unfinished_run_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(DeSTSegError, match=r"copy is not finished; give its .* with --resume"):
        load_run(copy, CPU)


def test_a_run_that_is_trained_but_not_calibrated_loads_if_asked_for(copy: Path) -> None:
    (copy / CALIBRATION).unlink()
    assert load_run(copy, CPU, calibrated=False).calibration_scores == ()


def test_the_model_of_another_width_is_refused(copy: Path) -> None:
    wide = tiny_model(replace(TINY, model=ModelConfig(width=1 / 8)))
    weights = {k: v for k, v in wide.state_dict().items() if not k.startswith("teacher")}
    save_weights(copy / MODEL, weights)
    with pytest.raises(DeSTSegError, match=r"model\.safetensors holds another architecture: s"):
        load_run(copy, CPU)


def test_another_teacher_is_refused(copy: Path) -> None:
    weights = load_file(copy / TEACHER)
    weights["layer1.0.conv1.weight"] += 1e-3
    save_file(weights, copy / TEACHER)
    with pytest.raises(DeSTSegError, match=r"is not the teacher this run was trained with; rest"):
        load_run(copy, CPU)


def test_a_missing_teacher_is_named(copy: Path) -> None:
    (copy / TEACHER).unlink()
    with pytest.raises(DeSTSegError, match=r"teacher\.safetensors is missing; copy the whole"):
        load_run(copy, CPU)


@pytest.mark.parametrize("name", [MODEL, TEACHER, CONFIG, CALIBRATION])
def test_a_truncated_file_is_named(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeSTSegError, match=rf"{name} could not be read"):
        load_run(copy, CPU)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONFIG, [1], r"config\.json does not describe a run"),
        (CONFIG, {"config": {}}, r"config\.json does not describe a run"),
        (CALIBRATION, {}, r"calibration\.json holds no calibration scores.*--resume"),
        (CALIBRATION, [1], r"calibration\.json holds no calibration scores"),
        (CALIBRATION, {"scores": [None]}, r"calibration\.json holds no calibration scores"),
    ],
)
def test_json_of_something_else_is_named(copy: Path, name: str, content: Any, message: str) -> None:
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(DeSTSegError, match=message):
        load_run(copy, CPU)


def test_the_configuration_of_another_version_is_refused(copy: Path) -> None:
    described = json.loads((copy / CONFIG).read_text())
    described["config"]["model"]["transformer"] = True
    (copy / CONFIG).write_text(json.dumps(described))
    with pytest.raises(DeSTSegError, match="not a training configuration of this version"):
        load_run(copy, CPU)


# ---- what is trained on


@pytest.mark.parametrize("count", [1, 2, 3, 10, 761])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_an_image_is_either_trained_on_or_held_out(count: int, share: float) -> None:
    kept, held_out = hold_out(count, share, seed=0)
    assert sorted([*kept, *held_out]) == list(range(count))
    assert list(kept) == sorted(kept) and len(kept) >= 1
    if share == 0 or count == 1:
        assert len(held_out) == 0
    else:
        assert len(held_out) >= 1
        assert abs(len(held_out) - share * count) <= 1


def test_the_same_images_are_held_out_each_time_and_others_for_another_seed() -> None:
    one, again, other = (hold_out(100, 0.1, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_a_fingerprint_tells_files_by_name_size_and_order(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("1.png", "2.png"):
            (tmp_path / folder / name).write_bytes(name.encode())
    a, b = ([tmp_path / folder / n for n in ("1.png", "2.png")] for folder in "ab")
    assert fingerprint_files(a) == fingerprint_files(b) != fingerprint_files(a[:1])
    assert fingerprint_files(a) != fingerprint_files(a[::-1])
    a[0].write_bytes(b"more bytes than before")
    assert fingerprint_files(a) != fingerprint_files(b)
    renamed = b[1].rename(b[1].with_name("3.png"))
    assert fingerprint_files([b[0], renamed]) != fingerprint_files([b[0], a[1]])


# ---- runs of version 0.1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run that version 0.1 finished."""
    out = shutil.copytree(OLD_RUN, tmp_path / "old")
    (out / MODEL).write_bytes(gzip.decompress((out / "model.bin").read_bytes()))
    save_weights(out / TEACHER, load_teacher("builtin").trunk.state_dict())
    return out


def photographs() -> NDArray[np.uint8]:
    """The good images and textures of the old run."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def test_a_run_of_version_0_1_scores_images_as_it_did(old: Path) -> None:
    run = load_run(old, CPU)
    held_out = photographs()[hold_out(6, run.config.holdout, run.config.seed)[1]]
    scores = score_images(run.model, held_out, precision="fp32", progress=False)
    np.testing.assert_allclose(scores, run.calibration_scores, rtol=1e-4)


def test_a_run_of_version_0_1_is_resumed_from_its_checkpoint(old: Path, tmp_path: Path) -> None:
    expected, scores = load_file(old / MODEL), read_json(old / CALIBRATION)["scores"]
    (old / MODEL).unlink()
    (old / CALIBRATION).unlink()
    (old / CHECKPOINT).write_bytes(gzip.decompress((old / "checkpoint.bin").read_bytes()))
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, pixels in enumerate(photographs()):
        Image.fromarray(pixels).save(folder / f"{number}.bmp")
    images = ["--data", str(folder), "--textures", str(folder)]
    resume = ["train", "--out", str(old), "--device", "cpu", "--quiet", "--resume"]
    assert cli.main([*resume, *images]) == 0
    assert records(old) == [
        (p, s) for p, last in (("student", 11), ("segmentation", 12)) for s in (10, last)
    ]
    found = load_file(old / MODEL)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)
    assert read_json(old / CALIBRATION)["scores"] == pytest.approx(scores, rel=1e-3)
