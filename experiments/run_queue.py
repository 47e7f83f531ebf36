"""The queue of runs on real photographs: one after another, in order, as many as the time allows.

``destseg study run`` finishes one study before another begins, and starts a run whether or not the
time is there. This queue goes through several studies in the order of what is wanted first, keeps
students that they share, and never starts a run that would not end in time. The records are those
of ``destseg study run``, in the same folders, so that either goes on where the other stopped.

Data are expected where the commands put them: ``data/mvtec-ad``, ``data/dtd`` and, for the magnetic
tiles, the half that ``report_half.py`` links into ``data/magnetic_tile``.

With ``--workers`` several runs are trained beside each other, in the same order, as a GPU that one
run leaves idle for most of the time can do; what is not finished at the end of the minutes is
stopped and has no record. The library's own way to do this is Ray, which a borrowed machine need
not have. ``--promises DIR`` also holds the false alarms that runs of the whole method promise
against those that they give, as ``promise.py kept`` does.

Run: ``python experiments/run_queue.py --minutes 150 [--list]``, or on a GPU
``python experiments/run_queue.py --device cuda --workers 14 --minutes 10``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue as queues
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import promise
import torch

from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import WORLD
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import append_json_line, write_json
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.inputs import fingerprint_pixels
from destseg_lib.runs.run import Run, save_weights, trained_weights
from destseg_lib.studies.records import (
    DECODED,
    RECORDS,
    STUDENTS,
    claimed_folder,
    missing_trials,
    read_records,
)
from destseg_lib.studies.study import Study, read_study
from destseg_lib.studies.trial import Trial, run_trial, student_file, trials, untrained
from destseg_lib.studies.workbench import Workbench
from destseg_lib.training import phase_config, phases_of

STUDIES = Path("results/studies")
LONGEST = 100  # minutes of one run
OTHER_WORK = 120  # seconds: reading the images, measuring the test set

# (study, seeds, variants) in the order of what is wanted first; no variants are all of them.
FULL = ("denoising + encoder-decoder, segmentation", "denoising + encoder-decoder")
ORDER: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...] = (
    *((s, (n,), v) for n in (0, 1, 2) for s, v in (("quick_table4", FULL), ("quick", ()))),
    *(("quick_table4", (n,), ()) for n in (0, 1, 2)),
    *((s, (n,), ()) for n in (0, 1, 2) for s in ("levels_plain_transistor",)),
    *((s, (n,), ()) for n in (0, 1, 2) for s in ("levels_denoising_transistor",)),
    ("quick_blocks", (0, 1, 2), ()),
    ("one_change_transistor", (0, 1), ()),
    ("one_change_screw", (0,), ()),
    ("drawn_promises", (0, 1, 2), ()),
    ("good_images", (0,), ()),
    ("student_steps", (0,), ()),
)
# Runs whose promise is of interest: the whole method with the quick or the tiny recipe as it is.
PROMISING = {
    "quick_table4": FULL[0], "quick": "quick", "quick_blocks": "quick", "drawn_promises": "tiny",
}  # fmt: skip

Waiting = tuple[Study, Path, Trial]


def queue(wanted_studies: list[str] | None = None) -> list[Waiting]:
    """Every run that has no record yet, in order, each once."""
    found: dict[tuple[str, object], Waiting] = {}
    for name, seeds, variants in ORDER:
        if wanted_studies and name not in wanted_studies:
            continue
        study, out = read_study(STUDIES / f"{name}.toml"), STUDIES / name
        left = {trial.key for trial in missing_trials(study, out)} if out.exists() else None
        for trial in trials(study):
            wanted = trial.seed in seeds and (not variants or trial.variant in variants)
            if wanted and (left is None or trial.key in left):
                found.setdefault((name, trial.key), (study, out, trial))
    return list(found.values())


def estimate(trial: Trial, bench: Workbench) -> float:
    """Seconds that a trial will take, from a few of its own steps; a kept student costs none."""
    measured = seconds_per_step(*untrained(trial, bench))
    known = student_file(bench.students, trial).exists()
    return OTHER_WORK + sum(
        phase_config(trial.config, phase).steps * measured[phase]
        for phase in phases_of(trial.config)
        if not (known and phase == "student")
    )


def said(study: Study, trial: Trial) -> str:
    return f"{study.name}: {trial.variant}, {Path(trial.category).name}, seed {trial.seed}"


def keep(run: Run, trial: Trial, study: str, bench: Workbench, options: argparse.Namespace) -> None:
    """Write a trained model, and what its promise of false alarms comes to."""
    promises, runs = options.promises, options.runs / "models"
    category, config = bench.category(trial.category), trial.config
    name = promise.run_name(category.root, config.recipe, config.holdout_by, trial.seed)
    runs.mkdir(parents=True, exist_ok=True)
    save_weights(runs / f"{name}.safetensors", trained_weights(run.model))
    good = bench.good_images(trial.category, config)
    teacher = {"name": run.teacher_name, "fingerprint": bench.teacher(trial.teacher).fingerprint()}
    inputs = {"good_pixels": fingerprint_pixels(good), "textures": trial.textures_name}
    known = {"inputs": inputs, "teacher": teacher}
    promises.mkdir(parents=True, exist_ok=True)
    record = with_commit(promise.measured(run, category, known), options.commit)
    write_json(promises / f"kept-{name}.json", record | {"study": study})


def with_commit(record: dict[str, Any], commit: str | None) -> dict[str, Any]:
    """A record that says its commit, which was given where git could not be asked."""
    origin = record["provenance"]
    return record | {"provenance": origin | {"commit": origin["commit"] or commit}}


def run_one(trial: Trial, study: str, bench: Workbench, options: argparse.Namespace) -> Any:
    """A run's record, and its promise where that is asked for."""
    trained: Callable[[Run], None] | None = None
    if options.promises and PROMISING.get(study) == trial.variant:
        trained = partial(keep, trial=trial, study=study, bench=bench, options=options)
    return with_commit(run_trial(trial, bench, trained), options.commit)


