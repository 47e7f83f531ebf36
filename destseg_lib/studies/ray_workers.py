"""A study on Ray: many runs at once, on this machine or a cluster, with the records of one process.

Every run is a task of Ray. This process hands them out and alone writes the records, so if a worker
or this process dies, only the runs that were being made are lost and made again. A worker's process
keeps teachers and decoded images for its next run.

Runs that share a student wait for the first of them, which trains it; meanwhile workers take runs
of other students. On a cluster all machines must see the folder in which the command is given, the
study's own and the data, under the same path.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from destseg_lib import __version__
from destseg_lib.config import Precision
from destseg_lib.device import keep_freed_memory, resolve_device, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import append_json_line
from destseg_lib.studies.cluster import Share, cluster_address, connected, first_line, share_out
from destseg_lib.studies.records import (
    DECODED,
    RECORDS,
    STUDENTS,
    Record,
    claimed_folder,
    failure_record,
    missing_trials,
    read_records,
    with_one_number_of_threads,
    with_one_precision,
)
from destseg_lib.studies.run import run_with_retries
from destseg_lib.studies.study import Study
from destseg_lib.studies.trial import Trial, run_trial, student_file
from destseg_lib.studies.workbench import Workbench

RESTARTS = 2  # how often a worker may die before it is ready


class WorkerDiedError(DeSTSegError):
    """A worker's process ended in the middle of a run."""


@dataclass(frozen=True)
class Place:
    """What a worker needs to know: version, folders, device and threads of the driver's choice."""

    version: str
    folder: str
    out: str
    world: str
    device: str
    threads: int


