"""Grade a folder of submissions on this machine: a CSV of marks, and feedback for each student.

    python tools/assignments/grade.py --dir handed_in --roster roster.csv

The roster has the columns ``id`` and ``name``; a student's notebooks are handed_in/ID/NAME.ipynb,
the open ablation is handed_in/ID/ablation/. Each notebook runs in a sandbox and answers values,
which are judged outside it. Without ``--unsafe`` nothing is run where a limit cannot be kept.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from assignment import SOURCES, Assignment
from enforcement import enforced, report
from judge import Mark, judge_notebook, read_assignment
from sandbox import HERE, Limits
from study_folder import judge_study

from destseg_lib.errors import DeSTSegError


@dataclass(frozen=True)
class Student:
    """A line of the roster; hidden inputs are drawn from both."""

    id: str
    name: str


def main() -> None:
    """Read the command line, say what is enforced, grade, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, required=True, help="what was handed in")
    parser.add_argument("--roster", type=Path, required=True, help="a CSV with id and name")
    parser.add_argument("--grader", type=Path, default=Path("assigned/grader"))
    parser.add_argument("--out", type=Path, default=Path("marks"))
    parser.add_argument("--seconds", type=float, default=15, help="for one notebook")
    parser.add_argument("--unsafe", action="store_true", help="run even if a limit is missing")
    arguments = parser.parse_args()
    try:
        confined = choose_confinement(unsafe=arguments.unsafe)
        limits = Limits(seconds=arguments.seconds)
        marks = grade_class(
            arguments.dir, arguments.roster, arguments.grader, limits, confined=confined
        )
        write_marks(marks, arguments.out)
    except DeSTSegError as error:
        sys.exit(str(error))
    print(f"{arguments.out / 'marks.csv'} and feedback in {arguments.out / 'feedback'}")


def choose_confinement(*, unsafe: bool) -> bool:
    """Try and print what can be enforced here; whether to run in namespaces.

    Raises:
        DeSTSegError: a limit is missing, and ``unsafe`` was not asked for.
    """
    held = enforced()
    confined = any(held.values())
    if not confined:
        held = enforced(confined=False)
    print(f"What is enforced on this machine:\n{report(held)}", flush=True)
    missing = [name for name, yes in held.items() if not yes]
    if missing and not unsafe:
        raise DeSTSegError(
            f"not enforced here: {', '.join(missing)}. Grade on a Linux machine that allows user "
            "namespaces; or, if you have read every submission, give --unsafe (UNSAFE=1)."
        )
    return confined


def grade_class(
    folder: Path, roster: Path, grader: Path, limits: Limits, *, confined: bool = True
) -> dict[Student, dict[str, Mark]]:
    """The marks of every student of the roster for every assignment of the grader.

    Raises:
        DeSTSegError: roster or grader are wrong, or a submission changed somebody's file.
    """
    assignments = [read_assignment(path) for path in sorted(grader.glob("*.json"))]
    if not assignments:
        raise DeSTSegError(f"{grader} holds no grader's files; run make assignments SECRET=FILE")
    marks: dict[Student, dict[str, Mark]] = {}
    watched = (folder, roster, grader, SOURCES, HERE)
    before = fingerprints(watched)
    for student in read_roster(roster):
        marks[student] = {}
        for assignment in assignments:
            mark = grade_one(assignment, student, folder / student.id, limits, confined=confined)
            marks[student][assignment.name] = mark
            print(f"{student.id:16} {assignment.name:10} {mark.points:g}/{mark.possible:g}")
            check_unchanged(before, fingerprints(watched), f"{student.id}'s {assignment.name}")
    return marks


def grade_one(
    assignment: Assignment, student: Student, folder: Path, limits: Limits, *, confined: bool
) -> Mark:
    """The mark of one student's submission to one assignment."""
    if assignment.name == "ablation":
        return judge_study(assignment.specification, folder / "ablation")
    path = folder / f"{assignment.name}.ipynb"
    who = f"{student.id}/{student.name}"
    return judge_notebook(assignment, who, path, limits, confined=confined)


def read_roster(path: Path) -> list[Student]:
    """The students.

    Raises:
        DeSTSegError: the file is missing, lacks a column, or an id is twice or no folder's name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            students = [Student(row["id"].strip(), row["name"].strip()) for row in
                        csv.DictReader(file)]  # fmt: skip
    except (OSError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise DeSTSegError(
            f"{path} is no roster ({error}); it needs the columns id and name"
        ) from None
    ids = [student.id for student in students]
    for student_id in ids:
        if not re.fullmatch(r"\w[\w.-]*", student_id) or ids.count(student_id) > 1:
            raise DeSTSegError(
                f"{path}: the id {student_id!r} must be there once, of letters, digits, _ . and -"
            )
    return students


def fingerprints(paths: tuple[Path, ...]) -> dict[Path, str]:
    """The hash of every file; of a link, where it points to."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    found = {}
    for file in files:
        if file.is_symlink():
            found[file] = f"link to {file.readlink()}"
        elif file.is_file() and "__pycache__" not in file.parts:
            found[file] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def check_unchanged(before: dict[Path, str], after: dict[Path, str], whose: str) -> None:
    """Raise DeSTSegError if a file was changed, added or removed."""
    names = before.keys() | after.keys()
    if changed := sorted(str(n) for n in names if before.get(n) != after.get(n)):
        raise DeSTSegError(
            f"{', '.join(changed[:5])} changed while {whose} ran: no mark of this run can be "
            "trusted. Restore the files, look at that submission, and grade again."
        )


def write_marks(marks: dict[Student, dict[str, Mark]], out: Path) -> None:
    """Write marks.csv, a line per student, and feedback/ID.md."""
    (out / "feedback").mkdir(parents=True, exist_ok=True)
    names = list(next(iter(marks.values()), {}))
    with (out / "marks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", *names, "total"])
        for student, by_name in marks.items():
            points = [by_name[name].points for name in names]
            writer.writerow([student.id, student.name, *points, sum(points)])
    for student, by_name in marks.items():
        lines = [f"# {student.name}\n"]
        for name, mark in by_name.items():
            lines.append(f"## {name}: {mark.points:g} of {mark.possible:g}\n")
            # Indented: what a submission printed is text, and no Markdown of ours.
            lines += [f"    {line}" for text in mark.feedback for line in text.splitlines()]
            lines.append("")
        path = out / "feedback" / f"{student.id}.md"
        path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
