"""``destseg study`` and ``destseg reproduce``: their options and what they do."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from destseg_lib.config import RECIPES
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import WORLD
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_json
from destseg_lib.studies.cluster import Wish
from destseg_lib.studies.costs import costs_to_dict, measure_costs, read_costs
from destseg_lib.studies.paper_tables import (
    SEEDS,
    describe_estimate,
    find_data,
    find_textures,
    paper_study,
    work,
    write_tables,
)
from destseg_lib.studies.ray_workers import run_study_on_ray
from destseg_lib.studies.report import write_report
from destseg_lib.studies.run import (
    RECORDS,
    STUDENTS,
    Record,
    missing,
    read_folder,
    run_study,
    torch_threads,
)
from destseg_lib.studies.study import STUDIES, Study, Trial, read_study
from destseg_lib.teacher import load_teacher

REPRODUCTION = Path("runs/reproduction")
MVTEC = Path("data/mvtec-ad")
TIMING = "timing.json"


def add_study(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg study``."""
    parts = parser.add_subparsers(required=True, metavar="run|report", dest="part")
    run = parts.add_parser("run", help="run what is missing of a study")
    run.add_argument("study", metavar="FILE", help=f"or one that ships: {', '.join(STUDIES)}")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="of its records")
    run.add_argument("--categories", nargs="+", metavar="NAME", help="in place of the study's")
    add_running(run)
    report = parts.add_parser("report", help="means, spreads and intervals of its records")
    report.add_argument("records", type=Path, metavar="DIR", help="as --out of run")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: DIR/report")


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg reproduce``."""
    parser.add_argument(
        "--out", type=Path, default=REPRODUCTION, metavar="DIR", help=f"default: {REPRODUCTION}"
    )
    parser.add_argument(
        "--data", type=Path, default=MVTEC, metavar="DIR", help=f"MVTec AD; default: {MVTEC}"
    )
    parser.add_argument(
        "--textures", type=Path, metavar="DIR", help="or 'procedural'; default: DTD's"
    )
    parser.add_argument("--teacher", default="imagenet", help="default: imagenet")
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help="default: paper")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="default: all fifteen")
    parser.add_argument("--dry-run", action="store_true", help="print the estimate and stop")
    parser.add_argument(
        "--timing",
        type=Path,
        metavar="FILE",
        help="estimate from this: a study's records.jsonl or a timing.json; default: time a few "
        "steps of each kind here",
    )
    add_running(parser)


def add_running(parser: argparse.ArgumentParser) -> None:
    """The options of whatever runs a study."""
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="in place of the study's")
    parser.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="one run after another in this process, or many at once on Ray: on this machine, or "
        "on the cluster at RAY_ADDRESS; default: process",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="of Ray; default: what fits")
    parser.add_argument(
        "--gpus-per-run", type=float, metavar="F", help="on Ray; 0.5 runs two on each GPU"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of each run; figures depend on it slightly"
    )
    parser.add_argument("--retries", type=int, default=1, metavar="N", help="of a failing run")
    parser.add_argument("--retry-failed", action="store_true", help="also what failed before")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run_study_part(options: argparse.Namespace) -> int:
    """``destseg study run`` and ``destseg study report``."""
    if options.part == "report":
        print(
            write_report(*read_folder(options.records), options.out or options.records / "report")
        )
        return 0
    study = read_study(Path(options.study))
    if options.categories is not None:
        study = replace(study, categories=tuple(options.categories))
    if options.seeds is not None:
        study = replace(study, seeds=tuple(options.seeds))
    return tell(run(study, options), options.out)


def run_reproduce(options: argparse.Namespace) -> int:
    """``destseg reproduce``: the paper's tables 4 to 6, with an estimate first."""
    check(options)
    study = paper_study(
        find_data(options.data, options.categories),
        options.seeds or SEEDS,
        recipe=options.recipe,
        teacher=options.teacher,
        textures=find_textures(options.textures),
    )
    waiting = missing(study, options.out, retry_failed=options.retry_failed)
    if waiting:
        if not options.dry_run:  # a missing teacher is to be known now, not from a run's record
            load_teacher(options.teacher)
        _estimate(study, waiting, options)
    if options.dry_run:
        return 0
    records = run(study, options)
    for report in write_tables(study, records, options.out):
        print(report)
    return tell(records, options.out)


def _estimate(study: Study, waiting: tuple[Trial, ...], options: argparse.Namespace) -> None:
    """Print how long the rest takes, and keep what was timed."""
    device = resolve_device(options.device)
    kept = options.out / TIMING
    if options.timing is not None or kept.exists():
        costs = read_costs(options.timing or kept)
    else:
        with torch_threads(options.threads):
            keep_freed_memory()
            costs = measure_costs([t.config for t in waiting], device, progress=not options.quiet)
        if not options.dry_run:
            options.out.mkdir(parents=True, exist_ok=True)
            write_json(kept, costs_to_dict(costs))
    trained = {file.name.partition("-")[0] for file in (options.out / STUDENTS).glob("*.safetens*")}
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    workers = 1
    if options.engine == "ray":
        fit = int(gpus / (options.gpus_per_run or 1)) if gpus else os.cpu_count() or 1
        workers = options.workers or max(1, fit if gpus else fit // (options.threads or 2))
    print(describe_estimate(study, work(waiting, costs, trained), costs, workers), flush=True)
    if options.engine != "ray" and gpus > 1:
        print(f"{gpus} GPUs are here and one will be used: --engine ray uses them all", flush=True)


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is done.

    Raises:
        DeSTSegError: such options.
    """
    if options.retries < 0:
        raise DeSTSegError(f"--retries {options.retries} cannot be; give 0 or more")
    Wish(options.workers, options.gpus_per_run, options.threads)
    for option in ("workers", "gpus_per_run"):
        if options.engine != "ray" and getattr(options, option) is not None:
            raise DeSTSegError(f"--{option.replace('_', '-')} needs --engine ray beside it")


def run(study: Study, options: argparse.Namespace) -> list[Record]:
    """Run a study on the engine asked for.

    Raises:
        DeSTSegError: options that only Ray understands were given without it; as the engines.
    """
    check(options)
    keep_freed_memory()
    how = {
        "retries": options.retries,
        "retry_failed": options.retry_failed,
        "progress": not options.quiet,
    }
    if options.engine == "ray":
        wish = Wish(options.workers, options.gpus_per_run, options.threads)
        return run_study_on_ray(study, options.out, WORLD, options.device, wish, **how)
    device = resolve_device(options.device)
    return run_study(study, options.out, WORLD, device, threads=options.threads, **how)


def tell(records: list[Record], out: Path) -> int:
    """Print what came of a study, failures first; the exit status."""
    failures = [record for record in records if record["status"] != "done"]
    for record in failures:
        where = f"{record['variant']}, {record['category']}, seed {record['seed']}"
        print(f"destseg: failed: {where}: {record['error']}", file=sys.stderr)
    print(f"{len(records) - len(failures)} of {len(records)} runs done: {out / RECORDS}")
    return int(bool(failures))
