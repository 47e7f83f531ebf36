"""A study's folder: the study, and a record of each of its runs.

records.jsonl   one line per run, done or failed, written when the run ends
study.json      the study, and the precision and the threads of its runs
students/       trained students, shared by the runs that differ only after them
decoded/        decoded images, where several workers share them
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from destseg_lib.config import Precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import read_json, read_json_lines, remove_partial_files, write_json
from destseg_lib.files.outputs import is_inside, outputs, own_lock
from destseg_lib.studies.study import TEACHER, Study, short_names, study_from_dict
from destseg_lib.studies.trial import Trial, trials

RECORDS = "records.jsonl"
STUDY = "study.json"
STUDENTS = "students"
DECODED = "decoded"
KEPT = ("precision", "threads")  # what is decided once for all runs of a study

Record = dict[str, Any]


@contextmanager
def claimed_folder(study: Study, out: Path) -> Iterator[None]:
    """Make or reopen the folder of a study, for this process alone while the block runs.

    Raises:
        DeSTSegError: the folder holds another study, is in use, or cannot be written.
    """
    new = not os.path.lexists(out / STUDY)
    if new:
        outputs(out, (STUDY, RECORDS), (), by="study run")  # nobody else's records
    for category in study.categories if new else ():
        if is_inside(out, Path(category)):
            raise DeSTSegError(
                f"{out} is in {category}, where a study would be taken for a part of the images; "
                "choose another --out"
            )
    lock = own_lock(out / ".lock", timeout=0)  # a killed process leaves it open
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DeSTSegError(
            f"{out} is in use by another 'destseg study run'; wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise DeSTSegError(
            f"{out} cannot be made a folder ({error}); choose another --out"
        ) from None
    try:
        for folder in (out, out / STUDENTS):
            remove_partial_files(folder)
        if (out / STUDY).exists():
            _check_same_study(study, out)
        else:
            files = outputs(out, (STUDY, RECORDS), (), by="study run")
            files.prepare()  # a kill can leave a line of the list that was cut short
            files.write_json(STUDY, asdict(study))
        yield
    finally:
        lock.release()


def read_folder(out: Path) -> tuple[Study, list[Record]]:
    """The study in a folder, and its records so far.

    Raises:
        DeSTSegError: the folder holds no study, or a damaged one.
    """
    if not (out / STUDY).exists():
        raise DeSTSegError(f"{out} holds no study; 'destseg study run FILE --out {out}' makes one")
    values = read_json(out / STUDY)
    try:
        study = study_from_dict({k: v for k, v in values.items() if k not in KEPT})
    except (AttributeError, DeSTSegError) as error:
        raise DeSTSegError(
            f"{out / STUDY} is not a study of this version ({error}); choose another folder"
        ) from None
    return study, read_records(study, out)


def read_records(study: Study, out: Path) -> list[Record]:
    """The last record of each run that has one, in the order of ``Study.keys``.

    Older records hold the last part of a category's path; here all have the study's spelling.
    """
    spelling = {short: name for name, short in short_names(study.categories).items()}
    last = {}
    for record in read_json_lines(out / RECORDS):
        record["category"] = spelling.get(record["category"], record["category"])
        last[record["variant"], record["category"], record["seed"]] = record
    return [last[key] for key in study.keys if key in last]


def missing_trials(study: Study, out: Path, *, retry_failed: bool = False) -> tuple[Trial, ...]:
    """The trials that have no record yet, and those recorded as failed if they are asked for."""
    recorded = {
        (record["variant"], record["category"], record["seed"])
        for record in read_records(study, out)
        if record["status"] == "done" or not retry_failed
    }
    return tuple(trial for trial in trials(study) if trial.key not in recorded)


def with_one_precision(
    waiting: tuple[Trial, ...], study: Study, out: Path, here: Precision
) -> tuple[Trial, ...]:
    """Trials with the study's precision in place of ``auto``.

    A study in two arithmetics would compare results that are not comparable, so the precision is
    decided once, by the records if there are any, and kept on every machine.

    Args:
        waiting: trials of the study.
        study: the study.
        out: its folder, which remembers the precision.
        here: the precision that ``auto`` would be on this machine.
    """
    automatic = {trial.key for trial in trials(study) if trial.config.precision == "auto"}
    if not any(trial.key in automatic for trial in waiting):
        return waiting
    values = read_json(out / STUDY)
    if "precision" not in values:
        recorded = (
            record["config"]["precision"]
            for record in read_records(study, out)
            if record["status"] == "done"
            and (record["variant"], record["category"], record["seed"]) in automatic
        )
        values["precision"] = next(recorded, here)
        write_json(out / STUDY, values)
    precision: Precision = values["precision"]
    if precision != here:
        print(
            f"the study was begun in {precision}, so its other runs are computed in {precision} "
            f"too; on this machine {here} would be faster",
            file=sys.stderr,
        )
    return tuple(
        replace(t, config=replace(t.config, precision=precision)) if t.key in automatic else t
        for t in waiting
    )


def with_one_number_of_threads(
    study: Study, out: Path, wanted: int | None, choose: Callable[[], int]
) -> int:
    """The threads of a CPU that the runs of a study have: those that it was begun with.

    Args:
        study: the study.
        out: its folder, which remembers them.
        wanted: the number that is asked for, if one is; it is taken, and said if it is another.
        choose: gives the number where nothing else says it.
    """
    values = read_json(out / STUDY)
    origins = [record.get("provenance", {}) for record in read_records(study, out)]
    on_cpu = (one for one in origins if one.get("device", "").startswith("cpu"))
    begun: int | None = next((one["threads"] for one in on_cpu if "threads" in one), None)
    if begun is None:  # nothing is done, so a slip does not hold for ever
        begun = wanted or values.get("threads") or choose()
    if values.get("threads") != begun:
        write_json(out / STUDY, {**values, "threads": begun})
    if wanted not in (None, begun):
        print(
            f"threads {wanted}, as asked for; the runs so far had {begun}, and metrics depend on "
            "it in their last digits",
            file=sys.stderr,
        )
    elif begun != torch.get_num_threads():
        print(
            f"threads {begun}, as the study began; torch would take {torch.get_num_threads()}",
            file=sys.stderr,
        )
    return wanted or begun


def failure_record(trial: Trial, error: BaseException, tries: int) -> Record:
    """The record of a trial that could not be run."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return {
        "study": trial.study,
        "variant": trial.variant,
        "category": trial.category,
        "seed": trial.seed,
        "status": "failed",
        "error": f"{type(error).__name__}: {error}",
        "where": f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "unknown",
        "tries": tries,
    }


