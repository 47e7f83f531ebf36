"""Marks the open ablation from the study folder that was handed in; no code of the student runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from assignment import Specification
from judge import Mark, without_folders

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.studies.compare import compare, unfinished
from destseg_lib.studies.records import RECORDS, STUDY, Record, read_folder
from destseg_lib.studies.study import Study

LARGEST = 20 * 2**20  # bytes of the records
FOLDER = "ablation"  # of the assignment, and of what is handed in
CLAIMS = "claims.json"
POINTS = {
    "every run is finished": 2,
    "the seeds and a category that were given": 1,
    "each variant changes one thing": 1,
    "each run has its own configuration and numbers": 2,
    "the intervals follow from the records": 2,
}


def judge_study(specification: Specification, folder: Path) -> Mark:
    """Check a study folder against the specification; the report is marked by hand."""
    possible = sum(POINTS.values())
    try:
        check_files(folder)
        study, records = read_folder(folder)
    except DeSTSegError as error:
        return Mark(0, possible, (without_folders(str(error).replace(str(folder), FOLDER)),))
    if another := given(study, specification):
        return Mark(0, possible, (
            f"{another}: this is another study than the one that was set, so none of it counts.",
        ))  # fmt: skip
    # What is wrong, by the sentence that would be right; empty where it is.
    found = dict(zip(POINTS, (
        "; ".join(unfinished(study, records)[:5]),
        another,
        one_change(study),
        own_numbers(study, records),
        claims(study, records, specification["metric"], folder / CLAIMS),
    ), strict=True))  # fmt: skip
    points = sum(POINTS[what] for what, wrong in found.items() if not wrong)
    feedback = [f"{what}: {wrong or f'yes, {POINTS[what]}'}" for what, wrong in found.items()]
    return Mark(points, possible, (*feedback, "The report is marked with the rubric, 12 points."))


def check_files(folder: Path) -> None:
    """Raise DeSTSegError unless the folder holds plain files of a study, of a sensible size."""
    for name in (STUDY, RECORDS, CLAIMS):
        path = folder / name
        if folder.is_symlink() or path.is_symlink() or not path.is_file():
            raise DeSTSegError(f"ablation/{name} was not handed in.")
        if path.stat().st_size > LARGEST:
            raise DeSTSegError(f"ablation/{name} is larger than {LARGEST // 2**20} MiB.")


def given(study: Study, specification: Specification) -> str:
    """Whether the study has the seeds and one of the categories of this class."""
    missing = set(json.loads(specification["seeds"])) - set(study.seeds)
    if missing:
        return f"The study lacks seed {min(missing)}"
    wanted = specification["categories"].split(" and ")
    if set(wanted) & set(study.categories):
        return ""
    return f"The study has neither category, {' nor '.join(wanted)}"


def one_change(study: Study) -> str:
    """Whether each variant differs from the reference in exactly one setting."""
    reference = study.variants[study.reference]
    for name, changes in study.variants.items():
        keys = reference.keys() | changes.keys()
        differing = [key for key in keys if reference.get(key) != changes.get(key)]
        if name != study.reference and len(differing) != 1:
            return f"{name!r} changes {len(differing)} settings"
    return "" if len(study.variants) > 1 else "there is nothing to compare with"


def own_numbers(study: Study, records: list[Record]) -> str:
    """Whether records say the configuration that was asked for, and none was copied."""
    seen: dict[tuple[Any, ...], str] = {}
    for record in records:
        if record["status"] != "done":
            continue
        variant, seed = record["variant"], record["seed"]
        name = f"{variant}, {record['category']}, seed {seed}"
        config, _ = study.configure(variant, record["category"], seed)
        recorded = record.get("config", {})
        if recorded.get("seed") != seed or recorded.get("student", {}).get("steps") != (
            config.student.steps
        ):
            return f"{name}: the recorded configuration is another"
        numbers = tuple(record.get(metric) for metric in METRIC_NAMES)
        if not all(isinstance(n, (int, float)) and 0 <= n <= 1 for n in numbers if n is not None):
            return f"{name}: a metric is no number from 0 to 1"
        if seen.setdefault(numbers, name) != name:
            return f"{name} has exactly the numbers of {seen[numbers]}"
    return "" if seen else "there is no finished run"


def claims(study: Study, records: list[Record], metric: str, path: Path) -> str:
    """Whether the claimed differences and intervals are those of the records."""
    try:
        values = json.loads(path.read_bytes())
        claimed = {name: np.array(three, float) for name, three in values["differences"].items()}
        if values["metric"] != metric:
            return f"the metric is {metric}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{CLAIMS} does not have the form that the notebook writes"
    try:
        rows = compare(study, records, metric)
    except (KeyError, TypeError, ValueError, DeSTSegError):
        return "the records do not give intervals"
    for row in rows:
        if row.variant == study.reference:
            continue
        d = row.difference
        if d is None or d.low is None or d.high is None:
            return f"{row.variant}: the records give no interval"
        three = claimed.get(row.variant, np.zeros(0))
        # Three digits, as a report has them, and what another seed of the bootstrap changes.
        slack = 0.001 + 0.1 * (d.high - d.low)
        if three.shape != (3,) or not np.allclose(three, (d.mean, d.low, d.high), 0, slack):
            return f"{row.variant}: the claim is not what the records give"
    return ""
