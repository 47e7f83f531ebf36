"""Grading somebody else's code: one of each hostile kind, and each limit with and without it.

Bounded by design, whether limits hold or not: at most 30 sleeping processes, 360 MiB, some seconds.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import check_grading
import enforcement
import grade
import psutil
import pytest
from assignment import Assignment, make_assignment
from grade import grade_class, read_grader, write_marks
from handed_in import Student, look_through, read_roster
from judge import Mark, judge_notebook
from sandbox import MIB, Limits
from study_folder import judge_study
from write import write_assignments

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.studies.compare import compare
from destseg_lib.studies.study import study_from_dict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SECRET = b"the secret of these tests"
LIMITS = Limits(seconds=5)
# To the time that a cell is given; the end comes from outside.
DEAF = "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
MANY_FILES = "for k in range(8):\n    open(str(k), 'wb').write(bytes(2**20 - 1))"
LOOSE = Limits(seconds=20, memory=2048 * MIB, processes=64, file=16 * MIB, space=32 * MIB)
# A cell, the one limit that is stricter than LOOSE, and what the feedback says.
BREAKS = {
    "takes too long": (f"{DEAF}time.sleep(7)", {"seconds": 5}, "longer than 5 seconds"),
    "forks": (enforcement.forking(30, 2), {"processes": 16}, "BlockingIOError"),
    "needs much memory": ("held = bytes(350 * 2**20)", {"memory": 300 * MIB}, "MemoryError"),
    "needs much memory in many processes": (
        enforcement.holding(120, 2), {"memory": 300 * MIB}, "more memory than 300 MiB"),
    "prints a lot": ("print('x' * 3 * 2**20)", {"file": MIB}, "File too large"),
    "writes a large file": (
        "open('large', 'wb').write(bytes(2 * 2**20))", {"file": MIB}, "File too large"),
    "writes many files": (MANY_FILES, {"space": 3 * MIB}, "No space left"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def confinement() -> None:
    missing = [name for name, held in enforcement.enforced().items() if not held]
    if missing:
        pytest.skip(f"not enforced on this machine: {', '.join(missing)}")


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assigned")
    write_assignments(SECRET, out, ("perlin",))
    return out


@pytest.fixture
def handed_in(tmp_path: Path, assigned: Path) -> Path:
    """A class of two: Ann, whose answers are right, and Eve, who has handed in nothing yet."""
    for name in ("ann", "eve"):
        (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "roster.csv").write_text("id,name\nann,Ann A\neve,Eve E\n")
    solution = assigned / "solutions" / "perlin.ipynb"
    (tmp_path / "in" / "ann" / "perlin.ipynb").write_bytes(solution.read_bytes())
    return tmp_path / "in"


def hand_in(folder: Path, assigned: Path, cell: str) -> Path:
    """Eve's notebook: right answers, and a cell of another kind after them."""
    notebook = json.loads((assigned / "solutions" / "perlin.ipynb").read_text())
    notebook["cells"].append({"cell_type": "code", "source": cell})
    path = folder / "eve" / "perlin.ipynb"
    path.write_text(json.dumps(notebook))
    return path


def judged(path: Path, limits: Limits = LIMITS, *, confined: bool = True) -> Mark:
    assignment = make_assignment("perlin", SECRET)
    return judge_notebook(assignment, "eve/Eve E", path, limits, confined=confined)


def worth(*questions: str) -> int:
    """The points of these questions; an instructor may change them."""
    parts = make_assignment("perlin", SECRET).parts("eve/Eve E")
    return sum(part.points for part in parts if part.question in questions)


def all_of(mark: Mark) -> str:
    return "\n".join(mark.feedback)


# Each limit, with it and without it


@pytest.mark.parametrize("kind", BREAKS)
def test_a_limit_stops_what_would_succeed_without_it(handed_in, assigned, kind):
    cell, stricter, says = BREAKS[kind]
    path = hand_in(handed_in, assigned, cell)
    stopped = judged(path, replace(LOOSE, **stricter))
    assert says in all_of(stopped)
    assert stopped.seconds < 8
    allowed = judged(path, LOOSE)
    assert says not in all_of(allowed)
    assert allowed.points == allowed.possible


