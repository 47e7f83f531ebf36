"""Running a study in one process; a study that was stopped continues with what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from destseg_lib.device import check_threads, resolve_precision, torch_threads
from destseg_lib.files import append_json_line
from destseg_lib.runs.threads import Threads, choose_threads
from destseg_lib.studies.records import (
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
from destseg_lib.studies.study import Study
from destseg_lib.studies.trial import Trial, run_trial, untrained
from destseg_lib.studies.workbench import Workbench


def run_study(
    study: Study,
    out: Path,
    world: Path,
    device: torch.device,
    *,
    threads: Threads = None,
    retries: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run the missing trials of a study, one after another in this process.

    Args:
        study: the study.
        out: its folder; if it holds this study already, only the missing trials are run.
        world: folder of drawn categories.
        device: device of every trial.
        threads: of every run, on a CPU: a number; ``auto`` for one or all, whichever is faster in
            a few steps of the first run; None for as many as torch has. Metrics depend on them in
            their last digits, so without a number a study keeps those that it was begun with.
        retries: how often a trial that fails is tried again before its failure is recorded.
        retry_failed: also run the trials that are recorded as failed.
        progress: show bars.

    Returns:
        every record, in the order of ``trials``.

    Raises:
        DeSTSegError: ``out`` holds another study, is in use, or cannot be written.
    """
    check_threads(threads)
    with claimed_folder(study, out):
        bench = Workbench(out / STUDENTS, world, device, progress=progress)
        waiting = missing_trials(study, out, retry_failed=retry_failed)
        waiting = with_one_precision(waiting, study, out, resolve_precision("auto", device))
        kept = wanted = None if threads == "auto" else threads
        if waiting and device.type == "cpu":
            choose = partial(threads_for, waiting, bench, threads)
            kept = with_one_number_of_threads(study, out, wanted, choose)
        bar = tqdm(waiting, desc=study.name, unit="run", disable=not progress)
        with bar, torch_threads(kept):
            for trial in bar:
                bar.set_postfix_str(f"{trial.variant}, {trial.category}, seed {trial.seed}")
                record = run_with_retries(trial, lambda t: run_trial(t, bench), retries)
                append_json_line(out / RECORDS, {**record, "worker": 0})
    return read_records(study, out)


def threads_for(waiting: Sequence[Trial], bench: Workbench, wanted: Threads) -> int:
    """The threads that a study begins with: timed in the first run that can be begun."""
    for trial in waiting if wanted == "auto" else ():
        try:
            chosen, _ = choose_threads(*untrained(trial, bench), wanted)
        except Exception:  # no error of one trial may cost the others; it will be in its record
            continue
        return chosen or torch.get_num_threads()
    return torch.get_num_threads()


def run_with_retries(trial: Trial, run: Callable[[Trial], Record], retries: int) -> Record:
    """Run a trial; if it keeps failing, return a record of its error, so that the rest goes on."""
    failure: Record = {}
    for tries in range(1, retries + 2):
        try:
            return run(trial)
        except Exception as error:  # no error of one trial may cost the others
            failure = failure_record(trial, error, tries)
    return failure
