"""``destseg reproduce``: the paper's tables 4 to 6 on MVTec AD, with an estimate first."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from destseg_lib.cli.options import add_overwrite
from destseg_lib.cli.study import add_engine, check_engine_options, report_outcome, run_on_engine
from destseg_lib.config import RECIPES
from destseg_lib.device import keep_freed_memory, resolve_device, torch_threads
from destseg_lib.files import write_json
from destseg_lib.studies.cluster import Share, threads_of_a_run
from destseg_lib.studies.paper_tables import (
    SEEDS,
    check_tables,
    find_data,
    find_textures,
    paper_study,
    write_tables,
)
from destseg_lib.studies.records import STUDENTS, missing_trials
from destseg_lib.studies.study import Study
from destseg_lib.studies.timing import estimate_runs, measure_timing, read_timing
from destseg_lib.studies.trial import Trial
from destseg_lib.teacher import load_teacher

REPRODUCTION = Path("runs/reproduction")
MVTEC = Path("data/mvtec-ad")
TIMING = "timing.json"


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg reproduce``."""
    add = parser.add_argument
    add("--out", type=Path, default=REPRODUCTION, metavar="DIR", help=f"default: {REPRODUCTION}")
    add("--data", type=Path, default=MVTEC, metavar="DIR", help=f"MVTec AD (default: {MVTEC})")
    add("--textures", type=Path, metavar="DIR", help="or 'procedural' (default: DTD's folder)")
    add("--teacher", default="imagenet", help="default: imagenet")
    add("--recipe", choices=RECIPES, default="paper", help="default: paper")
    add("--categories", nargs="+", metavar="NAME", help="default: all fifteen")
    add("--dry-run", action="store_true", help="print the estimate and stop")
    add(
        "--timing",
        type=Path,
        metavar="FILE",
        help="estimate from a study's records.jsonl or a timing.json (default: the timing.json "
        "in --out; where there is none, time a few steps of each kind on this machine)",
    )
    add_overwrite(parser)
    add_engine(parser)


def run_reproduce(options: argparse.Namespace) -> int:
    """``destseg reproduce``: estimate, run what is missing, write the tables."""
    check_engine_options(options)
    study = paper_study(
        find_data(options.data, options.categories),
        options.seeds or SEEDS,
        recipe=options.recipe,
        settings={"teacher": options.teacher, "textures": find_textures(options.textures)},
    )
    check_tables(options.out, overwrite=options.overwrite)
    waiting = missing_trials(study, options.out, retry_failed=options.retry_failed)
    if waiting:
        if not options.dry_run:  # report a missing teacher now, not in the record of a run
            load_teacher(options.teacher)
        _estimate(study, waiting, options)
    if options.dry_run:
        return 0
    records = run_on_engine(study, options)
    for report in write_tables(study, records, options.out, overwrite=options.overwrite):
        print(report)
    return report_outcome(records, options.out)


def _estimate(study: Study, waiting: Sequence[Trial], options: argparse.Namespace) -> None:
    """Print how long the missing runs take, and keep what was timed."""
    device, kept = resolve_device(options.device), options.out / TIMING
    processors, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    workers, threads = 1, options.threads  # of one run; None is all that torch has
    if options.engine == "ray":  # several runs share the machine, so each is timed on its share
        share = Share(options.workers, options.gpus_per_run, options.threads)
        threads = threads_of_a_run(share, device.type, processors)
        fit = processors / threads
        if device.type == "cuda":
            fit = gpus / (options.gpus_per_run or 1)
        workers = options.workers or max(1, int(fit))
    if options.timing is not None or kept.exists():
        timing = read_timing(options.timing or kept)
    else:
        with torch_threads(threads):
            keep_freed_memory()
            configs = [trial.config for trial in waiting]
            timing = measure_timing(configs, device, progress=not options.quiet)
        if not options.dry_run:
            options.out.mkdir(parents=True, exist_ok=True)
            write_json(kept, asdict(timing))
    trained = {file.name.partition("-")[0] for file in (options.out / STUDENTS).glob("*.safetens*")}
    seconds = estimate_runs(waiting, timing, trained)
    took = max(sum(seconds) / workers, max(seconds))
    print(
        f"{len(waiting)} of {len(study.keys)} runs are left: {len(study.variants)} variants, "
        f"{len(study.categories)} categories, {len(study.seeds)} seeds; "
        f"{len({trial.student for trial in waiting})} students"
    )
    at_once = (
        f"{workers} at once, {duration(sum(seconds))} of work" if workers > 1 else "one by one"
    )
    print(f"estimate: {duration(took)}, {at_once}; from {timing.source}:")
    for kind, rate in timing.seconds.items():
        print(f"  {rate:.3g} s  {kind}", flush=True)
    if options.engine != "ray" and device.type == "cuda" and gpus > 1:
        print(f"{gpus} GPUs are here and one will be used: --engine ray uses them all", flush=True)


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