@pytest.mark.parametrize("kind", ["reads", "writes", "connects"])
def test_files_and_the_network_are_out_of_reach(handed_in, assigned, tmp_path, kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        victim = handed_in / "ann" / "perlin.ipynb"
        hidden = assigned / "grader" / "perlin.json"
        cell = {
            "reads": f"assert 'key' in open({str(hidden)!r}).read()",
            "writes": f"open({str(victim)!r}, 'w').write('mine now')",
            "connects": f"import socket\nsocket.create_connection({server.getsockname()!r}, 2)",
        }[kind]
        path = hand_in(handed_in, assigned, cell)
        before = victim.read_bytes()
        stopped = judged(path)
        assert victim.read_bytes() == before
        assert "Error: [Errno" in all_of(stopped)
        assert stopped.points == stopped.possible  # the rest of the notebook is right
        allowed = judged(path, confined=False)
        assert "Error: [Errno" not in all_of(allowed)
        assert (victim.read_bytes() == before) == (kind != "writes")


def test_nothing_that_a_submission_started_outlives_it(handed_in, assigned):
    cell = """
import subprocess
subprocess.Popen(["sleep", "31.4159"], start_new_session=True)
"""

    def survivors() -> Iterator[psutil.Process]:
        for process in psutil.process_iter(["cmdline"]):
            if "31.4159" in (process.info["cmdline"] or []):
                yield process

    path = hand_in(handed_in, assigned, cell + "import os, time\nos.fork() or time.sleep(9)")
    mark = judged(path)
    assert mark.points == mark.possible
    assert list(survivors()) == []


def test_the_environment_holds_nothing_of_the_instructors(handed_in, assigned, monkeypatch):
    monkeypatch.setenv("A_PASSWORD", "swordfish")
    path = hand_in(handed_in, assigned, "import os\nassert 'A_PASSWORD' not in os.environ")
    assert "AssertionError" not in all_of(judged(path))


# Submissions that are none


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os\nos._exit(3)", "ended with an error. It was in code cell"),
        ("import os\nos._exit(0)", "ended by itself. It was in code cell"),
        (f"{DEAF}while True: pass", "longer than 5 seconds. It was in code cell"),
        ("import os\nos.write(3, b'[' * 10**5)\nos._exit(0)", "ended by itself. It was in code"),
        ("import os\nos.write(3, b'[1]\\n{}\\n')\nos._exit(0)", "ended by itself. It was in code"),
        ("def ease(t):\n while True: pass", "ease, values between 0 and 1: stopped after"),
        ("def ease(t): return {'a': 1}", "ease, values between 0 and 1: TypeError"),
        ("def ease(t): raise SystemExit('bye')", "ease, values between 0 and 1: SystemExit: bye"),
    ],
)
def test_a_program_that_does_not_answer_gets_a_reason(handed_in, assigned, cell, says):
    mark = judged(hand_in(handed_in, assigned, cell))
    assert says in all_of(mark)
    assert mark.points <= worth("damage", "blend")  # noise is built on ease


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("while True: pass", "code cell 14: stopped after "),
        ("while True:\n try:\n  while True: pass\n except Exception: pass", "stopped after "),
        ("import sys\nsys.exit(1)", "code cell 14: SystemExit: 1"),
        ("open('/somewhere/of mine/else/data.csv')", "No such file or directory: 'data.csv'"),
        ("1 / 0", "code cell 14: ZeroDivisionError: division by zero"),
    ],
)
def test_a_late_cell_that_fails_costs_nothing_else_and_is_named_first(
    handed_in, assigned, cell, says
):
    mark = judged(hand_in(handed_in, assigned, cell), Limits(seconds=8))
    assert says in mark.feedback[0]
    assert mark.points == mark.possible


