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
import sys
from pathlib import Path

from assignment import NAMES, SOURCES, Assignment
from enforcement import enforced, report
from handed_in import Student, look_through, read_roster, where
from judge import Mark, judge_notebook, read_assignment
from sandbox import HERE, Limits
from study_folder import FOLDER, judge_study

from destseg_lib.errors import DeSTSegError


def main() -> None:
    """Read the command line, say what is enforced, grade, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, required=True, help="what was handed in")
    parser.add_argument("--roster", type=Path, required=True, help="a CSV with id and name")
    parser.add_argument("--grader", type=Path, default=Path("assigned/grader"))
    parser.add_argument("--out", type=Path, default=Path("marks"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the assignments that were set")
    parser.add_argument("--seconds", type=float, default=15, help="for one notebook")
    parser.add_argument("--unsafe", action="store_true", help="run even if a limit is missing")
    arguments = parser.parse_args()
    try:
        # What is wrong with the arguments is said before the limits are tried, which takes seconds.
        assignments = read_grader(arguments.grader, arguments.only)
        students = read_roster(arguments.roster)
        remarks = look_through(arguments.dir, students, assignments)
        make_folder(arguments.out)
        confined = choose_confinement(unsafe=arguments.unsafe)
        marks = grade_class(
            arguments.dir, students, assignments, Limits(seconds=arguments.seconds),
            confined=confined, watched=(arguments.roster, arguments.grader),
        )  # fmt: skip
        write_marks(marks, arguments.out, remarks)
    except DeSTSegError as error:
        sys.exit(str(error))
    print(f"{arguments.out / 'marks.csv'} and feedback in {arguments.out / 'feedback'}")
    for student, texts in remarks.items():
        for text in texts:
            print(f"look at this: {student + ': ' if student else ''}{text}")


def read_grader(folder: Path, only: list[str] | None = None) -> list[Assignment]:
    """The assignments of a grader's folder, all or those that are named.

    Raises:
        DeSTSegError: there is none, or not the one that is named.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.json")) if path.stem in NAMES}
    if not found:
        raise DeSTSegError(
            f"{folder} holds no grader's files. make assignments SECRET=FILE writes them; if you "
            "gave it OUT=FOLDER, grade with GRADER=FOLDER/grader"
        )
    if unknown := [name for name in only or () if name not in found]:
        raise DeSTSegError(f"{folder} has no {unknown[0]!r}; choose among {', '.join(found)}")
    return [read_assignment(path) for name, path in found.items() if name in (only or found)]


def make_folder(out: Path) -> None:
    """Make the folder for the marks, before they take minutes.

    Raises:
        DeSTSegError: it cannot be made.
    """
    try:
        (out / "feedback").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeSTSegError(
            f"{out} cannot be a folder for the marks ({error.strerror}); name another: OUT=marks"
        ) from None


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
    folder: Path,
    students: list[Student],
    assignments: list[Assignment],
    limits: Limits,
    *,
    confined: bool = True,
    watched: tuple[Path, ...] = (),
) -> dict[Student, dict[str, Mark]]:
    """The marks of every student for every assignment.

    Raises:
        DeSTSegError: a submission changed somebody's file, or one that is watched.
    """
    marks: dict[Student, dict[str, Mark]] = {}
    watched = (folder, *watched, SOURCES, HERE)
    before = fingerprints(watched)
    for student in students:
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
    path = folder / where(assignment)
    if assignment.name == FOLDER:
        return judge_study(assignment.specification, path)
    who = f"{student.id}/{student.name}"
    return judge_notebook(assignment, who, path, limits, confined=confined)


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


def write_marks(
    marks: dict[Student, dict[str, Mark]], out: Path, remarks: dict[str, list[str]] | None = None
) -> None:
    """Write marks.csv, a line per student, and feedback/ID.md, with the remarks on that student."""
    make_folder(out)
    names = list(next(iter(marks.values()), {}))
    with (out / "marks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", *names, "total"])
        for student, by_name in marks.items():
            points = [by_name[name].points for name in names]
            writer.writerow([student.id, student.name, *points, sum(points)])
    for student, by_name in marks.items():
        # Indented: what a submission printed, and its files' names, are text and no Markdown.
        own = (remarks or {}).get(student.id, [])
        lines = [f"# {student.name}\n", *(f"    {text}" for text in own), *([""] if own else [])]
        for name, mark in by_name.items():
            lines.append(f"## {name}: {mark.points:g} of {mark.possible:g}\n")
            lines += [f"    {line}" for text in mark.feedback for line in text.splitlines()]
            lines.append("")
        path = out / "feedback" / f"{student.id}.md"
        path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
