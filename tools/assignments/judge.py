"""Gives marks to a notebook: it runs in the sandbox and answers values, which are compared here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from assignment import Assignment, Cell, Part
from otter.test_files import GradingResults, TestCase
from otter.test_files.abstract_test import TestCaseResult
from otter.test_files.exception_test import ExceptionTestFile
from sandbox import HERE, Limits, Outcome, run_confined

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
        return Assignment(values["name"], key, values["specification"], cells, values["tests"])
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
    answer = read_answer(outcome.answer)
    results = marked(assignment, parts, answer.values)
    feedback = [without_folders(error) for error in answer.errors]
    if outcome.reason or not answer.ended:
        feedback.insert(0, why_it_ended(outcome, answer))
    feedback += [
        f"{part_result.test_case.name}: {part_result.message}"
        for file in results.results.values()
        for part_result in file.test_case_results
    ]
    return Mark(results.total, results.possible, tuple(feedback), outcome.seconds)


@dataclass(frozen=True)
class Answer:
    """What a submission said before it ended.

    Attributes:
        at: the cell or the call that was begun last.
        errors: of its cells, in a line each.
        values: by the number of the part and of its call.
        ended: it came to its own end.
    """

    at: str
    errors: tuple[str, ...]
    values: dict[tuple[int, int], Any]
    ended: bool


def read_answer(answer: bytes) -> Answer:
    """Read an answer line by line; what is no line of ``submission.py`` says nothing."""
    at, errors, ended = "", [], False
    values: dict[tuple[int, int], Any] = {}
    for line in answer.split(b"\n")[:-1]:  # the last one is cut short
        try:
            said = dict(json.loads(line))
            if "value" in said:
                values[int(said["part"]), int(said["call"])] = said["value"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        at = str(said.get("at", at))[:100]
        errors += [str(said["error"])[:400]] if "error" in said else []
        ended = ended or bool(said.get("ended"))
    return Answer(at, tuple(errors[:20]), values, ended)


def why_it_ended(outcome: Outcome, answer: Answer) -> str:
    """Why there is no more of an answer, and where the program was."""
    reason = outcome.reason or "The program ended by itself."
    rest = "what it had answered before counts" if answer.values else "no function was called"
    where = f" It was in {answer.at}; {rest}." if answer.at else ""
    lines = outcome.printed.strip().splitlines()
    last = f" Its last words: {without_folders(lines[-1])[:300]}" if lines else ""
    return reason + where + last


def without_folders(text: str) -> str:
    """A text in which a file is named without its folders: they are the grader's own."""
    quoted = re.sub(r"(['\"])/[^'\"]*/", r"\1", text)  # there a folder may have a space in its name
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":]+/)+", "", quoted)


def marked(
    assignment: Assignment, parts: list[Part], values: dict[tuple[int, int], Any]
) -> GradingResults:
    """Otter's results of the parts, from the submission's values and the solution's."""
    solution = assignment.solution()
    files: dict[str, ExceptionTestFile] = {}
    for number, part in enumerate(parts):
        message = ""
        for k, call in enumerate(part.calls):
            expected = solution[part.question](*call)
            message = message or difference(expected, values.get((number, k)), part, k)
        case = TestCase(
            f"{part.question}, {part.what}", None, True, part.points, None, message or None
        )
        file = files.setdefault(part.question, ExceptionTestFile(part.question, "", [], False))
        file.test_cases.append(case)
        said = message or f"right, {part.points} of {part.points}"
        file.test_case_results.append(TestCaseResult(case, said, not message))
    return GradingResults(list(files.values()))


def difference(expected: Any, given: Any, part: Part, number: int) -> str:
    """What is wrong with the value of a part's call, without telling the right one."""
    if not isinstance(given, dict):
        return "no value"
    if "error" in given:
        return without_folders(str(given["error"]))[:300]
    want = np.asarray(expected, np.float64)
    try:
        found = np.array(given["numbers"], np.float64).reshape(given["shape"])
    except (KeyError, TypeError, ValueError):
        return "no value"
    if found.shape != want.shape:
        return f"shape {found.shape}, expected {want.shape}"
    if np.allclose(found, want, rtol=1e-6, atol=1e-9):
        return ""
    arguments = ", ".join(map(shown, part.calls[number]))
    place = f", call {number + 1} of {len(part.calls)}" if len(part.calls) > 1 else ""
    return f"a wrong value from {part.question}({arguments}){place}"


def shown(argument: Any) -> str:
    """An argument as a person would name it: its shape, or its value."""
    if isinstance(argument, np.ndarray):
        return f"an array of shape {argument.shape}"
    if isinstance(argument, list):
        return f"a list of {len(argument)}"
    return f"{argument:.6g}" if isinstance(argument, float) else repr(argument)


def read_notebook(path: Path) -> dict[str, Any]:
    """What a file holds that should be a notebook.

    Raises:
        DeSTSegError: it is missing, a link, a pipe, too large, or no JSON object.
    """
    if path.is_symlink() or not path.is_file():
        raise DeSTSegError(f"{path.name} was not handed in.")
    if path.stat().st_size > LARGEST:
        raise DeSTSegError(f"{path.name} is larger than {LARGEST // 2**20} MiB; clear its outputs.")
    try:
        return dict(json.loads(path.read_bytes()))
    except OSError as error:
        raise DeSTSegError(f"{path.name} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError, RecursionError):
        raise DeSTSegError(f"{path.name} is not a Jupyter notebook.") from None


def code_cells(path: Path) -> list[str]:
    """The code of a notebook.

    Raises:
        DeSTSegError: it cannot be read, or is not a notebook.
    """
    try:
        cells = read_notebook(path)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (KeyError, TypeError):
        raise DeSTSegError(f"{path.name} is not a Jupyter notebook.") from None


def encoded(value: Any) -> Any:
    """An argument as JSON; ``submission.decoded`` is its inverse."""
    if isinstance(value, np.ndarray):
        kind = "int64" if value.dtype.kind == "i" else "float64"
        return {"dtype": kind, "shape": value.shape, "numbers": value.ravel().tolist()}
    return [encoded(v) for v in value] if isinstance(value, list) else value
