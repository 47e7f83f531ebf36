"""``destseg export``: its options and what it does."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from destseg_lib.cli.options import add_run_to_export, run_to_export
from destseg_lib.evaluation.named_file import named_file
from destseg_lib.images.folders import find_images
from destseg_lib.images.load import load_images
from destseg_lib.runs.export import Arithmetic, export_run
from destseg_lib.runs.quantise import Weights
from destseg_lib.runs.tiles import decoded_size


def add_export(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg export``."""
    add = parser.add_argument
    add_run_to_export(parser)
    add("--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    size = "side of the images that the file takes, in pixels (default: the run's own)"
    add("--size", type=int, metavar="N", help=size)
    weights = "how weights are stored; fp16 halves the file, int8 quarters it (default: fp32)"
    add("--weights", choices=get_args(Weights), default="fp32", help=weights)
    arithmetic = "int8 needs --good; it is refused if it loses too much (default: float)"
    add("--arithmetic", choices=get_args(Arithmetic), default="float", help=arithmetic)
    good = (
        "good images, not used in training, to calibrate the file's threshold on; needed for a "
        "threshold with --weights int8 or another --size"
    )
    add("--good", type=Path, metavar="DIR", help=good)


def run_export(options: argparse.Namespace) -> int:
    """``destseg export``: write the file; say how far its answers are from torch's."""
    run, files = run_to_export(options)
    paths = () if options.good is None else find_images([options.good])
    read = (*paths, *files)
    data = () if options.good is None else (options.good,)
    named_file(options.out, read, data, by="export", option="--out")  # before the work
    good = None
    if paths:
        config = replace(run.config, image_size=options.size or run.config.image_size)
        good = load_images(paths, decoded_size(config), view=run.view)
    differences = export_run(
        run,
        options.out,
        size=options.size,
        weights=options.weights,
        arithmetic=options.arithmetic,
        good=None if good is None else good.pixels,
    )
    found = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
    mebibytes = options.out.stat().st_size / 2**20
    print(f"{options.out}: {mebibytes:.1f} MiB; largest differences from torch: {found}")
    return 0
