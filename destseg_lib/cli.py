"""The command line: ``destseg train | evaluate | predict | download``.

A mistake the user can mend is answered with its message and exit status 2; a run that was stopped
and saved ends with status 130.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from destseg_lib.checkpoint import write_json
from destseg_lib.config import (
    MVTEC_ROTATION,
    RECIPES,
    Precision,
    Rotation,
    SegmentationInput,
    StudentMap,
    TrainingConfig,
)
from destseg_lib.data import Category, find_categories
from destseg_lib.datasets import DATASETS
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.download import download
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation import evaluate, results_table
from destseg_lib.listing import find_images
from destseg_lib.prediction import predict
from destseg_lib.run import CONFIG, InterruptedRunError, load_run, read_run
from destseg_lib.workflow import TrainingJob, train_category

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except InterruptedRunError as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except DeSTSegError as error:
        print(f"destseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"destseg: {stopped or 'stopped'}", file=sys.stderr)
        return 130
    return status


def build_parser() -> argparse.ArgumentParser:
    """The parser of all four commands."""
    parser = argparse.ArgumentParser(
        prog="destseg", description="Find and outline defects after seeing only good photographs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands.add_parser("train", help="learn what good looks like"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a run on labelled test images"))
    _add_predict(commands.add_parser("predict", help="score photographs and outline defects"))
    _add_download(commands.add_parser("download", help="fetch MVTec AD or DTD"))
    return parser


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


def run_train(options: argparse.Namespace) -> int:
    """``destseg train``: one category into RUN, or several into RUN/<category>."""
    resumed = options.resume and (options.out / CONFIG).exists()
    keep_freed_memory()
    categories = find_categories(options.data)
    if (options.out / CONFIG).exists() and not options.resume:
        raise DeSTSegError(
            f"{options.out} already holds a run; continue it with --resume, or choose another --out"
        )
    if resumed:
        _check_unchanged(options)
    job = TrainingJob(
        textures=options.textures,
        teacher=options.teacher,
        device=options.device,
        time_budget=options.time_budget,
        checkpoint_every=options.checkpoint_every,
        compile_networks=options.compile,
        tensorboard=options.tensorboard,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
    )
    for category in categories:
        out = options.out if len(categories) == 1 else options.out / category.name
        if (out / CONFIG).exists() and not options.resume:
            raise DeSTSegError(f"{out} already holds a run; add --resume, or choose another --out")
        train_category(category, out, _config_for(category, options), job)
        print(f"trained {category.name}: {out}")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """``destseg evaluate``: print the table, write the JSON and a figure if asked."""

    def save(results: dict[str, Any]) -> None:
        if options.json is not None:
            write_json(options.json, results)

    results = evaluate(
        options.run,
        options.data,
        device=resolve_device(options.device),
        fpr=options.fpr,
        figures=options.figures,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
        save=save,
    )
    save(results)
    print(results_table(results))
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """``destseg predict``: scores.json and an overlay an image."""
    run = load_run(options.run, resolve_device(options.device))
    rows = predict(
        run,
        find_images(options.images),
        options.out,
        fpr=options.fpr,
        good=() if options.good is None else find_images([options.good]),
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
    )
    found = sum(bool(row["anomalous"]) for row in rows)
    print(f"{len(rows)} images, {found} anomalous: {options.out / 'scores.json'}")
    return 0


def run_download(options: argparse.Namespace) -> int:
    """``destseg download``: fetch, check and unpack one data set."""
    folder = download(options.dataset, options.root, options.url, progress=not options.quiet)
    print(folder)
    return 0


def _config_for(category: Category, options: argparse.Namespace) -> TrainingConfig:
    recipe = RECIPES[options.recipe]()
    rotation = MVTEC_ROTATION.get(category.name, recipe.rotation)
    return apply_options(replace(recipe, rotation=rotation), options)


def _check_unchanged(options: argparse.Namespace) -> None:
    """A run keeps its configuration: an option that contradicts it is an error, not ignored."""
    config = read_run(options.out)["config"]
    for option, place in OVERRIDES.items():
        given, kept = getattr(options, option), config
        for name in place:
            kept = getattr(kept, name)
        # A time budget and 'auto' were settled when the run began.
        settled = options.time_budget is not None and option.endswith("_steps")
        if given is None or given == kept or settled or given == "auto":
            continue
        raise DeSTSegError(
            f"the run in {options.out} was started with {option.replace('_', '-')} {kept}, not "
            f"{given}; leave the option out to resume, or choose another --out"
        )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=run_train)
    parser.add_argument("--data", type=Path, required=True, help="MVTec layout or good images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--textures", type=Path, help="folder such as DTD's; default: procedural")
    parser.add_argument("--teacher", default="imagenet", help="imagenet, random or a weights file")
    parser.add_argument("--recipe", choices=RECIPES, default="quick")
    parser.add_argument("--image-size", type=int, metavar="N", help="multiple of 32")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--student-steps", type=int, metavar="N")
    parser.add_argument("--segmentation-steps", type=int, metavar="N")
    parser.add_argument("--width", type=float, metavar="F", help="of inner channels; paper: 1.0")
    parser.add_argument("--segmentation-width", type=float, metavar="F", help="default: --width")
    parser.add_argument("--rotation", choices=get_args(Rotation))
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--time-budget", type=float, metavar="MIN", help="fit the steps to this")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--holdout", type=float, metavar="SHARE", help="kept for the threshold")
    parser.add_argument("--precision", choices=get_args(Precision))
    parser.add_argument("--checkpoint-every", type=int, default=250, metavar="N", help="steps")
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
    parser.set_defaults(command=run_evaluate)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="one category, or several")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="best and worst cases, as PNG")
    parser.add_argument("--fpr", type=float, metavar="RATE", help="of the threshold, default 0.01")
    _add_common(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=run_predict)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_DIR")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--fpr", type=float, metavar="RATE", help="false-positive rate of the threshold, 0.01"
    )
    parser.add_argument("--good", type=Path, metavar="DIR", help="more good images to calibrate on")
    _add_common(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=run_download)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--url", help="in place of the known address; the checksum stays")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--skip-unreadable", action="store_true", help="and list what was skipped")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _levels(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _opacity(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(","))
    return low, high


if __name__ == "__main__":
    sys.exit(main())
