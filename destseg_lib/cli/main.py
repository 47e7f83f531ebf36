"""The command line, one function a command of ``destseg``.

A mistake the user can mend is answered with its message and exit status 2; a run that was stopped
and saved ends with status 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from destseg_lib.cli.mode import default_teacher, defaults, describe
from destseg_lib.cli.options import (
    apply_options,
    build_parser,
    check_unchanged,
    config_for,
)
from destseg_lib.cli.study import run_reproduce, run_study_part
from destseg_lib.config import RECIPES
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.dataset import WORLD, ImageCounts, find_drawn, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate
from destseg_lib.evaluation.predict import predict
from destseg_lib.evaluation.result import Evaluation, Summary
from destseg_lib.evaluation.tables import results_table
from destseg_lib.files import write_json
from destseg_lib.images.download import download
from destseg_lib.images.folders import find_categories, find_images
from destseg_lib.runs.run import CONFIG, InterruptedRunError, load_run, read_run
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.runs.train import TrainingJob, train_category

__all__ = ["RECIPES", "apply_options", "build_parser", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        print(describe(), flush=True)
        return COMMANDS[options.command](options)
    except InterruptedRunError as stopped:
        print(f"destseg: {stopped}", file=sys.stderr)
        return 130
    except KeyboardInterrupt as stopped:
        print(f"destseg: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130
    except (DeSTSegError, OSError) as error:  # an OSError names the file and what is wrong with it
        print(f"destseg: {error}", file=sys.stderr)
        return 2


def run_train(options: argparse.Namespace) -> int:
    """``destseg train``: one category into RUN, or several into RUN/<category>."""
    data = _data(options)
    job = TrainingJob(
        textures=options.textures,
        teacher=options.teacher or default_teacher(),
        device=options.device,
        time_budget=options.time_budget,
        checkpoint_every=options.checkpoint_every,
        compile_networks=options.compile,
        tensorboard=options.tensorboard,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
    )
    categories = find_categories(data)
    several = len(categories) > 1
    if several and (options.out / CONFIG).exists():
        raise DeSTSegError(
            f"{options.out} holds a run of one category, and {data} has "
            f"{len(categories)} of them; choose another --out"
        )
    runs = [(c, options.out / c.name if several else options.out) for c in categories]
    # What is wrong with the last run is to be known before the first is trained.
    for _, out in runs:
        if (out / CONFIG).exists():
            _check_resumed(out, options)
    keep_freed_memory()
    for category, out in runs:
        train_category(category, out, config_for(category.name, options), job)
        print(f"trained {category.name}: {out}", flush=True)
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """``destseg evaluate``: print the table, write the JSON and a figure if asked."""

    def save(results: Evaluation | Summary) -> None:
        if options.json is not None:
            write_json(options.json, results.to_dict())

    device, pretrained = resolve_device(options.device), _pretrained(options.run)
    if options.json is not None:
        _check_writable(options.json)
    results = evaluate(
        options.run if pretrained is None else load_pretrained(pretrained, device),
        _data(options, _trained_on(options.run)),
        device=device,
        fpr=options.fpr,
        figures=options.figures,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
        save=save,
    )
    print(results_table(results))
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """``destseg predict``: scores.json and an overlay an image."""
    device, pretrained = resolve_device(options.device), _pretrained(options.run)
    run = (
        load_run(options.run, device) if pretrained is None else load_pretrained(pretrained, device)
    )
    rows = predict(
        run,
        find_images(options.images),
        options.out,
        fpr=options.fpr,
        good=() if options.good is None else find_images([options.good]),
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
    )
    judged = [row["anomalous"] for row in rows if row["anomalous"] is not None]
    found = f"{sum(judged)} anomalous" if judged else "scored but not judged"
    print(
        f"{len(rows)} {'image' if len(rows) == 1 else 'images'}, {found}: "
        f"{options.out / 'scores.json'}"
    )
    return 0


def run_make_data(options: argparse.Namespace) -> int:
    """``destseg make-data``: products in MVTec AD's layout."""
    counts = ImageCounts(options.train, options.good, options.defective)
    # A name that does not exist is to be known before the first is drawn.
    names = [find_drawn(name).name for name in options.products] or [p.name for p in CATEGORIES]
    for name in names:
        print(
            write_category(
                name, options.out, options.size, counts, options.seed, progress=not options.quiet
            ),
            flush=True,
        )
    return 0


def run_download(options: argparse.Namespace) -> int:
    """``destseg download``: fetch, check and unpack one data set."""
    folder = download(options.dataset, options.root, options.url, progress=not options.quiet)
    print(folder)
    return 0


COMMANDS = {
    "train": run_train,
    "evaluate": run_evaluate,
    "predict": run_predict,
    "make-data": run_make_data,
    "study": run_study_part,
    "reproduce": run_reproduce,
    "download": run_download,
}


def _data(options: argparse.Namespace, trained_on: str | None = None) -> Path:
    """The folder of a command's images: as asked for, else a drawn product, else the mode's."""
    if options.data is not None:
        if options.product is not None:
            raise DeSTSegError("--data and --product were both given; give one of them")
        folder: Path = options.data
        return folder
    chosen = defaults(resolve_device(options.device))
    name = options.product or trained_on
    if name is not None:
        return write_category(name, WORLD, progress=not options.quiet)
    if chosen.mode == "tiny":
        names = ", ".join(product.name for product in CATEGORIES)
        raise DeSTSegError(
            f"say what to work on: --data DIR for your own images, or --product NAME for a drawn "
            f"product ({names})"
        )
    if not chosen.data.exists():
        raise DeSTSegError(
            f"{chosen.data} is not there; fetch MVTec AD with 'destseg download mvtec-ad', or "
            "give --data DIR or --product NAME"
        )
    return chosen.data


def _trained_on(run: Path) -> str | None:
    """The drawn product that a run was trained on, if it was."""
    name = _pretrained(run)
    if name is None and (run / CONFIG).exists():
        name = str(read_run(run)["inputs"]["category"])
    return name if name in {product.name for product in CATEGORIES} else None


def _pretrained(run: Path) -> str | None:
    scheme, colon, name = str(run).partition(":")
    return name if colon and scheme == "pretrained" else None


def _check_resumed(out: Path, options: argparse.Namespace) -> None:
    if not options.resume:
        raise DeSTSegError(
            f"{out} already holds a run; continue it with --resume, or choose another --out"
        )
    check_unchanged(out, options)


def _check_writable(path: Path) -> None:
    """Refuse a place for the figures before they are measured, not after it."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise DeSTSegError(
            f"{path} cannot be written: name a file in a folder that exists and may be written"
        )


if __name__ == "__main__":
    sys.exit(main())
