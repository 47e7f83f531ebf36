"""What each command understands, and how an option wins over a recipe."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from destseg_lib.cli.mode import defaults
from destseg_lib.cli.study import add_reproduce, add_study
from destseg_lib.config import (
    RECIPES,
    Precision,
    Rotation,
    SegmentationInput,
    StudentMap,
    TrainingConfig,
)
from destseg_lib.device import resolve_device
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import WORLD, ImageCounts, rotation_for
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.download import DATASETS
from destseg_lib.runs.run import read_run

# Options that change the configuration, and where in it they go. An option that was not given is
# None and leaves the recipe's value.
OVERRIDES: dict[str, tuple[str, ...]] = {
    "image_size": ("image_size",),
    "batch_size": ("batch_size",),
    "student_steps": ("student", "steps"),
    "segmentation_steps": ("segmentation", "steps"),
    "width": ("model", "width"),
    "segmentation_width": ("model", "segmentation_width"),
    "encoder_decoder": ("model", "encoder_decoder"),
    "segmentation_network": ("model", "segmentation"),
    "segmentation_input": ("model", "segmentation_input"),
    "student_map": ("model", "student_map"),
    "levels": ("model", "levels"),
    "denoising": ("denoising",),
    "l1": ("l1",),
    "opacity": ("corruption", "opacity"),
    "rotation": ("rotation",),
    "holdout": ("holdout",),
    "seed": ("seed",),
    "precision": ("precision",),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` is the name of the one given."""
    parser = argparse.ArgumentParser(
        prog="destseg", description="Find and outline defects after seeing only good photographs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_train(commands.add_parser("train", help="learn what good looks like"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a run on labelled test images"))
    _add_predict(commands.add_parser("predict", help="score photographs and outline defects"))
    _add_make_data(commands.add_parser("make-data", help="draw products that need no download"))
    add_study(commands.add_parser("study", help="compare variants over categories and seeds"))
    add_reproduce(commands.add_parser("reproduce", help="the paper's tables 4 to 6 on MVTec AD"))
    _add_download(commands.add_parser("download", help="fetch MVTec AD or DTD"))
    return parser


def config_for(category: str, options: argparse.Namespace) -> TrainingConfig:
    """The configuration of a new run: recipe, then the category's rotation, then options."""
    recipe = RECIPES[options.recipe or defaults(resolve_device(options.device)).recipe]()
    rotation = rotation_for(category, recipe.rotation)
    return apply_options(replace(recipe, rotation=rotation), options)


def apply_options(recipe: TrainingConfig, options: argparse.Namespace) -> TrainingConfig:
    """A recipe with the options that were given in place of its own values."""
    config = recipe
    if options.width is not None and options.segmentation_width is None:
        config = replace(config, model=replace(config.model, segmentation_width=None))
    for option, place in OVERRIDES.items():
        value = getattr(options, option)
        if value is None:
            continue
        if len(place) == 1:
            config = replace(config, **{place[0]: value})
        else:
            part = replace(getattr(config, place[0]), **{place[1]: value})
            config = replace(config, **{place[0]: part})
    return config