def test_a_wrong_value_is_said_with_the_call_that_gave_it(handed_in, assigned):
    mark = judged(hand_in(handed_in, assigned, "def damage(values): return values * 0"))
    assert "a wrong value from damage(an array of shape" in all_of(mark)
    assert mark.points == worth("ease", "noise", "blend")


def test_what_was_answered_before_the_end_counts(handed_in, assigned):
    cell = "import os\ndef blend(*_): os._exit(0)"
    mark = judged(hand_in(handed_in, assigned, cell))
    assert "It was in a call of blend; what it had answered before counts." in mark.feedback[0]
    assert mark.points == worth("ease", "noise", "damage")


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", b"[" * 10**5, b'{"cells": [1]}'])
def test_a_file_that_is_no_notebook_gets_none(handed_in, text):
    path = handed_in / "eve" / "perlin.ipynb"
    path.write_bytes(text)
    assert judged(path).feedback == ("perlin.ipynb is not a Jupyter notebook.",)


def test_a_link_to_the_solution_is_not_followed(handed_in, assigned):
    path = handed_in / "eve" / "perlin.ipynb"
    path.symlink_to(assigned / "solutions" / "perlin.ipynb")
    assert judged(path).points == 0


# The class


def of_the_class(tmp_path: Path, assigned: Path) -> tuple[list[Student], list[Assignment]]:
    return read_roster(tmp_path / "roster.csv"), read_grader(assigned / "grader")


def test_a_class_gets_a_csv_and_feedback_and_ann_is_not_touched_by_eve(
    handed_in, assigned, tmp_path
):
    victim = handed_in / "ann" / "perlin.ipynb"
    hand_in(handed_in, assigned, f"del ease, blend\nopen({str(victim)!r}, 'w').write('mine')")
    marks = grade_class(handed_in, *of_the_class(tmp_path, assigned), LIMITS)
    write_marks(marks, tmp_path / "marks")
    rows = list(csv.DictReader((tmp_path / "marks" / "marks.csv").open()))
    whole, damage = worth("ease", "noise", "damage", "blend"), worth("damage")
    assert [(row["id"], row["perlin"]) for row in rows] == [
        ("ann", str(whole)), ("eve", str(damage)),
    ]  # fmt: skip
    feedback = (tmp_path / "marks" / "feedback" / "eve.md").read_text()
    assert "blend is not defined" in feedback
    assert "damage, the share of the pixels: right, " in feedback


def test_without_a_sandbox_a_changed_file_stops_the_grading(handed_in, assigned, tmp_path):
    victim = handed_in / "ann" / "perlin.ipynb"
    hand_in(handed_in, assigned, f"open({str(victim)!r}, 'w').write('mine')")
    with pytest.raises(DeSTSegError, match=r"ann/perlin\.ipynb changed while eve's perlin ran"):
        grade_class(handed_in, *of_the_class(tmp_path, assigned), LIMITS, confined=False)


def test_a_missing_limit_is_printed_and_refused_unless_asked_for(monkeypatch, capsys):
    def partly(*, confined: bool = True) -> dict[str, bool]:
        return {name: name != "network" for name in enforcement.WHAT}

    monkeypatch.setattr(grade, "enforced", partly)
    with pytest.raises(DeSTSegError, match=r"not enforced here: network\. .*UNSAFE=1"):
        grade.choose_confinement(unsafe=False)
    assert "NO  network: no connection" in capsys.readouterr().out
    assert grade.choose_confinement(unsafe=True)


def test_without_namespaces_most_limits_are_missing():
    held = enforcement.enforced(confined=False)
    assert not held["network"]
    assert not held["others' files"]
    assert held["time"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\nAnn\n", "has no column 'id'"),
        ("", "has no column 'id'"),
        ("id;name\nann;Ann\n", "must name the columns id and name, parted by commas"),
        ("id,name\nann\n", "line 2: there is no id or no name"),
        ("id,name\n\n", "has no student"),
        ("id,name\n../ann,Ann\n", "must be there once"),
        ("id,name\nann,Ann\nann,Bob\n", "must be there once"),
    ],
)
def test_a_roster_that_is_none_is_refused(tmp_path, text, says):
    (tmp_path / "roster.csv").write_text(text)
    with pytest.raises(DeSTSegError, match=says):
        read_roster(tmp_path / "roster.csv")


