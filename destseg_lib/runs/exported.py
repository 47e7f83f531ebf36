"""The model in an ONNX file: it predicts as a run does, without torch's arithmetic."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from destseg_lib.config import TrainingConfig, config_from_dict
from destseg_lib.device import prediction_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.view import WHITE, View
from destseg_lib.model import PREDICTION_BATCH, PredictedMaps
from destseg_lib.runs.run import Run
from destseg_lib.runs.tiles import tiled_maps

Runtime = Literal["onnxruntime", "openvino"]
Compute = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]  # images to ``OUTPUTS``

SUFFIX = ".onnx"
KEY = "destseg"  # of the metadata
OUTPUTS = ("final_map", "student_map", "level_maps", "score")
EXTRAS = {"openvino": "openvino"}  # what brings a package; for the others it is "export"


@dataclass(frozen=True)
class ExportedRun:
    """A run read from an ONNX file; it predicts as a ``Run`` does."""

    compute: Compute
    config: TrainingConfig
    teacher_name: str
    calibration_scores: tuple[float, ...]
    white_level: int = WHITE

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return torch.device("cpu")

    @property
    def view(self) -> View:
        """How photographs become the pixels of this file."""
        return View(self.white_level, self.config.crop)

    def maps(self, pixels: NDArray[np.uint8]) -> Iterator[PredictedMaps]:
        """Maps of images at the file's size, as those of a ``Run``."""
        return tiled_maps(self._maps, pixels, self.config.tiles)

    def _maps(self, pixels: NDArray[np.uint8]) -> Iterator[PredictedMaps]:
        for start in range(0, len(pixels), PREDICTION_BATCH):
            final, student, *_ = self.compute(pixels[start : start + PREDICTION_BATCH])
            yield PredictedMaps(final, student)


AnyRun = Run | ExportedRun


def precision_advice(run: AnyRun) -> str | None:
    """What to know where a run is computed in fp32 that was trained in bf16."""
    if isinstance(run, ExportedRun) or run.emulate or run.config.precision != "bf16":
        return None
    if prediction_precision("bf16", run.device) == "bf16" or not run.calibration_scores:
        return None
    return (
        "note: computed in fp32, as this processor would only emulate bf16, in which the run "
        "was trained; scores differ by some hundredths at most"
    )


def looking_at(
    run: AnyRun, crop: tuple[int, int, int, int] | None = None, tiles: int | None = None
) -> AnyRun:
    """A run that looks at another part of photographs, or in other tiles, than it was trained on.

    Its scores of held-out images belong to the other look, so that a threshold must come from good
    images given with it.

    Raises:
        DeSTSegError: ``crop`` or ``tiles`` is out of range.
    """
    config = replace(run.config, crop=crop or run.config.crop, tiles=tiles or run.config.tiles)
    if config == run.config:
        return run
    return replace(run, config=config, calibration_scores=())


def load_exported(path: Path, runtime: Runtime = "onnxruntime") -> ExportedRun:
    """Read a file that ``export_run`` wrote.

    Args:
        path: the file.
        runtime: what computes it. OpenVINO computes in the run's precision, ONNX Runtime in fp32.

    Raises:
        DeSTSegError: the file is missing, was not written by this library, or the runtime is not
            installed.
    """
    onnx = package_of("onnx")
    try:
        content = path.read_bytes()
        properties = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
        known = json.loads(properties[KEY])
        config = config_from_dict(known["config"])
        scores = tuple(map(float, known["calibration"]))
        name, white = str(known["teacher"]["name"]), int(known["white_level"])
    except OSError as error:
        raise DeSTSegError(f"{path} cannot be read ({error.strerror}); check the name") from None
    except (KeyError, TypeError, ValueError, package_of("google.protobuf.message").DecodeError):
        raise DeSTSegError(
            f"{path} is not a model that 'destseg export' wrote; export the run again"
        ) from None
    return ExportedRun(open_with(runtime, content, config.precision), config, name, scores, white)


def open_with(runtime: Runtime, content: bytes, precision: str) -> Compute:
    """Make a function of images from a file's content.

    It computes on as many threads as torch has when it is called, OpenVINO in bf16 if that is the
    precision.

    Raises:
        DeSTSegError: the runtime is not installed.
    """
    opened: dict[int, Compute] = {}  # a runtime's threads are fixed when it reads the file

    def compute(pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        threads = torch.get_num_threads()
        if threads not in opened:
            opened[threads] = _open(runtime, content, precision, threads)
        return opened[threads](pixels)

    opened[torch.get_num_threads()] = _open(runtime, content, precision, torch.get_num_threads())
    return compute


def _open(runtime: Runtime, content: bytes, precision: str, threads: int) -> Compute:
    if runtime == "onnxruntime":
        session = onnxruntime_session(content, threads)
        return lambda pixels: list(session.run(OUTPUTS, {"pixels": pixels}))
    core = package_of(runtime).Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(core.read_model(content), "CPU", settings)

    def compute(pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        found = compiled(pixels)
        return [found[name].copy() for name in OUTPUTS]

    return compute


def onnxruntime_session(content: bytes, threads: int) -> Any:
    """A file's content as a session of ONNX Runtime on the CPU.

    Raises:
        DeSTSegError: ONNX Runtime is not installed.
    """
    package = package_of("onnxruntime")
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Weights in int8 become fp32 once, when the file is read, not with every image.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return package.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@contextmanager
def quiet(logger: str | None = None) -> Iterator[None]:
    """Keep a package's advice to its own developers from the user: only errors are logged."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def package_of(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        DeSTSegError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = EXTRAS.get(name, "export")
        raise DeSTSegError(
            f"{name} is not installed; install it with: pip install 'destseg_lib[{extra}]'"
        ) from None