def _check_same_study(study: Study, out: Path) -> None:
    """Refuse a folder of another study.

    An older folder may not say which teacher its runs had; its records do.
    """
    before, records = read_folder(out)
    wanted = study_from_dict(json.loads(json.dumps(asdict(study))))
    wanted = replace(wanted, settings={"teacher": TEACHER, **wanted.settings})
    if "teacher" not in before.settings:
        teacher = wanted.settings["teacher"]
        for record in records:
            if record["status"] == "done" and "teacher" not in before.variants[record["variant"]]:
                recorded = record["teacher"]["name"]
                teacher = teacher if recorded == Path(teacher).name else recorded
        before = replace(before, settings={**before.settings, "teacher": teacher})
        write_json(out / STUDY, {**read_json(out / STUDY), "settings": before.settings})
    for name in (field.name for field in fields(Study)):
        old, new = getattr(before, name), getattr(wanted, name)
        if old != new:
            raise DeSTSegError(
                f"{out} holds another study, or this one before it was changed: {name} was {old} "
                f"and is now {new}; choose another --out"
            )


def project_results(repository: str = "", reference: str = "main", here: Path = Path()) -> Path:
    """The project's folder of records, for a chapter that reads them.

    Args:
        repository: ``owner/name`` to clone from where there is no such folder; empty for none.
        reference: its branch or tag.
        here: where to look; then in the folder above, and in a clone below.

    Raises:
        DeSTSegError: there are no records, with what to do.
    """
    clone = here / "destseg-project"
    folders = [place / "results" for place in (here / "..", here, clone)]

    def found() -> Path | None:
        return next((folder for folder in folders if (folder / "world").is_dir()), None)

    if repository and not found():
        address = f"https://github.com/{repository}"
        command = ["git", "clone", "-q", "--depth", "1", "-b", reference, address, str(clone)]
        subprocess.run(command, check=False)
    if folder := found():
        return folder
    raise DeSTSegError(
        "This section reads the project's records, and there is no folder 'results' here or above. "
        "Clone the project and open the chapter in the clone; the sections that follow need none."
    )


def project_photographs(
    category: str, repository: str = "", reference: str = "main", here: Path = Path()
) -> Path | None:
    """The book's photographs of a category of MVTec AD, in its layout; None where there are none.

    Args: as ``project_results``, which finds the project.
    """
    try:
        project = project_results(repository, reference, here).parent
    except DeSTSegError:
        return None
    folder = project / "book" / "static" / "photographs" / category
    return folder if folder.is_dir() else None
