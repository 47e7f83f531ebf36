"""A checkpoint brings training back to the bit; signals wait for the end of a step."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, noise, tiny_model

from destseg_lib.batches import PHASES, Phase
from destseg_lib.config import ModelConfig
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.checkpoint import interrupts_wait, load_checkpoint, save_checkpoint
from destseg_lib.runs.run import load_trained_weights, trained_weights
from destseg_lib.training import TrainingState, phase_config, start_phase, train_phase

pytestmark = pytest.mark.usefixtures("one_thread")


def advance(model: DeSTSeg, state: TrainingState, until: int) -> None:
    """Train until some step of a phase."""
    for _ in train_phase(model, noise(), TINY, state):
        if state.step == until:
            return


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny_model()
    state = start_phase(model, TINY, "student")
    advance(model, state, until=2)
    save_checkpoint(tmp_path / "checkpoint.pt", model, TINY, state)
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("phase", PHASES)
def test_training_continues_from_a_checkpoint_to_the_same_bits(
    phase: Phase, tmp_path: Path
) -> None:
    steps = phase_config(TINY, phase).steps
    unbroken = tiny_model()
    advance(unbroken, start_phase(unbroken, TINY, phase), steps)

    model = tiny_model()
    state = start_phase(model, TINY, phase)
    advance(model, state, until=4)
    save_checkpoint(tmp_path / "c.pt", model, TINY, state)
    other = tiny_model(seed=9)
    state = load_checkpoint(tmp_path / "c.pt", other, TINY)
    assert (state.phase, state.step) == (phase, 4)
    advance(other, state, steps)

    expected, found, start = map(trained_weights, (unbroken, other, tiny_model()))
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert not any(torch.equal(expected[k], start[k]) for k in expected if k.startswith(phase))


def test_a_phase_goes_on_with_the_optimiser_that_it_began_with(tmp_path, monkeypatch) -> None:
    steps = TINY.student.steps
    with monkeypatch.context() as before:
        before.setattr("destseg_lib.training.FUSED", ())  # as version 0.1 had it
        unbroken, model = tiny_model(), tiny_model()
        advance(unbroken, start_phase(unbroken, TINY, "student"), steps)
        state = start_phase(model, TINY, "student")
        advance(model, state, until=4)
        save_checkpoint(tmp_path / "c.pt", model, TINY, state)
    other = tiny_model(seed=9)
    advance(other, load_checkpoint(tmp_path / "c.pt", other, TINY), steps)
    expected, found = map(trained_weights, (unbroken, other))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_the_optimisers_memory_is_part_of_a_checkpoint(saved: Path) -> None:
    state = load_checkpoint(saved, tiny_model(), TINY)
    moments = list(state.optimiser.state_dict()["state"].values())
    assert len(moments) == len(list(tiny_model().student.parameters()))
    assert all(m["step"] == 2 and m["exp_avg_sq"].abs().sum() > 0 for m in moments[:5])


def test_the_teacher_is_not_among_the_trained_weights() -> None:
    model = tiny_model()
    names = set(trained_weights(model))
    assert {n.partition(".")[0] for n in names} == {"student", "segmentation"}
    assert names == {n for n in model.state_dict() if not n.startswith("teacher.")}


def test_a_checkpoint_of_another_configuration_is_refused(saved: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt was written under another config"):
        load_checkpoint(saved, tiny_model(), replace(TINY, seed=1))


def test_a_checkpoint_of_another_architecture_is_refused_and_changes_nothing(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    wide = replace(TINY, model=ModelConfig(width=1 / 8))
    content["model"] = trained_weights(tiny_model(wide))
    torch.save(content, saved)
    model = tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt holds another architecture: s"):
        load_checkpoint(saved, model, TINY)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_weights_that_lack_a_network_are_refused(tmp_path: Path) -> None:
    weights = trained_weights(tiny_model())
    student = {k: v for k, v in weights.items() if k.startswith("student")}
    with pytest.raises(DeSTSegError, match=r"segmentation\S+ is absent there and \(.*\) in this"):
        load_trained_weights(tiny_model(), student, tmp_path / "model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_with_what_to_do(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DeSTSegError, match=r"checkpoint\.pt could not be read.*delete it and -"):
        load_checkpoint(saved, tiny_model(), TINY)


@pytest.mark.parametrize("content", [{"format": 0}, {"weights": 1}, [1, 2]])
def test_a_torch_file_that_is_no_checkpoint_is_refused(saved: Path, content: Any) -> None:
    torch.save(content, saved)
    with pytest.raises(DeSTSegError, match="is not a checkpoint of this version"):
        load_checkpoint(saved, tiny_model(), TINY)


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
            load_checkpoint(saved, tiny_model(), TINY)
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
        signal.raise_signal(number)
        assert stop()
        signal.raise_signal(number)
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
