"""``destseg evaluate``: its options and what it does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from destseg_lib.cli import options as shared
from destseg_lib.device import resolve_device
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate
from destseg_lib.evaluation.result import Evaluation, Summary
from destseg_lib.evaluation.tables import results_table
from destseg_lib.files import write_json


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
    shared.add_runtime(parser)
    shared.add_common(parser)


def run_evaluate(options: argparse.Namespace) -> int:
    """``destseg evaluate``: print the table; write the JSON and the pictures if asked."""
    file: Path | None = options.json
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise DeSTSegError(  # now, not after the metrics were computed
            f"{file} cannot be written; name a file in a folder that exists and may be written to"
        )

    def save(results: Evaluation | Summary) -> None:
        if file is not None:
            write_json(file, results.to_dict())

    device = resolve_device(options.device)
    results = evaluate(
        shared.loaded_run(options, device) or options.run,
        shared.data_folder(options, shared.drawn_category_of(options.run)),
        device=device,
        fpr=options.fpr,
        figures=options.figures,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
        save=save,
    )
    print(results_table(results))
    return 0
