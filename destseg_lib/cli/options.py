"""Options that several commands share, and what they mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import get_args

import torch

from destseg_lib.cli.mode import defaults
from destseg_lib.device import resolve_device
from destseg_lib.drawn import AVAILABLE
from destseg_lib.drawn.dataset import WORLD, default_settings, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.exported import SUFFIX, AnyRun, Runtime, load_exported
from destseg_lib.runs.run import CONFIG, DRAWN, READ, Run, load_run, read_run
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.runs.threads import Threads

DRAWN_NAMES = tuple(category.name for category in AVAILABLE)
NAMES = ", ".join(DRAWN_NAMES)


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that say which images a command works on; ``--data`` takes ``what``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--data", type=Path, metavar="DIR", help=what)
    drawn = f"a drawn category, kept in {WORLD.as_posix()}: {NAMES} (older spelling: --product)"
    group.add_argument("--category", "--product", metavar="NAME", help=drawn)


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that name a trained model and set its threshold; ``--run`` takes ``what``."""
    run = f"{what}, an exported .onnx file, or pretrained:NAME for a model that ships"
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help=run)
    parser.add_argument(
        "--fpr",
        type=float,
        metavar="RATE",
        help="false-positive rate of the threshold (default: 0.01, or the smallest rate that the "
        "held-out images can resolve)",
    )


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """The option that chooses what computes an exported model."""
    what = "what computes a run that is an .onnx file (default: onnxruntime)"
    parser.add_argument("--runtime", choices=get_args(Runtime), default="onnxruntime", help=what)


def add_threads(parser: argparse.ArgumentParser, when: str) -> None:
    """The option that sets the threads of the CPU; ``when`` says what the default does."""
    what = f"threads of the CPU (default: one or all, {when}, or as OMP_NUM_THREADS says)"
    parser.add_argument("--threads", type=int, metavar="N", help=what)


def wanted_threads(options: argparse.Namespace) -> Threads:
    """What was asked for, by option or environment; otherwise they are timed."""
    if options.threads is not None:
        return int(options.threads)
    return None if "OMP_NUM_THREADS" in os.environ else "auto"


def add_look(parser: argparse.ArgumentParser) -> None:
    """The options that say which part of photographs is looked at, where the run's own is not."""
    crop = "look at another part than the run does, in pixels: left,top,width,height"
    parser.add_argument("--crop", type=crop_numbers, metavar="N,N,N,N", help=crop)
    tiles = "look at it in N x N overlapping tiles (default: as in training)"
    parser.add_argument("--tiles", type=int, metavar="N", help=tiles)


def crop_numbers(text: str) -> tuple[int, int, int, int]:
    """The four whole numbers of ``--crop``."""
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError:
        wrong = f"{text!r} is not four whole numbers such as 100,0,800,600"
        raise argparse.ArgumentTypeError(wrong) from None
    return left, top, width, height


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every command that runs a model on images."""
    devices, device = ("auto", "cpu", "cuda", "mps"), "processor (default: a GPU if there is one)"
    parser.add_argument("--device", default="auto", choices=devices, help=device)
    skip = "leave out images that cannot be read, and list them"
    parser.add_argument("--skip-unreadable", action="store_true", help=skip)
    add_quiet(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The option of every command that may replace files that are not its own."""
    overwrite = "replace files that an earlier command did not write; never one that this one reads"
    parser.add_argument("--overwrite", action="store_true", help=overwrite)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The option of every command that shows progress bars."""
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def data_folder(options: argparse.Namespace, trained_on: str | None = None) -> Path:
    """The folder of a command's images.

    Args:
        options: ``--data`` or ``--category``; without them the mode decides.
        trained_on: a drawn category to use if neither option was given.

    Raises:
        DeSTSegError: neither was given, and the mode has no images either.
    """
    drawn = options.category or trained_on
    if options.data is None and drawn is not None:
        return write_category(drawn, WORLD, progress=not options.quiet)
    folder: Path | None = options.data or defaults(resolve_device(options.device)).data
    if folder is None or not (options.data or folder.exists()):
        raise DeSTSegError(
            "there are no images to work on; give --data DIR for your own images, or --category "
            f"NAME for a drawn category ({NAMES}), or set DESTSEG_MODE=full and fetch MVTec AD "
            "with 'destseg download mvtec-ad'"
        )
    return folder


def shipped_name(run: Path) -> str | None:
    """The name in ``pretrained:NAME``; None for a folder."""
    scheme, colon, name = str(run).partition(":")
    return name if colon and scheme == "pretrained" else None


def loaded_run(options: argparse.Namespace, device: torch.device) -> AnyRun | None:
    """The model that ``--run`` names, if it is one that ships or an exported one; else None.

    Raises:
        DeSTSegError: there is no such model, or it cannot be read.
    """
    name = shipped_name(options.run)
    if name is not None:
        return load_pretrained(name, device)
    if options.run.suffix == SUFFIX:
        return load_exported(options.run, options.runtime)
    return None


def add_run_to_export(parser: argparse.ArgumentParser) -> None:
    """The option that names a run which is written in another form."""
    run = "a run, or pretrained:NAME for the model of a drawn category that ships"
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help=run)


def run_to_export(options: argparse.Namespace) -> tuple[Run, list[Path]]:
    """The run that ``--run`` names, on the CPU, and the files that it was read from.

    Raises:
        DeSTSegError: there is no such run, or it cannot be read.
    """
    device, name = torch.device("cpu"), shipped_name(options.run)
    if name is not None:
        return load_pretrained(name, device), []
    return load_run(options.run, device), [options.run / file for file in READ]


def drawn_category_of(run: Path) -> str | None:
    """The drawn category that a run was trained on; None if it was trained on other images.

    Raises:
        DeSTSegError: the run has the name of a drawn category but does not say that it was drawn,
            or it was drawn with other settings than the commands draw with.
    """
    if (name := shipped_name(run)) is not None:
        return name
    if not (run / CONFIG).exists():
        return None
    inputs = read_run(run)["inputs"]
    name = str(inputs["category"])
    if name not in DRAWN_NAMES or inputs.get(DRAWN) == default_settings():
        return name if name in DRAWN_NAMES else None
    if DRAWN not in inputs:
        reason = "does not say whether its images were drawn (version 0.1 did not note it)"
    elif inputs[DRAWN] is None:
        reason = "was trained on photographs"
    else:
        reason = "was trained on images that were drawn with other settings"
    raise DeSTSegError(
        f"the run in {run} of the category {name} {reason}; give --data DIR for its images, or "
        f"--category {name} for those of the drawn category"
    )
