"""A training run as a folder on disk: start it, read it, load its trained model.

config.json          what is trained, with what, on what; written before the first step
teacher.safetensors  the teacher in use, so that the folder is complete
checkpoint.pt        where training is; removed at the end
log.jsonl            one record every ten steps
model.safetensors    the trained student and segmentation network, written last but one
calibration.json     scores of the good images held out of training, written last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors
from torch import Tensor

from destseg_lib.config import TrainingConfig, config_from_dict, config_to_dict
from destseg_lib.device import prediction_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, write_json, write_whole
from destseg_lib.files.outputs import Outputs, outputs
from destseg_lib.images.view import WHITE, View
from destseg_lib.model import DeSTSeg, PredictedMaps, predict_maps
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.tiles import tiled_maps
from destseg_lib.teacher import Teacher, load_teacher, read_weights_file
from destseg_lib.training import move_to_device

CONFIG = "config.json"
TEACHER = "teacher.safetensors"
CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
MODEL = "model.safetensors"
CALIBRATION = "calibration.json"
READ = (CONFIG, TEACHER, MODEL, CALIBRATION)  # the files that a finished run is read from
# Among a run's inputs: what its category was drawn with, None for photographs; and the places in
# file order of the images held out, where they are not single ones.
DRAWN, HELD_OUT = "drawn", "held_out"


@dataclass(frozen=True)
class Run:
    """A trained model, its configuration and the scores that a threshold is calibrated on.

    ``white_level`` is what is white in a 16-bit image, as found on the training images. With
    ``emulate`` the run's precision is kept on a processor that is slow in it, as records need it.
    """

    model: DeSTSeg
    config: TrainingConfig
    teacher_name: str
    calibration_scores: tuple[float, ...]
    white_level: int = WHITE
    emulate: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.student.parameters()).device

    @property
    def view(self) -> View:
        """How photographs become the pixels of this run."""
        return View(self.white_level, self.config.crop)

    def maps(self, pixels: NDArray[np.uint8]) -> Iterator[PredictedMaps]:
        """Maps (N, 256, 256) of images (N, S, S, 3) at the run's size, one batch per iteration.

        With tiles, images and maps are as large as ``decoded_size`` and ``map_size`` say.
        """
        return tiled_maps(self._maps, pixels, self.config.tiles)

    def _maps(self, pixels: NDArray[np.uint8]) -> Iterator[PredictedMaps]:
        precision = self.config.precision
        if not self.emulate:
            precision = prediction_precision(precision, self.device)
        return predict_maps(self.model, pixels, precision=precision, progress=False)


def start_run(out: Path, config: TrainingConfig, teacher: Teacher, inputs: dict[str, Any]) -> None:
    """Make a run's folder and write its configuration and teacher.

    Args:
        out: the folder; it may exist, but must not hold a run.
        config: with its precision resolved and its steps final.
        teacher: saved with the run.
        inputs: plain JSON values that say where the images came from.

    Raises:
        DeSTSegError: there is a run already, or the folder cannot be written.
    """
    files = new_run(out)
    files.prepare()
    content = _weights_content(teacher.trunk.state_dict())
    files.write(TEACHER, lambda file: file.write(content))
    described = {
        "config": config_to_dict(config),
        "teacher": {"name": teacher.name, "fingerprint": teacher.fingerprint()},
        "inputs": inputs,
        "provenance": provenance(torch.device("cpu")),
    }
    files.write_json(CONFIG, described)


def new_run(out: Path) -> Outputs:
    """Check that a run may be started in a folder; nothing is written.

    Raises:
        DeSTSegError: there is a run already, or a file that one would replace, continue from, or
            take for its own.
    """
    if (out / CONFIG).exists():
        raise DeSTSegError(
            f"{out} already holds a run; continue it with --resume, or choose another --out"
        )
    return outputs(out, (CONFIG, TEACHER, CHECKPOINT, LOG, MODEL, CALIBRATION), (), by="train")


def read_run(out: Path) -> dict[str, Any]:
    """Read a run's ``config.json``, with ``config`` as a ``TrainingConfig``.

    Raises:
        DeSTSegError: there is no run at ``out``, or another version wrote it.
    """
    described: dict[str, Any] = read_json(out / CONFIG)
    if not isinstance(described, dict) or not {"config", "teacher", "inputs"} <= described.keys():
        raise DeSTSegError(
            f"{out / CONFIG} does not describe a run; train one with 'destseg train'"
        )
    return {**described, "config": config_from_dict(described["config"])}


def run_teacher(out: Path) -> Teacher:
    """Load the teacher of a run from the run's own folder.

    Raises:
        DeSTSegError: the file is missing, damaged or not the one that the run was trained with.
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


def trained_weights(model: DeSTSeg) -> dict[str, Tensor]:
    """Weights and statistics that training changes: all but the teacher's, by their names."""
    return {k: v for k, v in model.state_dict().items() if not k.startswith("teacher.")}


def load_trained_weights(model: DeSTSeg, weights: dict[str, Tensor], source: Path) -> None:
    """Give a model ``trained_weights`` that were read from the file ``source``.

    Raises:
        DeSTSegError: they belong to another architecture.
    """
    own = trained_weights(model)
    wrong = sorted(set(own) ^ set(weights)) or sorted(
        k for k in own if own[k].shape != weights[k].shape
    )
    if wrong:
        found = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "absent"
        expected = tuple(own[wrong[0]].shape) if wrong[0] in own else "absent"
        raise DeSTSegError(
            f"{source} holds another architecture: {wrong[0]} is {found} there and {expected} in "
            "this model; use the configuration it was trained with"
        )
    model.load_state_dict(weights, strict=False)


def save_weights(
    path: Path, weights: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write weights as a safetensors file, whole or not at all; raises as ``write_whole``."""
    content = _weights_content(weights, metadata)
    write_whole(path, lambda file: file.write(content))


def _weights_content(weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    content: bytes = to_safetensors({k: v.contiguous() for k, v in weights.items()}, metadata)
    return content


def save_calibration(out: Path, scores: Sequence[float]) -> None:
    """Write the image scores of the held-out good images; with them the run is complete."""
    write_json(out / CALIBRATION, {"scores": [float(s) for s in scores]})


def load_run(out: Path, device: torch.device, *, calibrated: bool = True) -> Run:
    """Load the trained model of a finished run, in eval mode on ``device``.

    Args:
        out: the run's folder.
        device: to put the model on.
        calibrated: False accepts a run that is trained but not yet calibrated.

    Raises:
        DeSTSegError: there is no finished run, or its files do not belong together.
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
    move_to_device(model, device).eval()
    scores = _calibration_scores(out / CALIBRATION) if calibrated else ()
    white = described["inputs"].get("white_level", WHITE)
    return Run(model, config, described["teacher"]["name"], scores, white)


def _calibration_scores(path: Path) -> tuple[float, ...]:
    try:
        return tuple(float(score) for score in read_json(path)["scores"])
    except (KeyError, TypeError) as error:
        raise DeSTSegError(
            f"{path} holds no calibration scores ({error!r}); delete it and give the run's "
            "'destseg train' command again with --resume"
        ) from None
