"""What was handed in, and by whom: the roster, and what lies where it is not looked for."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from assignment import NAMES, Assignment
from judge import read_notebook
from study_folder import FOLDER

from destseg_lib.errors import DeSTSegError

COLUMNS = ("id", "name")


@dataclass(frozen=True)
class Student:
    """A line of the roster; hidden inputs are drawn from both."""

    id: str
    name: str


def read_roster(path: Path) -> list[Student]:
    """The students.

    Raises:
        DeSTSegError: the file is missing, lacks a column or a student, or an id is there twice or
            no folder's name.
    """
    if not path.is_file():
        raise DeSTSegError(
            f"{path} is no file. Name the roster, a CSV file with the columns id and name: "
            "make grade DIR=handed_in ROSTER=roster.csv"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DeSTSegError(f"{path} is no CSV file in UTF-8 ({error}); save it as one") from None
    head = [name.strip() for name in rows[0]] if rows else []
    if missing := [name for name in COLUMNS if name not in head]:
        semicolons = len(head) == 1 and ";" in head[0]
        raise DeSTSegError(
            f"{path} begins with {','.join(head)!r} and has no column {missing[0]!r}. Its first "
            f"line must name the columns id and name{', parted by commas' if semicolons else ''}"
        )
    places = [head.index(name) for name in COLUMNS]
    students = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(value.strip() for value in row):
            continue
        if len(row) <= max(places):
            raise DeSTSegError(f"{path}, line {number}: there is no id or no name")
        students.append(Student(*(row[place].strip() for place in places)))
    if not students:
        raise DeSTSegError(f"{path} has no student below its first line")
    ids = [student.id for student in students]
    for student_id in ids:
        if not re.fullmatch(r"\w[\w.-]*", student_id) or ids.count(student_id) > 1:
            raise DeSTSegError(
                f"{path}: the id {student_id!r} must be there once, of letters, digits, _ . and -"
            )
    return students


def look_through(
    folder: Path, students: list[Student], assignments: list[Assignment]
) -> dict[str, list[str]]:
    """By id, what somebody has to be told of what was handed in; under "", only the instructor.

    Raises:
        DeSTSegError: there is no such folder, nothing of the class in it, or only notebooks of
            another set.
    """
    if not folder.is_dir():
        raise DeSTSegError(
            f"{folder} is no folder. Name the one that holds a folder for each student: "
            "make grade DIR=handed_in ROSTER=roster.csv"
        )
    if not any((folder / student.id).is_dir() for student in students):
        raise DeSTSegError(
            f"{folder} has no folder named by an id of the roster, such as {students[0].id}"
        )
    remarks = not_looked_at(folder, students, assignments)
    for student, texts in of_another_set(folder, students, assignments).items():
        remarks[student] += texts
    return remarks


def not_looked_at(
    folder: Path, students: list[Student], assignments: list[Assignment]
) -> dict[str, list[str]]:
    """By id, what was handed in under a name that is not looked for; under "", what nobody has.

    That is a folder of no student, or an assignment that nobody handed in. A folder that is a
    student's but for capitals is said to that student.
    """
    ids = [student.id for student in students]
    found: dict[str, list[str]] = {"": [], **{student_id: [] for student_id in ids}}
    for path in sorted(folder.iterdir()):
        if path.name in ids or path.name.startswith("."):
            continue
        name = printable(path.name)
        if close := [one for one in ids if one.casefold() == path.name.casefold()]:
            found[close[0]].append(f"{name} was not graded: the folder's name must be {close[0]}.")
        else:
            found[""].append(f"{name} is no id of the roster: add the student or leave it out.")
    for student_id in ids:
        own = folder / student_id
        for path in sorted(own.iterdir()) if own.is_dir() else ():
            if wrong := misnamed(path, assignments):
                found[student_id].append(f"{printable(path.name)} was not graded: {wrong}.")
    for assignment in assignments:
        wanted = where(assignment)
        if not any((folder / student.id / wanted).exists() for student in students):
            found[""].append(
                f"{assignment.name}: nobody handed in {wanted}. If it was not set, name those that "
                'were: ONLY="metrics cosine".'
            )
    return found


def misnamed(path: Path, assignments: list[Assignment]) -> str:
    """What is wrong with the name of what a student handed in; empty where nothing is.

    Nothing is wrong with a notebook that we wrote and that is not graded this time.
    """
    name = path.name.casefold()
    if name.startswith((".", "__macosx")):  # a program's own
        return ""
    for assignment in assignments:
        wanted = where(assignment)
        if path.name == wanted:
            return ""
        if assignment.name not in name:
            continue
        if wanted != FOLDER and name.endswith(".ipynb"):
            return f"its name must be {wanted}"
        if wanted == FOLDER and not (path.parent / FOLDER).is_dir():
            return f"a folder with the name {FOLDER} is"
    if path.is_dir() and name != FOLDER and any(path.rglob("*.ipynb")):
        return f"notebooks must lie in {path.parent.name} itself"
    stray = name.endswith(".ipynb") and path.name not in [f"{one}.ipynb" for one in NAMES]
    return "no assignment that is graded has this name" if stray else ""


def printable(name: str) -> str:
    """A file's name without what would move the cursor or begin a line of its own."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def where(assignment: Assignment) -> str:
    """The name under which an assignment is handed in."""
    return FOLDER if assignment.name == FOLDER else f"{assignment.name}.ipynb"


def made(path: Path) -> str:
    """The set that a notebook says it is of; empty where it does not say so."""
    try:
        return str(read_notebook(path)["metadata"]["destseg"]["made"])
    except (DeSTSegError, KeyError, TypeError):
        return ""


def of_another_set(
    folder: Path, students: list[Student], assignments: list[Assignment]
) -> dict[str, list[str]]:
    """By id, the notebooks that another secret made.

    Raises:
        DeSTSegError: all of them are: the grader's folder is the wrong one.
    """
    said = {
        (student.id, assignment.name): name == assignment.made
        for student in students
        for assignment in assignments
        if (name := made(folder / student.id / where(assignment)))
    }
    if said and not any(said.values()):
        raise DeSTSegError(
            "None of the notebooks was made with the secret of this grader's folder. Name the one "
            "that was written with them: GRADER=assigned/grader"
        )
    found: dict[str, list[str]] = {}
    for (student, name), same in said.items():
        if not same:
            text = f"{name}.ipynb was made for another class: its numbers are not those asked for."
            found.setdefault(student, []).append(text)
    return found
