"""``destseg predict``: its options and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

from destseg_lib.cli.options import (
    add_common,
    add_look,
    add_model,
    add_overwrite,
    add_runtime,
    add_threads,
    loaded_run,
    wanted_threads,
)
from destseg_lib.device import resolve_device
from destseg_lib.evaluation.predict import find_photographs, predict
from destseg_lib.runs.exported import looking_at
from destseg_lib.runs.run import load_run


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg predict``."""
    add = parser.add_argument
    add("images", type=Path, nargs="+", metavar="IMAGE_OR_DIR", help="photographs, or folders")
    add_model(parser, "a run")
    scores = "folder for scores.json and the overlays"
    add("--out", type=Path, required=True, metavar="DIR", help=scores)
    maps = "also write each map as a 16-bit TIFF and what is outlined as a PNG mask"
    add("--maps", action="store_true", help=maps)
    good = "more good images, not used in training, to choose the threshold on"
    add("--good", type=Path, metavar="DIR", help=good)
    add_look(parser)
    add_runtime(parser)
    add_threads(parser, "whichever is faster at the moment, one for under eight images")
    add_overwrite(parser)
    add_common(parser)


def run_predict(options: argparse.Namespace) -> int:
    """``destseg predict``: write scores.json and one overlay per image."""
    device = resolve_device(options.device)
    run = loaded_run(options, device) or load_run(options.run, device)
    rows = predict(
        looking_at(run, options.crop, options.tiles),
        find_photographs(options.images),
        options.out,
        fpr=options.fpr,
        good=() if options.good is None else find_photographs([options.good]),
        skip_unreadable=options.skip_unreadable,
        overwrite=options.overwrite,
        maps=options.maps,
        progress=not options.quiet,
        threads=wanted_threads(options),
    )
    decisions = [row["anomalous"] for row in rows if row["anomalous"] is not None]
    found = f"{sum(decisions)} anomalous" if decisions else "scored but not judged"
    images = "image" if len(rows) == 1 else "images"
    print(f"{len(rows)} {images}, {found}: {options.out / 'scores.json'}")
    return 0