def test_a_roster_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DeSTSegError, match="Name the roster, a CSV file"):
        read_roster(tmp_path / "roster.csv")


def test_what_lies_where_it_is_not_looked_for_is_named(handed_in, assigned, tmp_path):
    solution = (handed_in / "ann" / "perlin.ipynb").read_bytes()
    for place in (
        "eve/perlin (1).ipynb", "eve/Perlin.ipynb", "eve/eve_perlin.IPYNB",
        "eve/homework\n<b>.ipynb", "eve/metrics.ipynb", "eve/notes.txt",
        "Ann/perlin.ipynb", "x/perlin.ipynb", "eve/unpacked/here/perlin.ipynb",
        "eve/.ipynb_checkpoints/perlin-checkpoint.ipynb", "eve/__MACOSX/._perlin.ipynb",
    ):  # fmt: skip
        (handed_in / place).parent.mkdir(parents=True, exist_ok=True)
        (handed_in / place).write_bytes(solution)
    remarks = look_through(handed_in, *of_the_class(tmp_path, assigned))
    assert remarks == {
        "": ["x is no id of the roster: add the student or leave it out."],
        "ann": ["Ann was not graded: the folder's name must be ann."],
        "eve": [
            "Perlin.ipynb was not graded: its name must be perlin.ipynb.",
            "eve_perlin.IPYNB was not graded: its name must be perlin.ipynb.",
            "homework?<b>.ipynb was not graded: no assignment that is graded has this name.",
            "perlin (1).ipynb was not graded: its name must be perlin.ipynb.",
            "unpacked was not graded: notebooks must lie in eve itself.",
        ],
    }
    write_marks({Student("eve", "Eve E"): {}}, tmp_path / "marks", remarks)
    lines = (tmp_path / "marks" / "feedback" / "eve.md").read_text().splitlines()
    for text in remarks["eve"]:
        assert f"    {text}" in lines  # as text, whatever a file is called
    (handed_in / "ann" / "perlin.ipynb").unlink()
    remarks = look_through(handed_in, *of_the_class(tmp_path, assigned))
    assert "perlin: nobody handed in perlin.ipynb." in remarks[""][-1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ablation.ipynb", ["ablation.ipynb was not graded: a folder with the name ablation is."]),
        ("Ablation", ["Ablation was not graded: a folder with the name ablation is."]),
        ("ablation.zip", ["ablation.zip was not graded: a folder with the name ablation is."]),
        ("ablation", []),
    ],
)
def test_of_the_ablation_it_is_the_folder_that_is_looked_for(tmp_path, name, says):
    (tmp_path / "ann" / name).mkdir(parents=True)
    ablation = make_assignment("ablation", SECRET)
    remarks = look_through(tmp_path, [Student("ann", "Ann A")], [ablation])
    assert remarks["ann"] == says


@pytest.mark.parametrize("kind", ["a pipe", "a link to an endless file", "12 MiB"])
def test_what_is_no_plain_file_of_some_size_is_not_read_before_grading_either(
    handed_in, assigned, tmp_path, kind
):
    path = handed_in / "eve" / "perlin.ipynb"
    if kind == "a pipe":
        os.mkfifo(path)  # whoever reads it waits for ever
    elif kind == "12 MiB":
        whole = (handed_in / "ann" / "perlin.ipynb").read_bytes()
        path.write_bytes(whole + b" " * (12 * MIB))
    else:
        path.symlink_to("/dev/zero")
    assert look_through(handed_in, *of_the_class(tmp_path, assigned))["eve"] == []
    assert judged(path).points == 0


