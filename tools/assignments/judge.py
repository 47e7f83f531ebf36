"""Gives marks to a notebook: it runs in the sandbox and answers values, which are compared here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from assignment import Assignment, Cell, Part
from otter.test_files import GradingResults, TestCase
from otter.test_files.abstract_test import TestCaseResult
from otter.test_files.exception_test import ExceptionTestFile
from sandbox import HERE, Limits, run_confined

from destseg_lib.errors import DeSTSegError

PROGRAM = HERE / "submission.py"
LARGEST = 10 * 2**20  # bytes of a notebook


@dataclass(frozen=True)
class Mark:
    """The mark of one submission, with the reason for every point that is missing."""

    points: float
    possible: float
    feedback: tuple[str, ...]
    seconds: float = 0.0


def read_assignment(path: Path) -> Assignment:
    """An assignment from the grader's file that ``write.py`` wrote.

    Raises:
        DeSTSegError: it is not such a file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(Cell(**cell) for cell in values["cells"])
        key = bytes.fromhex(values["key"])
        return Assignment(values["name"], key, values["specification"], cells)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeSTSegError(
            f"{path} is no grader's file ({error}); run make assignments again"
        ) from None


def judge_notebook(
    assignment: Assignment, student: str, path: Path, limits: Limits, *, confined: bool = True
) -> Mark:
    """Run a student's notebook on the student's own hidden inputs and mark the values."""
    parts = assignment.parts(student)
    possible = sum(part.points for part in parts)
    try:
        cells = code_cells(path)
    except DeSTSegError as error:
        return Mark(0, possible, (str(error),))
    calls = [
        [part.question, [[encoded(value) for value in call] for call in part.calls]]
        for part in parts
    ]
    outcome = run_confined(PROGRAM, {"cells": cells, "calls": calls}, limits, confined=confined)
    if outcome.reason:
        return Mark(0, possible, (outcome.reason, *_end(outcome.printed)), outcome.seconds)
    try:
        answer = json.loads(outcome.answer)
        errors = [str(line)[:400] for line in answer["errors"]]
        values = [list(found) for found in answer["values"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Mark(0, possible, ("The program gave no readable answer.",), outcome.seconds)
    results = marked(assignment, parts, values)
    feedback = [
        f"{part_result.test_case.name}: {part_result.message}"
        for file in results.results.values()
        for part_result in file.test_case_results
    ]
    return Mark(results.total, results.possible, (*feedback, *errors), outcome.seconds)


def marked(assignment: Assignment, parts: list[Part], values: list[Any]) -> GradingResults:
    """Otter's results of the parts, from the submission's values and the solution's."""
    solution = assignment.solution()
    files: dict[str, ExceptionTestFile] = {}
    for number, part in enumerate(parts):
        given = values[number] if number < len(values) else []
        expected = [solution[part.question](*call) for call in part.calls]
        message = difference(expected, given)
        case = TestCase(
            f"{part.question}, {part.what}", None, True, part.points, None, message or None
        )
        file = files.setdefault(part.question, ExceptionTestFile(part.question, "", [], False))
        file.test_cases.append(case)
        said = message or f"right, {part.points} of {part.points}"
        file.test_case_results.append(TestCaseResult(case, said, not message))
    return GradingResults(list(files.values()))


def difference(expected: list[Any], given: list[Any]) -> str:
    """What is wrong with the values of a part's calls, without telling the right ones."""
    if len(given) != len(expected):
        return "no value"
    for want, got in zip(expected, given, strict=True):
        want = np.asarray(want, np.float64)
        if not isinstance(got, dict) or "error" in got:
            return str(got.get("error", ""))[:300] if isinstance(got, dict) else "no value"
        try:
            found = np.array(got["numbers"], np.float64).reshape(got["shape"])
        except (KeyError, TypeError, ValueError):
            return "no value"
        if found.shape != want.shape:
            return f"shape {found.shape}, expected {want.shape}"
        if not np.allclose(found, want, rtol=1e-6, atol=1e-9):
            return "wrong values"
    return ""


def code_cells(path: Path) -> list[str]:
    """The code of a notebook.

    Raises:
        DeSTSegError: it is missing, a link, too large, or not a notebook.
    """
    if path.is_symlink() or not path.is_file():
        raise DeSTSegError(f"{path.name} was not handed in.")
    if path.stat().st_size > LARGEST:
        raise DeSTSegError(f"{path.name} is larger than {LARGEST // 2**20} MiB; clear its outputs.")
    try:
        cells = json.loads(path.read_bytes())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DeSTSegError(f"{path.name} is not a Jupyter notebook.") from None


def encoded(value: Any) -> Any:
    """An argument as JSON; ``submission.decoded`` is its inverse."""
    if isinstance(value, np.ndarray):
        kind = "int64" if value.dtype.kind == "i" else "float64"
        return {"dtype": kind, "shape": value.shape, "numbers": value.ravel().tolist()}
    return [encoded(v) for v in value] if isinstance(value, list) else value


def _end(printed: str) -> tuple[str, ...]:
    lines = printed.strip().splitlines()
    return (f"Its last words: {lines[-1][:300]}",) if lines else ()