def check_unchanged(out: Path, options: argparse.Namespace) -> None:
    """A run keeps what it was started with: an option that contradicts it is not ignored.

    Raises:
        DeSTSegError: an option contradicts the run in ``out``.
    """
    described = read_run(out)
    config: TrainingConfig = described["config"]
    wanted = apply_options(config, options)
    pairs = {
        option: (_at(config, place), _at(wanted, place)) for option, place in OVERRIDES.items()
    }
    pairs["recipe"] = (config.recipe, options.recipe or config.recipe)
    teacher = described["teacher"]["name"]
    pairs["teacher"] = (teacher, options.teacher or teacher)
    for option, (before, now) in pairs.items():
        # A time budget and 'auto' were settled when the run began.
        settled = options.time_budget is not None and option.endswith("_steps")
        if before == now or settled or now == "auto":
            continue
        raise DeSTSegError(
            f"the run in {out} was started with {option.replace('_', ' ')} {before}, not {now}; "
            "leave the option out to resume, or choose another --out"
        )


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_data(parser, "of good images, or as MVTec AD")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--textures", type=Path, metavar="DIR", help="such as DTD; default: drawn")
    parser.add_argument(
        "--teacher",
        metavar="imagenet|builtin|random|PATH",
        help="PATH is a file of ResNet-18 weights; default: builtin in tiny mode, imagenet in full",
    )
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help="paper: the authors', for a GPU; quick: half an hour on two cores; tiny: two minutes; "
        "every option given wins over it; default: tiny in tiny mode (quick on a GPU), paper in "
        "full",
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="multiple of 32")
    parser.add_argument("--batch-size", type=int, metavar="N", help="2 or more")
    parser.add_argument("--student-steps", type=int, metavar="N", help="of the first phase")
    parser.add_argument("--segmentation-steps", type=int, metavar="N", help="of the second")
    parser.add_argument("--width", type=float, metavar="F", help="of inner channels; paper: 1.0")
    parser.add_argument("--segmentation-width", type=float, metavar="F", help="default: --width")
    parser.add_argument(
        "--rotation",
        choices=get_args(Rotation),
        help="of good images: not at all, by 5 degrees, by any quarter turn too; default: what "
        "suits an MVTec AD category of this name, else none",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    parser.add_argument("--time-budget", type=float, metavar="MIN", help="fewer steps if need be")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument(
        "--holdout", type=float, metavar="SHARE", help="of good images, for the threshold"
    )
    parser.add_argument("--precision", choices=get_args(Precision), help="default: fastest")
    parser.add_argument(
        "--checkpoint-every", type=int, default=250, metavar="N", help="default: 250"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--tensorboard", action="store_true", help="log to RUN/tensorboard too")
    ablations = parser.add_argument_group("ablations of the paper's tables 4 to 6")
    switch: dict[str, Any] = {"action": "store_false", "default": None}
    ablations.add_argument("--no-denoising", dest="denoising", **switch)
    ablations.add_argument("--no-encoder-decoder", dest="encoder_decoder", **switch)
    ablations.add_argument("--no-segmentation", dest="segmentation_network", **switch)
    ablations.add_argument("--no-l1", dest="l1", **switch)
    ablations.add_argument("--segmentation-input", choices=get_args(SegmentationInput))
    ablations.add_argument("--student-map", choices=get_args(StudentMap))
    ablations.add_argument("--levels", type=_levels, metavar="1,2,3")
    ablations.add_argument("--opacity", type=_opacity, metavar="LOW,HIGH", help="paper: 0.15,1")
    _add_common(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="RUN",
        help="a run, or a folder of runs; pretrained:CATEGORY is the model that ships for it",
    )
    _add_data(parser, "one category, or several")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="best and worst cases, as PNG")
    parser.add_argument(
        "--fpr", type=float, metavar="RATE", help="false-positive rate of the threshold, as predict"
    )
    _add_common(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_DIR")
    parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="or pretrained:CATEGORY"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for scores.json and overlays"
    )
    parser.add_argument(
        "--fpr",
        type=float,
        metavar="RATE",
        help="false-positive rate of the threshold; default: 0.01, or what the images can resolve",
    )
    parser.add_argument("--good", type=Path, metavar="DIR", help="more good images to calibrate on")
    _add_common(parser)


def _add_make_data(parser: argparse.ArgumentParser) -> None:
    counts = ImageCounts()
    parser.add_argument("products", nargs="*", metavar="CATEGORY", help=f"{_names()}; default: all")
    parser.add_argument(
        "--out", type=Path, default=WORLD, metavar="DIR", help=f"default: {WORLD.as_posix()}"
    )
    parser.add_argument("--size", type=int, default=256, metavar="N", help="pixels; default: 256")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    for name, what in (
        ("train", "good images to train on"),
        ("good", "good test images"),
        ("defective", "test images of each defect"),
    ):
        default = getattr(counts, name)
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what}; default: {default}"
        )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_data(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"{what}; default: --product")
    parser.add_argument(
        "--product",
        metavar="NAME",
        help=f"kept in {WORLD.as_posix()}, drawn if need be: {_names()}",
    )


def _names() -> str:
    return ", ".join(product.name for product in CATEGORIES)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument(
        "--root", type=Path, default=Path("data"), metavar="DIR", help="default: data"
    )
    parser.add_argument("--url", help="in place of the known address; the checksum stays")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--skip-unreadable", action="store_true", help="and list what was skipped")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _levels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of levels such as 2,3") from None


def _opacity(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair such as 0.15,1") from None
    return low, high


def _at(config: TrainingConfig, place: tuple[str, ...]) -> object:
    value: object = config
    for name in place:
        value = getattr(value, name)
    return value
