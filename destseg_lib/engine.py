"""Running a study: one record a trial, written as it ends; a stopped study goes on where it was.

records.jsonl   one line a trial, done or failed
study.json      what the records belong to
students/       trained students, shared by the trials that differ only after them
"""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from destseg_lib.checkpoint import read_json, write_json
from destseg_lib.errors import DeSTSegError
from destseg_lib.study import Study, Trial, study_from_dict, trials
from destseg_lib.trial import Workbench, run_trial

RECORDS = "records.jsonl"
STUDY = "study.json"
STUDENTS = "students"

Record = dict[str, Any]


def run_study(
    study: Study,
    out: Path,
    world: Path,
    device: torch.device,
    *,
    retries: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run what is missing of a study, in this process.

    Args:
        study: what to run.
        out: its folder; if it holds this study already, only what is missing is run.
        world: where drawn products are kept.
        device: of every trial.
        retries: how often a trial that fails is tried again before its failure is recorded.
        retry_failed: also run what is recorded as failed.
        progress: show bars.

    Returns:
        every record, in the order of ``trials``.

    Raises:
        DeSTSegError: ``out`` holds another study, is in use, or cannot be written.
    """
    with open_study(study, out):
        bench = Workbench(out / STUDENTS, world, device, progress=progress)
        waiting = missing(study, out, retry_failed=retry_failed)
        with tqdm(waiting, desc=study.name, unit="run", disable=not progress) as bar:
            for trial in bar:
                bar.set_postfix_str(f"{trial.variant}, {trial.category}, seed {trial.seed}")
                append(out, attempt(trial, lambda t: run_trial(t, bench), retries))
    return read_records(study, out)


class open_study:
    """Claim a study's folder for as long as the block lasts, and write what it holds.

    Raises:
        DeSTSegError: the folder holds another study, is in use, or cannot be written.
    """

    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out = study, out

    def __enter__(self) -> None:
        """Take the lock; a killed process leaves none behind."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.out / ".lock", timeout=0)
            self.lock.acquire()
        except Timeout:
            raise DeSTSegError(
                f"{self.out} is in use by another 'destseg study run'; wait for it, or choose "
                "another --out"
            ) from None
        except OSError as error:
            raise DeSTSegError(
                f"{self.out} cannot be made a folder ({error}); choose another --out"
            ) from None
        described = json.loads(json.dumps(dataclasses.asdict(self.study)))
        if (self.out / STUDY).exists():
            if read_json(self.out / STUDY) != described:
                self.lock.release()
                raise DeSTSegError(
                    f"{self.out} holds another study, or this one before it was changed; choose "
                    "another --out"
                )
        else:
            write_json(self.out / STUDY, described)
        _drop_partial_line(self.out / RECORDS)

    def __exit__(self, *_: object) -> None:
        """Give the folder back."""
        self.lock.release()


def read_folder(out: Path) -> tuple[Study, list[Record]]:
    """The study a folder holds, and its records so far.

    Raises:
        DeSTSegError: it holds none, or a damaged one.
    """
    if not (out / STUDY).exists():
        raise DeSTSegError(f"{out} holds no study; 'destseg study run FILE --out {out}' makes one")
    try:
        study = study_from_dict(read_json(out / STUDY))
    except (TypeError, KeyError) as error:
        raise DeSTSegError(f"{out / STUDY} is not a study of this version ({error})") from None
    return study, read_records(study, out)


def missing(study: Study, out: Path, *, retry_failed: bool = False) -> tuple[Trial, ...]:
    """The trials that no record is there of."""
    done = {
        (r["variant"], r["category"], r["seed"])
        for r in _lines(out / RECORDS)
        if r["status"] == "done" or not retry_failed
    }
    return tuple(t for t in trials(study) if (t.variant, Path(t.category).name, t.seed) not in done)


def attempt(trial: Trial, run: Callable[[Trial], Record], retries: int) -> Record:
    """Run a trial; one that keeps failing gives a record of its error, and the rest goes on."""
    for left in range(retries, -1, -1):
        try:
            return run(trial)
        except Exception as error:  # whatever it is, it must not cost the other trials
            if left == 0:
                return failed(trial, error, tries=retries + 1)
    raise AssertionError("unreachable")


def failed(trial: Trial, error: BaseException, tries: int) -> Record:
    """The record of a trial that could not be run."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "unknown"
    return {
        "study": trial.study,
        "variant": trial.variant,
        "category": Path(trial.category).name,
        "seed": trial.seed,
        "status": "failed",
        "error": f"{type(error).__name__}: {error}",
        "where": where,
        "tries": tries,
    }


def append(out: Path, record: Record) -> None:
    """Add a record; it is on the disk when this returns.

    Raises:
        DeSTSegError: it could not be written.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    try:
        with (out / RECORDS).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DeSTSegError(
            f"{out / RECORDS} could not be written ({error}); free some space and give the "
            "command again: what is recorded is kept"
        ) from error


def read_records(study: Study, out: Path) -> list[Record]:
    """The last record of each trial that has one, in the order of ``trials``."""
    last = {(r["variant"], r["category"], r["seed"]): r for r in _lines(out / RECORDS)}
    keys = [(t.variant, Path(t.category).name, t.seed) for t in trials(study)]
    return [last[key] for key in keys if key in last]


def _lines(path: Path) -> Iterator[Record]:
    if not path.exists():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError:
            raise DeSTSegError(
                f"{path}, line {number} is no record; remove the line, and its trial is run again"
            ) from None


def _drop_partial_line(path: Path) -> None:
    """A kill in the middle of a line leaves a part of it, which no later record may follow."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("rb+") as file:
            file.truncate(whole)