def run_study_on_ray(
    study: Study,
    out: Path,
    world: Path,
    device: str = "auto",
    wanted: Share | None = None,
    *,
    retries: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run the missing trials of a study on Ray.

    Args:
        study: the study.
        out: its folder; either engine continues what the other began.
        world: folder of drawn categories.
        device: device of every trial; ``auto`` is cuda where Ray counts a GPU.
        wanted: how many workers, and what each gets.
        retries: how often a trial that fails, or whose worker dies, is tried again before its
            failure is recorded.
        retry_failed: also run the trials that are recorded as failed.
        progress: show a bar.

    Returns:
        every record, in the order of ``trials``: those of ``run_study`` with the same number of
        threads, except for ``worker``, ``seconds`` and the machine in the provenance.

    Raises:
        DeSTSegError: ``out`` holds another study, is in use, or cannot be written; Ray is missing
            or does not start; the workers do not fit or cannot work.
    """
    wanted = wanted or Share()
    with claimed_folder(study, out):
        waiting = missing_trials(study, out, retry_failed=retry_failed)
        if waiting:
            begun = time.perf_counter()
            with connected(wanted) as ray:
                device = _device(ray, device)
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                workers, gpus, threads = share_out(wanted, device, nodes)
                if device == "cpu":
                    asked = wanted.threads and threads  # no more than a machine has
                    kept = with_one_number_of_threads(study, out, asked, lambda: threads)
                    shared = replace(wanted, threads=kept)
                    workers, gpus, threads = share_out(shared, device, nodes)
                folders = str(Path.cwd()), str(out.resolve()), str(world.resolve())
                place = Place(__version__, *folders, device, threads)
                remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)
                here = _start_workers(ray, remote(_prepare), place, workers)
                if progress:
                    gpu = f"{gpus:g} GPU and " if gpus else ""
                    print(
                        f"Ray: {workers} workers, each with {gpu}{threads} threads, ready after "
                        f"{time.perf_counter() - begun:.1f} s",
                        file=sys.stderr,
                    )
                waiting = with_one_precision(waiting, study, out, here)
                with tqdm(
                    desc=study.name, total=len(waiting), unit="run", disable=not progress
                ) as bar:
                    _run_tasks(ray, remote(_run), place, waiting, workers, retries, bar)
            if not missing_trials(study, out):
                shutil.rmtree(out / DECODED, ignore_errors=True)  # gigabytes, for MVTec AD
    return read_records(study, out)


def _start_workers(ray: Any, prepare: Any, place: Place, workers: int) -> Precision:
    """Start the workers and return the precision that ``auto`` is there."""
    tasks = [prepare.options(max_retries=RESTARTS).remote(place) for _ in range(workers)]
    try:
        precisions: list[Precision] = ray.get(tasks)
    except ray.exceptions.RayTaskError as error:
        raise DeSTSegError(f"a worker cannot work: {error.cause or error}") from error
    except ray.exceptions.RayError as error:
        raise DeSTSegError(
            f"a worker died {RESTARTS + 1} times as it started ({first_line(error)}); is this "
            "version of destseg_lib installed on every machine, and is there enough memory?"
        ) from error
    return precisions[0]


def _run_tasks(
    ray: Any,
    run: Any,
    place: Place,
    waiting: Sequence[Trial],
    workers: int,
    retries: int,
    bar: Any,
) -> None:
    """Run trials until none is left, writing each record as it comes."""
    out, left, idle = Path(place.out), list(waiting), set(range(workers))
    running: dict[Any, tuple[int, Trial]] = {}
    deaths: Counter[object] = Counter()
    try:
        while left or running:
            while left and idle:
                training = {
                    trial.student
                    for _, trial in running.values()
                    if not student_file(out / STUDENTS, trial).exists()
                }
                trial = left.pop(next_trial(left, training))
                running[run.remote(place, trial, retries)] = idle.pop(), trial
            (task,), _ = ray.wait(list(running))
            worker, trial = running.pop(task)
            idle.add(worker)
            try:
                record = ray.get(task)
            except ray.exceptions.RayTaskError as error:
                # A trial never raises, so the error is the worker's own.
                raise DeSTSegError(f"a worker cannot work: {error.cause or error}") from error
            except ray.exceptions.RayError:
                deaths[trial.key] += 1
                if deaths[trial.key] <= retries:
                    left.insert(0, trial)
                    continue
                died = WorkerDiedError("the worker's process ended (killed, or out of memory)")
                record = failure_record(trial, died, tries=deaths[trial.key])
            append_json_line(out / RECORDS, {**record, "worker": worker})
            bar.update()
            bar.set_postfix_str(f"{trial.variant}, {trial.category}, seed {trial.seed}")
    finally:  # Ray itself may go on, if the caller started it
        for task in running:
            ray.cancel(task, force=True)


def next_trial(left: Sequence[Trial], training: Collection[str]) -> int:
    """Index of the first trial whose student no worker is training, else of the first."""
    return next((i for i, trial in enumerate(left) if trial.student not in training), 0)


@lru_cache(maxsize=1)
def _workbench(place: Place) -> Workbench:
    """Prepare a worker's process, once; its workbench is kept for all its runs.

    Raises:
        DeSTSegError: another version of this library, a missing folder or a missing device.
    """
    if place.version != __version__:
        raise DeSTSegError(
            f"a worker has destseg_lib {__version__} and this process {place.version}; install "
            "the same version on every machine"
        )
    for folder in (place.folder, place.out):
        if not Path(folder).is_dir():
            raise DeSTSegError(
                f"a worker's machine has no folder {folder}; the machines of a cluster must "
                "share the folder in which the command is given and the study's"
            )
    os.chdir(place.folder)  # categories may be given as relative paths
    torch.set_num_threads(place.threads)
    keep_freed_memory()
    out, device = Path(place.out), resolve_device(place.device)
    return Workbench(
        out / STUDENTS, Path(place.world), device, decoded=out / DECODED, progress=False
    )


def _prepare(place: Place) -> Precision:
    return resolve_precision("auto", _workbench(place).device)


def _run(place: Place, trial: Trial, retries: int) -> Record:
    bench = _workbench(place)
    return run_with_retries(trial, lambda t: run_trial(t, bench), retries)


def _device(ray: Any, wanted: str) -> str:
    """``auto`` on a cluster is what it has: the machine that commands it may have no GPU."""
    if cluster_address() is None:
        return resolve_device(wanted).type
    if wanted == "auto":
        return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"
    return wanted