def test_a_notebook_that_does_not_say_its_set_is_graded_as_usual(handed_in, assigned, tmp_path):
    path = handed_in / "ann" / "perlin.ipynb"
    notebook = json.loads(path.read_text())
    del notebook["metadata"]
    path.write_text(json.dumps(notebook))
    assert look_through(handed_in, *of_the_class(tmp_path, assigned))["ann"] == []
    assert judged(path).points == judged(path).possible


def test_a_notebook_of_another_class_is_named_and_a_whole_class_of_them_refused(
    handed_in, assigned, tmp_path
):
    write_assignments(b"the secret of another class", tmp_path / "other", ("perlin",))
    other = (tmp_path / "other" / "solutions" / "perlin.ipynb").read_bytes()
    (handed_in / "eve" / "perlin.ipynb").write_bytes(other)
    remarks = look_through(handed_in, *of_the_class(tmp_path, assigned))
    assert remarks["eve"] == [
        "perlin.ipynb was made for another class: its numbers are not those asked for."
    ]
    (handed_in / "ann" / "perlin.ipynb").write_bytes(other)
    with pytest.raises(DeSTSegError, match="GRADER=assigned/grader"):
        look_through(handed_in, *of_the_class(tmp_path, assigned))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--dir": "absent"}, "absent is no folder"),
        ({"--dir": "empty"}, "no folder named by an id of the roster, such as ann"),
        ({"--roster": "absent.csv"}, "Name the roster"),
        ({"--grader": "absent"}, "grade with GRADER=FOLDER/grader"),
        ({"--only": "perlim"}, "has no 'perlim'; choose among perlin"),
        ({"--out": "roster.csv"}, "roster.csv cannot be a folder for the marks"),
    ],
)
def test_a_wrong_argument_is_refused_at_once_and_earlier_marks_stay(
    handed_in, assigned, tmp_path, monkeypatch, change, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "marks.csv").write_text("earlier")
    monkeypatch.setattr(grade, "enforced", lambda **_: pytest.fail("limits were tried"))
    given = {"--dir": "in", "--roster": "roster.csv", "--grader": str(assigned / "grader")}
    line = [text for pair in (given | change).items() for text in pair]
    monkeypatch.setattr(sys, "argv", ["grade.py", *line])
    with pytest.raises(SystemExit, match=says):
        grade.main()
    assert (tmp_path / "marks" / "marks.csv").read_text() == "earlier"


def test_what_was_not_graded_is_the_last_that_is_printed(
    handed_in, assigned, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (handed_in / "ann" / "perlin.ipynb").rename(handed_in / "eve" / "perlin (1).ipynb")
    line = ["--dir", "in", "--roster", "roster.csv", "--grader", str(assigned / "grader")]
    monkeypatch.setattr(sys, "argv", ["grade.py", *line])
    grade.main()
    last = capsys.readouterr().out.splitlines()[-1]
    wanted = "eve: perlin (1).ipynb was not graded: its name must be perlin.ipynb."
    assert last == f"look at this: {wanted}"
    assert (tmp_path / "marks" / "marks.csv").is_file()


def test_only_what_was_set_counts(assigned, tmp_path):
    write_assignments(SECRET, tmp_path / "two", ("perlin", "cosine"))
    names = [a.name for a in read_grader(tmp_path / "two" / "grader")]
    assert names == ["cosine", "perlin"]
    assert [a.name for a in read_grader(tmp_path / "two" / "grader", ["perlin"])] == ["perlin"]


def test_a_roster_is_read(tmp_path):
    (tmp_path / "roster.csv").write_text("\ufeffid,name\nann, Ann A\n", encoding="utf-8")
    assert read_roster(tmp_path / "roster.csv") == [Student("ann", "Ann A")]


def test_the_recorded_class_of_thirty_is_the_one_that_is_made_now():
    record = json.loads((ROOT / "results" / "grading" / "thirty.json").read_text())
    assert list(record["submissions"]) == list(check_grading.KINDS)
    assert len(check_grading.KINDS) == 30
    assert record["limits"] == asdict(check_grading.LIMITS)
    for kind, found in record["submissions"].items():
        assert found["reason"], kind
        assert found["seconds"] <= 20 * max(1, len(check_grading.EXPECTED.get(kind, ())))
        if kind in check_grading.EXPECTED:
            handed_in = [found["points"][name] for name in check_grading.NAMES]
            expected = check_grading.EXPECTED[kind]
            assert handed_in[: len(expected)] == expected
            assert record["honest_alone"][kind] == found["points"]


# The open ablation


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    """A study folder that deserves all points; its numbers are invented."""
    specification = make_assignment("ablation", SECRET).specification
    seeds = json.loads(specification["seeds"])
    values = {
        "name": "cells", "recipe": "tiny", "reference": "as it is", "seeds": seeds,
        "categories": specification["categories"].split(" and ")[:1],
        "variants": {"as it is": {}, "coarse": {"corruption.max_cells_log2": 2}},
    }  # fmt: skip
    study = study_from_dict(values)
    records = []
    for number, (variant, category, seed) in enumerate(study.keys):
        config, _ = study.configure(variant, category, seed)
        records.append({
            "variant": variant, "category": category, "seed": seed, "status": "done",
            "config": {"seed": seed, "student": {"steps": config.student.steps}},
            **dict.fromkeys(METRIC_NAMES, 0.8 + 0.01 * (number**2 % 7)),
            "aupro": 0.9 - number / 100,
        })  # fmt: skip
    rows = compare(study, records, specification["metric"])
    found = rows[1].difference
    claims = {"metric": specification["metric"],
              "differences": {"coarse": [found.mean, found.low, found.high]}}  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(values))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (tmp_path / "claims.json").write_text(json.dumps(claims))
    return tmp_path


