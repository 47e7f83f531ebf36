"""``destseg evaluate``: its options and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

from destseg_lib.cli import options as shared
from destseg_lib.device import resolve_device
from destseg_lib.evaluation.evaluate import evaluate
from destseg_lib.evaluation.tables import results_table


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg evaluate``."""
    add = parser.add_argument
    shared.add_model(parser, "a run, or a folder of runs named like the categories")
    shared.add_data(
        parser,
        "folder of one category with a test set, or of several (default: the drawn category that "
        "the run was trained on)",
    )
    add("--json", type=Path, metavar="FILE", help="write all metrics to this file")
    add("--figures", type=Path, metavar="DIR", help="write pictures of the best and worst cases")
    shared.add_look(parser)
    shared.add_runtime(parser)
    shared.add_threads(parser, "whichever is faster at the moment, one for under eight images")
    shared.add_overwrite(parser)
    shared.add_common(parser)


def run_evaluate(options: argparse.Namespace) -> int:
    """``destseg evaluate``: print the table; write the JSON and the pictures if asked."""
    device = resolve_device(options.device)
    named = options.data is not None or options.category is not None
    trained_on = None if named else shared.drawn_category_of(options.run)
    results = evaluate(
        shared.loaded_run(options, device) or options.run,
        shared.data_folder(options, trained_on),
        device=device,
        fpr=options.fpr,
        crop=options.crop,
        tiles=options.tiles,
        figures=options.figures,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
        threads=shared.wanted_threads(options),
        json=options.json,
        overwrite=options.overwrite,
    )
    print(results_table(results))
    return 0
