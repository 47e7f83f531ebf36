"""The trained models that ship with the package: one file for each drawn category that has one.

A file holds the student and the segmentation network at half precision. Its header holds the
configuration, the teacher's fingerprint, the calibration scores and where they came from. The
teacher is always the built-in one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from destseg_lib.config import config_from_dict, config_to_dict
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.run import (
    Run,
    load_run,
    load_trained_weights,
    read_run,
    save_weights,
    trained_weights,
)
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device

WEIGHTS = Path(__file__).parent.parent / "weights"
SUFFIX = ".safetensors"
PREFIX = "model_"


def pretrained_names() -> tuple[str, ...]:
    """The drawn categories that a trained model ships for, sorted."""
    return tuple(sorted(p.stem.removeprefix(PREFIX) for p in WEIGHTS.glob(f"{PREFIX}*{SUFFIX}")))


def load_pretrained(name: str, device: torch.device) -> Run:
    """Load the trained model that ships for a drawn category, in eval mode on ``device``.

    Raises:
        DeSTSegError: no model ships for it, or the model belongs to another built-in teacher.
    """
    header = pretrained_header(name)
    teacher = load_teacher("builtin")
    if teacher.fingerprint() != header["teacher"]["fingerprint"]:
        raise DeSTSegError(
            f"the trained model of {name} belongs to another built-in teacher; install the whole "
            "package again, or make it again with: python -m tools.weights.pretrain"
        )
    config = config_from_dict(header["config"])
    model = DeSTSeg(teacher, config.model)
    path = _path(name)
    with safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    whole = {k: weights.get(k, v) for k, v in trained_weights(model).items() if _counter(k)}
    load_trained_weights(model, weights | whole, path)
    move_to_device(model, device).eval()
    return Run(model, config, "builtin", tuple(header["calibration"]))


def pretrained_header(name: str) -> dict[str, Any]:
    """Read the header of a shipped model: config, teacher, calibration, figures, provenance.

    Raises:
        DeSTSegError: no model ships for this category.
    """
    if name not in pretrained_names():
        raise DeSTSegError(
            f"no trained model ships for {name!r}; there is one for "
            f"{', '.join(pretrained_names()) or 'nothing yet'}"
        )
    with safe_open(_path(name), "pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["destseg"])
    return header


def save_pretrained(run: Path, path: Path, known: dict[str, Any]) -> None:
    """Write a finished run as a file that ``load_pretrained`` reads.

    Args:
        run: its folder; trained with the built-in teacher.
        path: of the file.
        known: more plain values for the header: metrics, the command.

    Raises:
        DeSTSegError: the run is unfinished or was trained with another teacher.
    """
    loaded = load_run(run, torch.device("cpu"))
    described = read_run(run)
    if loaded.teacher_name != "builtin":
        raise DeSTSegError(
            f"{run} was trained with the teacher {loaded.teacher_name}, which does not ship; "
            "train with --teacher builtin"
        )
    header = {
        "config": config_to_dict(loaded.config),
        "teacher": described["teacher"],
        "calibration": list(loaded.calibration_scores),
        "inputs": described["inputs"],
        "provenance": described["provenance"],
        **known,
    }
    # Batch norm's statistics and gains are few, and half precision would change results much.
    small = {
        k: v.half() if v.ndim > 1 else v
        for k, v in trained_weights(loaded.model).items()
        if not _counter(k)
    }
    save_weights(path, small, {"destseg": json.dumps(header)})


def _path(name: str) -> Path:
    return WEIGHTS / f"{PREFIX}{name}{SUFFIX}"


def _counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
