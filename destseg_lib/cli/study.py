"""``destseg study``, and the options of all commands that run a study."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from destseg_lib.cli.mode import default_teacher
from destseg_lib.cli.options import add_overwrite, wanted_threads
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import WORLD
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.cluster import Share
from destseg_lib.studies.ray_workers import run_study_on_ray
from destseg_lib.studies.records import RECORDS, STUDY, Record, read_folder
from destseg_lib.studies.report import write_report
from destseg_lib.studies.run import run_study
from destseg_lib.studies.study import STUDIES, Study, read_study, short_names


def add_study(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg study``."""
    parts = parser.add_subparsers(required=True, metavar="run|report", dest="part")
    run = parts.add_parser("run", help="run the missing trials of a study")
    shipped = ", ".join(STUDIES)
    run.add_argument("study", metavar="FILE", help=f"a study, or one that ships: {shipped}")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of its records")
    run.add_argument("--categories", nargs="+", metavar="NAME", help="instead of the study's own")
    add_engine(run)
    report = parts.add_parser("report", help="means, spreads and intervals of a study's records")
    report.add_argument("records", type=Path, metavar="DIR", help="the --out folder of run")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: DIR/report")
    add_overwrite(report)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Options of every command that runs a study."""
    add = parser.add_argument
    add("--seeds", nargs="+", type=int, metavar="N", help="instead of the study's own")
    add(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="one run after another in this process, or many at once on Ray: on this machine, or "
        "on the cluster at RAY_ADDRESS (default: process)",
    )
    add("--workers", type=int, metavar="N", help="parallel Ray workers (default: as many as fit)")
    add("--gpus-per-run", type=float, metavar="F", help="on Ray; 0.5 makes two runs on each GPU")
    add(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the CPU in each run; metrics depend on them slightly (default: those that "
        "the study began with; a new one takes one or all, whichever is faster, or as "
        "OMP_NUM_THREADS says; on Ray two, or with --workers an equal share of the processors)",
    )
    add("--retries", type=int, default=1, metavar="N", help="of a run that fails (default: 1)")
    add("--retry-failed", action="store_true", help="also run the trials that failed before")
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    add("--quiet", action="store_true", help="no progress bars")


def run_study_command(options: argparse.Namespace) -> int:
    """``destseg study run`` and ``destseg study report``."""
    if options.part == "report":
        read = (options.records / STUDY, options.records / RECORDS)
        folder = options.out or options.records / "report"
        study, records = read_folder(options.records)
        print(write_report(study, records, folder, read, overwrite=options.overwrite))
        return 0
    study = read_study(Path(options.study))
    if options.categories is not None:
        study = replace(study, categories=tuple(options.categories))
    if options.seeds is not None:
        study = replace(study, seeds=tuple(options.seeds))
    if any("teacher" not in study.settings | changes for changes in study.variants.values()):
        # Named in the study, so that its folder keeps it whatever mode is set later.
        study = replace(study, settings={**study.settings, "teacher": default_teacher()})
    return report_outcome(run_on_engine(study, options), options.out)


def check_engine_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is done.

    Raises:
        DeSTSegError: such options.
    """
    if options.retries < 0:
        raise DeSTSegError(f"--retries is {options.retries}; give 0 or more")
    Share(options.workers, options.gpus_per_run, options.threads)
    for option in ("workers", "gpus_per_run"):
        if options.engine != "ray" and getattr(options, option) is not None:
            raise DeSTSegError(f"--{option.replace('_', '-')} needs --engine ray")


def run_on_engine(study: Study, options: argparse.Namespace) -> list[Record]:
    """Run a study on the engine asked for.

    Raises:
        DeSTSegError: options contradict each other, or the engine raised it.
    """
    check_engine_options(options)
    keep_freed_memory()
    how = {
        "retries": options.retries,
        "retry_failed": options.retry_failed,
        "progress": not options.quiet,
    }
    if options.engine == "ray":
        share = Share(options.workers, options.gpus_per_run, options.threads)
        return run_study_on_ray(study, options.out, WORLD, options.device, share, **how)
    device = resolve_device(options.device)
    return run_study(study, options.out, WORLD, device, threads=wanted_threads(options), **how)


def report_outcome(records: list[Record], out: Path) -> int:
    """Print the failures and the number of runs done, and return the exit status."""
    failures = [record for record in records if record["status"] != "done"]
    names = short_names([record["category"] for record in failures])
    for record in failures:
        where = f"{record['variant']}, {names[record['category']]}, seed {record['seed']}"
        print(f"destseg: failed: {where}: {record['error']}", file=sys.stderr)
    print(f"{len(records) - len(failures)} of {len(records)} runs done: {out / RECORDS}")
    return int(bool(failures))
