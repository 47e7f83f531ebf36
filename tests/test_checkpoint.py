"""Files are whole or not there; a checkpoint brings training back to the bit; signals wait."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from destseg_lib.batches import PHASES, Phase, TrainingImages
from destseg_lib.config import ModelConfig, PhaseConfig, TrainingConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, remove_partial_files, write_json, write_whole
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.checkpoint import (
    interrupts_wait,
    load_checkpoint,
    load_trained_weights,
    save_checkpoint,
    trained_weights,
)
from destseg_lib.teacher import load_teacher
from destseg_lib.training import TrainingState, phase_config, start_phase, train_phase

pytestmark = pytest.mark.usefixtures("one_thread")

PHASE = PhaseConfig(6, 1e-3, optimiser="adamw", schedule="one_cycle")
CONFIG = TrainingConfig(
    student=PHASE,
    segmentation=replace(PHASE, optimiser="sgd"),
    model=ModelConfig(width=1 / 16),
    image_size=32,
    batch_size=2,
    precision="fp32",
)


def model_of(config: TrainingConfig = CONFIG, seed: int = 0) -> DeSTSeg:
    return DeSTSeg(load_teacher("random"), config.model, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def images() -> TrainingImages:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return TrainingImages(pixels, pixels)


def advance(model: DeSTSeg, images: TrainingImages, state: TrainingState, steps: int) -> None:
    """Take some steps of a phase."""
    until = state.step + steps
    for _ in train_phase(model, images, CONFIG, state):
        if state.step == until:
            return


@pytest.fixture
def saved(tmp_path: Path, images: TrainingImages) -> Path:
    model = model_of()
    state = start_phase(model, CONFIG, "student")
    advance(model, images, state, 2)
    save_checkpoint(tmp_path / "checkpoint.pt", model, CONFIG, state)
    return tmp_path / "checkpoint.pt"


# ---- files


def test_while_a_file_is_written_the_old_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write(b"old"))

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_whole(path, write)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="an open file may be replaced on POSIX alone")
def test_the_new_file_takes_the_place_of_the_old_and_is_not_written_into_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_whole(path, lambda file: file.write(b"new"))
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("unexpected pos 64")]
)
def test_a_failed_write_leaves_the_old_file_and_says_so(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half of the ne")
        raise error

    with pytest.raises(DeSTSegError, match=r"file could not be written \(.*previous file is kept"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_an_error_that_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"could not be written.*nothing was kept.*Free some"):
        write_whole(tmp_path / "nowhere" / "file", lambda file: file.write(b"new"))


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(file: IO[bytes]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupt)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_gets_the_mode_any_new_file_would_get(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "plain").write_bytes(b"")
        write_whole(tmp_path / "ours", lambda file: file.write(b""))
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_comes_back_and_what_is_no_json_replaces_nothing(tmp_path: Path) -> None:
    path, values = tmp_path / "values.json", {"a": [1, 0.1, None], "b": "ü"}
    write_json(path, values)
    assert read_json(path) == values == json.loads(path.read_text())
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == values


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeSTSegError, match=r"config\.json could not be read.*destseg train --out"):
        read_json(path)


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    for name in ("checkpoint.ptabc.partial", "checkpoint.pt", "partial"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "partial"}


# ---- checkpoints


@pytest.mark.parametrize("phase", PHASES)
def test_training_goes_on_from_a_checkpoint_to_the_same_bits(
    phase: Phase, images: TrainingImages, tmp_path: Path
) -> None:
    unbroken = model_of()
    advance(unbroken, images, start_phase(unbroken, CONFIG, phase), PHASE.steps)

    model = model_of()
    state = start_phase(model, CONFIG, phase)
    advance(model, images, state, 4)
    save_checkpoint(tmp_path / "c.pt", model, CONFIG, state)
    other = model_of(seed=9)
    state = load_checkpoint(tmp_path / "c.pt", other, CONFIG)
    assert (state.phase, state.step) == (phase, 4)
    advance(other, images, state, phase_config(CONFIG, phase).steps - 4)

    wanted = trained_weights(unbroken)
    found = trained_weights(other)
    changed = [k for k in wanted if k.startswith(phase)]
    assert changed and all(torch.equal(found[k], wanted[k]) for k in changed)


def test_the_optimisers_memory_is_part_of_a_checkpoint(saved: Path) -> None:
    state = load_checkpoint(saved, model_of(), CONFIG)
    moments = list(state.optimiser.state_dict()["state"].values())
    assert len(moments) == len(list(model_of().student.parameters()))
    assert all(m["step"] == 2 and m["exp_avg_sq"].abs().sum() > 0 for m in moments[:5])


def test_the_teacher_is_not_among_the_trained_weights() -> None:
    model = model_of()
    names = set(trained_weights(model))
    assert {n.partition(".")[0] for n in names} == {"student", "segmentation"}
    assert names == {n for n in model.state_dict() if not n.startswith("teacher.")}


def test_a_checkpoint_of_another_configuration_is_refused(saved: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt was written under another config"):
        load_checkpoint(saved, model_of(), replace(CONFIG, seed=1))


def test_a_checkpoint_of_another_architecture_is_refused_and_changes_nothing(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    wide = replace(CONFIG, model=ModelConfig(width=1 / 8))
    content["model"] = trained_weights(model_of(wide))
    torch.save(content, saved)
    model = model_of()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt holds another architecture: s"):
        load_checkpoint(saved, model, CONFIG)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_weights_that_lack_a_network_are_refused(tmp_path: Path) -> None:
    weights = trained_weights(model_of())
    student = {k: v for k, v in weights.items() if k.startswith("student")}
    with pytest.raises(DeSTSegError, match=r"segmentation\S+ is absent there and \(.*\) in this"):
        load_trained_weights(model_of(), student, tmp_path / "model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_with_what_to_do(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt could not be read.*delete it and -"):
        load_checkpoint(saved, model_of(), CONFIG)


@pytest.mark.parametrize("content", [{"format": 0}, {"weights": 1}, [1, 2]])
def test_a_torch_file_that_is_no_checkpoint_is_refused(saved: Path, content: Any) -> None:
    torch.save(content, saved)
    with pytest.raises(DeSTSegError, match="is not a checkpoint of this version"):
        load_checkpoint(saved, model_of(), CONFIG)


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_malicious_checkpoint_is_refused_and_nothing_in_it_runs(
    saved: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    for write in (torch.save, lambda c, p: p.write_bytes(pickle.dumps(c, protocol=2))):
        write({"format": 1, "model": Malicious(trace)}, saved)
        with pytest.raises(DeSTSegError, match=r"checkpoint\.pt could not be read"):
            load_checkpoint(saved, model_of(), CONFIG)
        assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # it would have
    assert trace.exists()


# ---- signals

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_noted_and_a_second_stops_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts_wait() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        os.kill(os.getpid(), number)
        pytest.fail("the second signal did not stop it")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_of_a_program_leaves_its_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interrupts_wait() as stop:
            seen.append((stop(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
