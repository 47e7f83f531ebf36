"""Running a study: one record a trial, written as it ends; a stopped study goes on where it was.

records.jsonl   one line a trial, done or failed
study.json      what the records belong to
students/       trained students, shared by the trials that differ only after them
decoded/        decoded images, where several workers share them
"""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from destseg_lib.config import Precision
from destseg_lib.device import resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, write_json
from destseg_lib.studies.study import Study, Trial, study_from_dict, trials
from destseg_lib.studies.trial import Workbench, run_trial

RECORDS = "records.jsonl"
STUDY = "study.json"
STUDENTS = "students"
DECODED = "decoded"

Record = dict[str, Any]


def run_study(
    study: Study,
    out: Path,
    world: Path,
    device: torch.device,
    *,
    threads: int | None = None,
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
        threads: that torch may use on a CPU; None leaves it as it is. Figures depend on it in
            their last digits.
        retries: how often a trial that fails is tried again before its failure is recorded.
        retry_failed: also run what is recorded as failed.
        progress: show bars.

    Returns:
        every record, in the order of ``trials``.

    Raises:
        DeSTSegError: ``out`` holds another study, is in use, or cannot be written.
    """
    with open_study(study, out), torch_threads(threads):
        bench = Workbench(out / STUDENTS, world, device, progress=progress)
        waiting = missing(study, out, retry_failed=retry_failed)
        waiting = settle(waiting, study, out, lambda: resolve_precision("auto", device))
        with tqdm(waiting, desc=study.name, unit="run", disable=not progress) as bar:
            for trial in bar:
                bar.set_postfix_str(f"{trial.variant}, {trial.category}, seed {trial.seed}")
                record = attempt(trial, lambda t: run_trial(t, bench), retries)
                append(out, {**record, "worker": 0})
    return read_records(study, out)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many threads inside the block; None leaves their number alone.

    Raises:
        DeSTSegError: fewer than one.
    """
    if threads is not None and threads < 1:
        raise DeSTSegError(f"{threads} threads cannot compute; give --threads 1 or more")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)


def settle(
    waiting: tuple[Trial, ...], study: Study, out: Path, decide: Callable[[], Precision]
) -> tuple[Trial, ...]:
    """Trials with the same arithmetic in place of precision ``auto``, for the whole of a study.

    On a CPU ``auto`` is a measurement, and under load it may come out otherwise in another worker
    or on another day; a study in two arithmetics would compare what is not comparable.

    Args:
        waiting: what is to be run.
        study: that they belong to.
        out: its folder; where records are, they decide.
        decide: what ``auto`` is; asked at most once.
    """
    automatic = {t.key for t in trials(study) if t.config.precision == "auto"}
    if not any(t.key in automatic for t in waiting):
        return waiting
    categories = {Path(name).name: name for name in study.categories}
    decided = (
        record["config"]["precision"]
        for record in read_records(study, out)
        if record["status"] == "done"
        and (record["variant"], categories[record["category"]], record["seed"]) in automatic
    )
    precision = next(decided, None) or decide()
    return tuple(
        replace(t, config=replace(t.config, precision=precision)) if t.key in automatic else t
        for t in waiting
    )


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
