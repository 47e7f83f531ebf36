"""``destseg page``: its options and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from destseg_lib.cli.options import (
    add_overwrite,
    add_quiet,
    add_run_to_export,
    run_to_export,
    shipped_name,
)
from destseg_lib.evaluation.browser import packed_run
from destseg_lib.evaluation.page import INDEX, page_files
from destseg_lib.evaluation.predict import find_photographs
from destseg_lib.files.outputs import outputs
from destseg_lib.images.load import load_images
from destseg_lib.runs.holdout import hold_out
from destseg_lib.runs.inputs import fingerprint_pixels
from destseg_lib.runs.quantise import Weights
from destseg_lib.runs.run import HELD_OUT, read_run
from destseg_lib.runs.web_runtime import FILES, web_runtime
from destseg_lib.threshold import describe_threshold


def add_page(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg page``."""
    add = parser.add_argument
    add_run_to_export(parser)
    out = f"folder to write {INDEX} to, and what it loads"
    add("--out", type=Path, required=True, metavar="DIR", help=out)
    single = f"write {INDEX} alone, with everything in it"
    add("--single", action="store_true", help=single)
    good = (
        "good images to choose the threshold on: others than in training, or the folder that was "
        "trained on, of which only those held out are taken"
    )
    add("--good", type=Path, required=True, metavar="DIR", help=good)
    weights = "how weights are stored; int8 halves the page, fp32 doubles it (default: fp16)"
    add("--weights", choices=get_args(Weights), default="fp16", help=weights)
    rate = (
        "false-positive rate of the threshold (default: 0.01, or the smallest rate that the good "
        "images can resolve)"
    )
    add("--fpr", type=float, metavar="RATE", help=rate)
    runtime = "folder with the files of onnxruntime-web (default: fetched from npm, once)"
    add("--runtime", type=Path, metavar="DIR", help=runtime)
    add_overwrite(parser)
    add_quiet(parser)


def run_page(options: argparse.Namespace) -> int:
    """``destseg page``: write the page; say how large it is, and its threshold."""
    (run, files_read), shipped = run_to_export(options), shipped_name(options.run)
    inputs = {"category": shipped} if shipped else read_run(options.run)["inputs"]
    layout = options.good / "train" / "good"  # as in MVTec AD, next to defects
    paths = find_photographs([layout if layout.is_dir() else options.good])
    read = [*paths, *files_read]
    if options.runtime is not None:
        read += [options.runtime / file for file in FILES]
    made = outputs(options.out, [INDEX], read, by="page", overwrite=options.overwrite)
    runtime = web_runtime(options.runtime)
    size, progress = run.config.image_size, not options.quiet
    good = load_images(paths, size, view=run.view, progress=progress).pixels
    if fingerprint_pixels(good) == inputs.get("good_pixels"):
        _, single = hold_out(len(good), run.config.holdout, run.config.seed)
        good = good[np.asarray(inputs.get(HELD_OUT, single), np.int64)]
    packed = packed_run(
        run,
        str(inputs["category"]).replace("_", " "),
        good,
        runtime,
        weights=options.weights,
        fpr=options.fpr,
    )
    print(describe_threshold(packed.threshold))
    texts = page_files(packed, single=options.single)
    files = {file: text.encode() for file, text in texts.items()}
    made.check(files)
    made.prepare()
    # The page itself last: a folder that has it is whole.
    for file in sorted(files, key=lambda file: file == INDEX):
        made.write(file, lambda opened, content=files[file]: opened.write(content))  # type: ignore[misc]
    megabytes = sum(map(len, files.values())) / 1e6
    print(f"{megabytes:.1f} MB, to be opened in a browser: {options.out / INDEX}")
    return 0
