"""A training run as a folder: it survives a kill at any moment, and a trained model lives in it.

config.json          what is being trained, on what, written before the first step
teacher.safetensors  the teacher in use, so that the folder is complete
checkpoint.pt        where training is; gone when it is done
log.jsonl            a record every ten steps
model.safetensors    the trained student and segmentation network, written last but one
calibration.json     scores of the good images held out of training, written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors
from tqdm.auto import tqdm

from destseg_lib.batches import TrainingImages
from destseg_lib.files import read_json, remove_partial_files, write_json, write_whole
from destseg_lib.runs.checkpoint import interrupts_wait, load_checkpoint, load_trained_weights, save_checkpoint, trained_weights
from destseg_lib.config import TrainingConfig, config_from_dict, config_to_dict
from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.log import add_scalars, append_record, rewind_log, tensorboard_writer
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.provenance import provenance
from destseg_lib.teacher import Teacher, load_teacher, read_weights_file
from destseg_lib.training import (
    NonFiniteLossError,
    TrainingState,
    finite_losses,
    phase_config,
    phases_of,
    start_phase,
    train_phase,
)

CONFIG = "config.json"
TEACHER = "teacher.safetensors"
CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
MODEL = "model.safetensors"
CALIBRATION = "calibration.json"


class InterruptedRunError(Exception):
    """Training was asked to stop and did, after saving; the message says where."""


@dataclass(frozen=True)
class Run:
    """A trained model and what is known of it."""

    model: DeSTSeg
    config: TrainingConfig
    teacher_name: str
    calibration_scores: tuple[float, ...]


def start_run(out: Path, config: TrainingConfig, teacher: Teacher, inputs: dict[str, Any]) -> None:
    """Make a run's folder and write what it is.

    Args:
        out: the folder; it may exist, but hold no run.
        config: with its precision resolved and its steps final.
        teacher: saved with the run.
        inputs: plain JSON values that say where the images came from.

    Raises:
        DeSTSegError: there is a run already, or the folder cannot be written.
    """
    if (out / CONFIG).exists():
        raise DeSTSegError(
            f"{out} already holds a run; continue it with --resume, or choose another --out"
        )
    for name in (CHECKPOINT, LOG, MODEL, CALIBRATION):
        if (out / name).exists():
            # Training would go on from it, or take it for its own result.
            raise DeSTSegError(
                f"{out / name} is there, but no {CONFIG} that says which run it belongs to; "
                "restore that file, move this one away, or choose another --out"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeSTSegError(
            f"{out} cannot be made a folder ({error}); choose another --out"
        ) from None
    weights = to_safetensors({k: v.contiguous() for k, v in teacher.trunk.state_dict().items()})
    write_whole(out / TEACHER, lambda file: file.write(weights))
    described = {
        "config": config_to_dict(config),
        "teacher": {"name": teacher.name, "fingerprint": teacher.fingerprint()},
        "inputs": inputs,
        "provenance": provenance(torch.device("cpu")),
    }
    write_json(out / CONFIG, described)


def read_run(out: Path) -> dict[str, Any]:
    """A run's ``config.json``, with ``config`` as a ``TrainingConfig``.

    Raises:
        DeSTSegError: there is no run at ``out``, or it is another version's.
    """
    described: dict[str, Any] = read_json(out / CONFIG)
    if not isinstance(described, dict) or not {"config", "teacher", "inputs"} <= described.keys():
        raise DeSTSegError(
            f"{out / CONFIG} does not describe a run; train one with 'destseg train'"
        )
    return {**described, "config": config_from_dict(described["config"])}


def run_teacher(out: Path) -> Teacher:
    """The teacher a run was trained with, from the run's own folder.

    Raises:
        DeSTSegError: the file is missing, damaged or not the one the run names.
    """
    described = read_run(out)["teacher"]
    if not (out / TEACHER).is_file():
        raise DeSTSegError(f"{out / TEACHER} is missing; copy the whole folder of the run")
    teacher = load_teacher(out / TEACHER)
    teacher.name = described["name"]
    if teacher.fingerprint() != described["fingerprint"]:
        raise DeSTSegError(
            f"{out / TEACHER} is not the teacher this run was trained with; restore the file"
        )
    return teacher


def train_run(
    out: Path,
    model: DeSTSeg,
    images: TrainingImages,
    config: TrainingConfig,
    *,
    checkpoint_every: int = 250,
    tensorboard: bool = False,
    progress: bool = True,
) -> None:
    """Train to the end, from wherever the run's checkpoint is.

    Raises:
        InterruptedRunError: asked to stop (Ctrl-C, or termination); everything so far is saved.
        NonFiniteLossError: training diverged; the last checkpoint is from before.
        DeSTSegError: a checkpoint could not be written or read.
    """
    remove_partial_files(out)
    checkpoint = out / CHECKPOINT
    if (out / MODEL).exists():
        checkpoint.unlink(missing_ok=True)  # a kill came between the two
        return
    phases = phases_of(config)
    state = start_phase(model, config, phases[0])
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, model, config)
    rewind_log(out / LOG, state.phase, state.step)
    with (
        tensorboard_writer(out / "tensorboard", tensorboard) as writer,
        interrupts_wait() as stop,
    ):
        for phase in phases[phases.index(state.phase) :]:
            if state.phase != phase:
                state = start_phase(model, config, phase)
            steps = phase_config(config, phase).steps
            bar = tqdm(total=steps, initial=state.step, desc=phase, disable=not progress)
            try:
                with bar:
                    for record in train_phase(model, images, config, state):
                        bar.update()
                        if record is not None:
                            bar.set_postfix(loss=f"{record.loss:.4g}")
                            append_record(out / LOG, record)
                            add_scalars(writer, record)
                        stopping = stop()  # asked once: it may change before the step is saved
                        if stopping or state.step % checkpoint_every == 0:
                            _save_if_finite(checkpoint, model, config, state)
                        if stopping:
                            raise InterruptedRunError(
                                f"stopped at {phase} step {state.step} of {steps}, saved in {out}; "
                                "to continue, give the same command with --resume"
                            )
                # A phase's end is saved whatever the interval: it took longest to reach.
                _save_if_finite(checkpoint, model, config, state)
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"{error}. {_last_good(checkpoint)}") from None
    weights = {k: v.contiguous() for k, v in trained_weights(model).items()}
    content = to_safetensors(weights, {"config": json.dumps(config_to_dict(config))})
    write_whole(out / MODEL, lambda file: file.write(content))
    checkpoint.unlink(missing_ok=True)


def save_calibration(out: Path, scores: Sequence[float]) -> None:
    """Keep the image scores of the held-out good images; with them the run is complete."""
    write_json(out / CALIBRATION, {"scores": [float(s) for s in scores]})


def load_run(out: Path, device: torch.device, *, calibrated: bool = True) -> Run:
    """The trained model of a finished run, in eval mode on ``device``.

    Args:
        out: the run's folder.
        device: where the model goes.
        calibrated: False accepts a run that is trained but has no calibration scores yet.

    Raises:
        DeSTSegError: no run, an unfinished one, or files that do not belong together.
    """
    described = read_run(out)
    finished = [MODEL, CALIBRATION] if calibrated else [MODEL]
    if not all((out / name).is_file() for name in finished):
        raise DeSTSegError(
            f"the run in {out} is not finished; give its 'destseg train' command again with "
            "--resume"
        )
    config: TrainingConfig = described["config"]
    model = DeSTSeg(run_teacher(out), config.model)
    weights = read_weights_file(out / MODEL)
    assert isinstance(weights, dict)
    load_trained_weights(model, weights, out / MODEL)
    model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    scores = _calibration_scores(out / CALIBRATION) if calibrated else ()
    return Run(model, config, described["teacher"]["name"], scores)


def hold_out(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the good images to train on and of those held out to calibrate a threshold.

    At least one image is trained on; a share above zero holds out at least one of two or more.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    kept_out = min(count - 1, max(1, round(share * count))) if share > 0 else 0
    return np.sort(order[kept_out:]), np.sort(order[:kept_out])


def fingerprint(paths: Sequence[Path]) -> str:
    """Tells one list of files from another by name and size, for --resume to compare."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}:{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _calibration_scores(path: Path) -> tuple[float, ...]:
    try:
        return tuple(float(score) for score in read_json(path)["scores"])
    except (KeyError, TypeError) as error:
        raise DeSTSegError(
            f"{path} holds no calibration scores ({error!r}); delete it and give the run's "
            "'destseg train' command again with --resume"
        ) from None


def _save_if_finite(
    checkpoint: Path, model: DeSTSeg, config: TrainingConfig, state: TrainingState
) -> None:
    """A diverged state must not replace a good one; weights can overflow before a loss does."""
    finite_losses(state)
    if not all(bool(torch.isfinite(t).all()) for t in trained_weights(model).values()):
        raise NonFiniteLossError(
            f"a weight is infinite or not a number after {state.phase} step {state.step}; "
            "the learning rate is probably too high, or the precision too low (try fp32)"
        )
    save_checkpoint(checkpoint, model, config, state)


def _last_good(checkpoint: Path) -> str:
    if not checkpoint.exists():
        return "No checkpoint had been saved yet"
    content = read_weights_file(checkpoint)
    assert isinstance(content, dict)
    return f"The last good checkpoint is {checkpoint}, {content['phase']} step {content['step']}"