def marked(folder: Path) -> Mark:
    return judge_study(make_assignment("ablation", SECRET).specification, folder)


def test_a_whole_study_gets_all_points(ablation):
    mark = marked(ablation)
    assert (mark.points, mark.possible) == (8, 8), mark.feedback


@pytest.mark.parametrize(
    ("file", "change", "lost", "says"),
    [
        ("records.jsonl", lambda t: t.split("\n", 1)[1], 2, "not run"),
        ("records.jsonl", lambda t: t + t.split("\n")[0].replace('"aupro": 0.9', '"aupro": 7.0')
         + "\n", 2, "a metric is no number from 0 to 1"),
        ("records.jsonl", lambda t: t.replace('"steps": 500', '"steps": 5'), 2, "is another"),
        ("study.json", lambda t: t.replace('_log2": 2', '_log2": 2, "model.width": 0.5'), 1,
         "changes 2 settings"),
        ("claims.json", lambda t: t.replace("[", "[0.5, "), 2, "not what the records give"),
        ("claims.json", lambda t: "[" * 10**5, 2, "does not have the form"),
    ],
)  # fmt: skip
def test_a_study_loses_points_for_what_is_wrong_with_it(ablation, file, change, lost, says):
    text = (ablation / file).read_text()
    (ablation / file).write_text(change(text))
    assert (ablation / file).read_text() != text
    mark = marked(ablation)
    assert says in all_of(mark)
    assert mark.points == 8 - lost


def test_a_class_with_other_seeds_does_not_get_this_ones_points(ablation):
    other = make_assignment("ablation", b"the secret of another class").specification
    mark = judge_study(other, ablation)
    assert "The study lacks seed" in all_of(mark)
    assert mark.points == 0


def test_a_study_copied_from_the_repository_gets_nothing_whatever_it_claims(tmp_path):
    study = tmp_path / "ablation"
    shutil.copytree(ROOT / "results" / "studies" / "levels_magnetic_tile", study)
    (study / "claims.json").write_text('{"metric": "aupro", "differences": {}}')
    mark = marked(study)
    assert mark.points == 0
    assert "another study than the one that was set" in all_of(mark)


def test_an_empty_folder_gets_a_reason(tmp_path):
    mark = marked(tmp_path)
    assert (mark.points, mark.feedback) == (0, ("ablation/study.json was not handed in.",))
