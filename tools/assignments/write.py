"""Write the assignments that a secret makes: notebooks for students, solutions and the grader.

    python tools/assignments/write.py --secret FILE --out assigned

``students/`` is handed out, ``solutions/`` and ``grader/`` are not. The split into student and
solution is otter-assign's, and so are the public tests' format and ``grader.check`` in the
notebook. The same secret gives the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from assignment import NAMES, SOURCES, Assignment, make_assignment, read_secret
from nbformat import v4
from otter.assign import main as otter_assign

from destseg_lib.errors import DeSTSegError

ROOT = SOURCES.parent
sys.path.insert(0, str(ROOT / "tools" / "book"))
from notebooks import first_cell, settings  # noqa: E402

# The tests travel inside the notebook: one file to upload to Colab, and otter reads them there
# from a folder.
SETUP = """\
# Run this cell first: it unpacks the public tests.
import subprocess
import sys
from pathlib import Path

try:
    import otter
except ImportError:
    command = [sys.executable, "-m", "pip", "install", "-q", "otter-grader>=7,<8"]
    subprocess.run(command, check=True)
Path("tests").mkdir(exist_ok=True)
for name, text in {tests}.items():
    Path("tests", name).write_text(text, encoding="utf-8")
"""
CONFIG = """\
# ASSIGNMENT CONFIG
name: {name}
generate: false
run_tests: false
export_cell: false
check_all_cell: {tested}
suppress_no_tests_warning: true
tests:
  files: true
  ok_format: true
"""


def main() -> None:
    """Read the command line and write everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--secret", type=Path, required=True, help="your secret: a file")
    parser.add_argument("--out", type=Path, default=Path("assigned"))
    arguments = parser.parse_args()
    try:
        secret = read_secret(arguments.secret)
        if arguments.secret.expanduser().stat().st_mode & 0o077:
            path = shlex.quote(str(arguments.secret.expanduser()))
            print(f"Others can read your secret. Run: chmod 600 {path}", file=sys.stderr)
        write_assignments(secret, arguments.out)
    except DeSTSegError as error:
        sys.exit(str(error))
    print(f"Hand out {arguments.out / 'students'}; keep the rest of {arguments.out} to yourself.")


def write_assignments(secret: bytes, out: Path, names: tuple[str, ...] = NAMES) -> None:
    """Write the named assignments to ``out``, in place of what is there.

    Raises:
        DeSTSegError: ``out`` is no folder, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise DeSTSegError(f"{out} is no folder; choose an empty one with OUT=")
    if out.exists() and any(out.iterdir()) and not (out / "grader").is_dir():
        raise DeSTSegError(f"{out} holds other files; choose an empty folder with OUT=")
    for kind in ("students", "solutions", "grader"):
        shutil.rmtree(out / kind, ignore_errors=True)
        (out / kind).mkdir(parents=True, mode=0o755 if kind == "students" else 0o700)
    for name in names:
        assignment = make_assignment(name, secret)
        student, solution = notebooks(assignment)
        (out / "students" / f"{name}.ipynb").write_text(student, encoding="utf-8")
        (out / "solutions" / f"{name}.ipynb").write_text(solution, encoding="utf-8")
        (out / "grader" / f"{name}.json").write_text(grader(assignment), encoding="utf-8")
    if "ablation" in names:
        for name in ("report.md", "rubric.md"):
            shutil.copyfile(SOURCES / name, out / "students" / name)


def grader(assignment: Assignment) -> str:
    """What grading needs: the key, from which inputs are drawn, and the notebook as it was made."""
    cells = [vars(cell) for cell in assignment.cells]
    values = {
        "name": assignment.name,
        "key": assignment.key.hex(),
        "specification": assignment.specification,
        "cells": cells,
        "tests": assignment.tests,
    }
    return json.dumps(values, indent=1) + "\n"


def notebooks(assignment: Assignment) -> tuple[str, str]:
    """The student's notebook and the solution, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        master = Path(folder) / f"{assignment.name}.ipynb"
        nbformat.write(master_notebook(assignment), master)
        with contextlib.redirect_stdout(io.StringIO()):
            otter_assign(str(master), str(Path(folder) / "dist"), no_run_tests=True)
        return (
            _portable(assignment, Path(folder) / "dist" / "student" / master.name),
            _portable(assignment, Path(folder) / "dist" / "autograder" / master.name),
        )


def master_notebook(assignment: Assignment) -> Any:
    """The notebook that otter-assign reads: raw cells mark questions, solutions and tests."""
    tested = "true" if any(cell.kind == "check" for cell in assignment.cells) else "false"
    cells = [v4.new_raw_cell(CONFIG.format(name=assignment.name, tested=tested))]
    groups: list[list[Any]] = []  # a question with its checks, or one cell alone
    for cell in assignment.cells:
        if cell.kind == "check":
            groups[-1].append(cell)
        else:
            groups.append([cell])
    for first, *checks in groups:
        if first.kind == "text":
            cells.append(v4.new_markdown_cell(first.source))
        elif first.kind == "code":
            cells.append(v4.new_code_cell(first.source))
        else:
            cells += _marked("QUESTION", [
                *_marked("SOLUTION", [v4.new_code_cell(first.source)]),
                *_marked("TESTS", [v4.new_code_cell(check.source) for check in checks]),
            ], f"name: {first.question}")  # fmt: skip
    return v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )


def _marked(what: str, cells: list[Any], config: str = "") -> list[Any]:
    begin = f"# BEGIN {what}\n{config}".strip()
    return [v4.new_raw_cell(begin), *cells, v4.new_raw_cell(f"# END {what}")]


def _portable(assignment: Assignment, path: Path) -> str:
    """A notebook of otter's that says what set it is of, with ids that are the same every time.

    Its tests are inside. Where there are none it is the library that is needed, so it begins as a
    chapter does.
    """
    notebook = nbformat.read(path, as_version=4)
    tests = {
        test.name: test.read_text(encoding="utf-8")
        for test in sorted((path.parent / "tests").glob("*.py"))
    }
    if tests:
        setup = SETUP.replace("{tests}", json.dumps(tests, indent=1))
        notebook.cells.insert(0, v4.new_code_cell(setup))
    else:
        # Without otter's own first cell, which would load tests that are not there.
        notebook.cells[0] = v4.new_code_cell(first_cell(ROOT, settings(ROOT)))
    notebook.metadata["destseg"] = {"assignment": assignment.name, "made": assignment.made}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return nbformat.writes(notebook, indent=1) + "\n"


if __name__ == "__main__":
    main()