# Several at a time

HERE: dict[str, Any] = {}  # what a worker process keeps between its runs


def begin(options: argparse.Namespace) -> None:
    """Prepare a worker process."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    HERE["options"], HERE["bench"] = options, workbench(options)


def workbench(options: argparse.Namespace) -> Workbench:
    decoded = options.runs / DECODED if options.workers > 1 else None
    device = resolve_device(options.device)
    return Workbench(options.runs / STUDENTS, WORLD, device, decoded=decoded, progress=False)


def run_there(trial: Trial, study: str) -> Any:
    """In a worker process: a run's record, or why there is none."""
    started = time.monotonic()
    try:
        record = run_one(trial, study, HERE["bench"], HERE["options"])
        return record | {"beside": HERE["options"].workers - 1}, time.monotonic() - started
    except Exception as error:  # the other runs are still worth doing
        return f"{type(error).__name__}: {error}", time.monotonic() - started


def next_run(waiting: list[Waiting], training: set[str]) -> Waiting | None:
    """The first run whose student is not being trained by another one."""
    found = next((one for one in waiting if one[2].student not in training), None)
    if found is not None:
        waiting.remove(found)
    return found


def run_beside(waiting: list[Waiting], options: argparse.Namespace, end: float) -> int:
    """Run what is waiting in several processes until the end; the number of runs that failed."""
    ended: queues.SimpleQueue[tuple[Waiting, Any, float]] = queues.SimpleQueue()
    training: set[str] = set()
    started, failed = time.monotonic(), 0
    spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    with spawn.Pool(options.workers, begin, (options,)) as pool:  # leaving it stops the workers
        while waiting or training:
            while len(training) < options.workers and (one := next_run(waiting, training)):
                training.add(one[2].student)
                pool.apply_async(
                    run_there, (one[2], one[1].name),
                    callback=lambda got, one=one: ended.put((one, *got)),
                    error_callback=lambda error, one=one: ended.put((one, str(error), 0.0)),
                )  # fmt: skip
            try:
                (study, out, trial), got, took = ended.get(timeout=max(0, end - time.monotonic()))
            except queues.Empty:
                print(f"time is up: {len(training)} stopped, {len(waiting)} not begun", flush=True)
                break
            training.discard(trial.student)
            at = time.monotonic() - started
            if isinstance(got, str):
                print(f"{at:4.0f} s  failed {said(study, trial)}: {got}", flush=True)
                failed += 1
                continue
            with claimed_folder(study, out):
                append_json_line(out / RECORDS, {**got, "worker": 0})
            print(f"{at:4.0f} s  {said(study, trial)}: {took:.0f} s", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=150, help="what may be used in all")
    parser.add_argument("--runs", type=Path, default=Path("runs/queue"), help="of kept students")
    parser.add_argument("--threads", type=int, default=1, help="records depend on it slightly")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto")
    parser.add_argument("--workers", type=int, default=1, help="runs beside each other")
    parser.add_argument("--studies", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--promises", type=Path, metavar="DIR", help="records of kept promises")
    parser.add_argument("--commit", help="of this checkout, where git cannot be asked")
    parser.add_argument("--list", action="store_true", help="print what is left and stop")
    options = parser.parse_args()
    started = time.monotonic()
    waiting = queue(options.studies)
    for study, _, trial in waiting if options.list else ():
        print(said(study, trial))
    if options.list:
        return 0
    end = started + 60 * options.minutes
    if options.workers > 1:
        return int(run_beside(waiting, options, end) > 0)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    bench = workbench(options)
    for study, out, trial in waiting:
        needed, left = estimate(trial, bench), end - time.monotonic()
        if needed > min(left, 60 * LONGEST):
            print(
                f"left out  {said(study, trial)}: {needed / 60:.0f} min, {left / 60:.0f} are left",
                flush=True,
            )
            continue
        print(f"running   {said(study, trial)}: about {needed / 60:.0f} min", flush=True)
        with claimed_folder(study, out):
            record = run_one(trial, out.name, bench, options)
            append_json_line(out / RECORDS, {**record, "worker": 0})
        print(f"recorded  {len(read_records(study, out))} of {len(study.keys)}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DeSTSegError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
