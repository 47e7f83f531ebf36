"""Grade a class of thirty, hostile submissions among them: everyone gets a mark or a reason.

    python tools/assignments/check_grading.py --json results/grading/thirty.json

The class is made from a secret of its own, and graded twice: whole, and the honest alone. What the
honest get must not depend on the others. Only where all limits are enforced: some submissions fork
and allocate for as long as they are let.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from enforcement import enforced, forking, holding, report
from grade import grade_class, read_grader
from handed_in import read_roster
from judge import Mark
from sandbox import Limits
from write import write_assignments

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_json
from destseg_lib.runs.provenance import provenance

SECRET = b"thirty submissions"
LIMITS = Limits(seconds=5)
NAMES = ("perlin", "cosine", "levels", "fusion", "metrics")  # notebooks; the sixth is a folder
HONEST = ("right", "untouched", "half done", "one mistake", "two mistakes", "the library's answer")
ALL, NONE = 10, 0

# A cell after right answers, the points that are left, and words of the feedback.
CELLS: dict[str, tuple[str, int, str]] = {
    "raises an error": ("raise ValueError('oops')", ALL, "ValueError: oops"),
    "ends the program": ("import os\nos._exit(0)", NONE, "ended by itself. It was in code cell"),
    "crashes": ("import os\nos.kill(os.getpid(), 11)", NONE, "SIGSEGV"),
    "recurses without end": ("def f(): return f()\nf()", ALL, "RecursionError"),
    "loops without end": ("while True: pass", ALL, "stopped after"),
    "loops and ignores signals": (
        "import signal\nfor s in (1, 2, 3, 14, 15, 24): signal.signal(s, signal.SIG_IGN)\n"
        "while True: pass",
        NONE,
        "longer than 5 seconds",
    ),
    "sleeps": ("import time\ntime.sleep(60)", ALL, "stopped after"),
    "is a fork bomb": (forking(100_000, 3), ALL, "BlockingIOError"),
    "starts threads without end": (
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        ALL,
        "can't start new thread",
    ),
    "leaves a process behind": (
        "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)",
        ALL,
        "right",
    ),
    "needs 64 GiB": ("held = bytearray(64 * 2**30)", ALL, "MemoryError"),
    "needs much memory in three processes": (holding(900, 3), NONE, "more memory than 1536 MiB"),
    "prints 1 GB": ("for _ in range(1000): print('x' * 10**6)", ALL, "File too large"),
    "writes 1 GB": ("open('large', 'wb').write(bytes(10**9))", ALL, "Error"),
    "reads the hidden tests": ("assert 'key' in open(HIDDEN).read()", ALL, "FileNotFoundError"),
    "writes to its neighbour": ("open(NEIGHBOUR, 'w').write('mine now')", ALL, "FileNotFoundError"),
    "removes its neighbour": ("import os\nos.remove(NEIGHBOUR)", ALL, "FileNotFoundError"),
    "opens a socket": (
        "import socket\nsocket.create_connection(('127.0.0.1', 22), 2)", ALL, "OSError",
    ),
    "writes an answer itself": (
        "import os\nos.write(3, b'[' * 10**5)\nos._exit(0)", NONE, "ended by itself",
    ),
}  # fmt: skip
FILES: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "not a Jupyter notebook"),
    "a photograph": (b"\xff\xd8\xff\xe0" + bytes(1000), "not a Jupyter notebook"),
    "JSON without end": (b"[" * 10**6, "not a Jupyter notebook"),
    "a file of 11 MiB": (b" " * (11 * 2**20), "larger than 10 MiB"),
}
LINK = "a link to the solution"
KINDS = (*HONEST, *CELLS, *FILES, LINK)
IDS = {kind: f"s{number}" for number, kind in enumerate(KINDS)}  # of students, one for each
MISTAKES = {
    "one mistake": "full = blend\ndef blend(i, t, m, o): return full(i, t, m, 1.0)",
    "two mistakes": "def ease(t): return 3 * t**2 - 2 * t**3",
    "the library's answer": "from destseg_lib.corruption import fade\n"
    "import torch\ndef ease(t): return fade(torch.as_tensor(t))",
}
# Points of the notebooks that were handed in.
EXPECTED = {
    "right": [10] * 5, "untouched": [0] * 5, "half done": [10, 0, 10, 0, 10],
    "one mistake": [9], "two mistakes": [4], "the library's answer": [4],
}  # fmt: skip


def main() -> None:
    """Grade the class, compare with what must come out, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args()
    held = enforced()
    print(f"What is enforced on this machine:\n{report(held)}", flush=True)
    if not all(held.values()):
        sys.exit("Some submissions are only harmless within these limits; use another machine.")
    with tempfile.TemporaryDirectory() as folder:
        whole, alone = graded(Path(folder), KINDS), graded(Path(folder), HONEST)
    wrong = [f"{kind}: {what}" for kind in KINDS for what in mistakes(kind, whole[kind])]
    wrong += [
        f"{k}: another mark beside others" for k in HONEST if points(whole[k]) != points(alone[k])
    ]
    record = {
        "what": "a class of thirty, graded as make grade does, each notebook within these limits",
        "limits": asdict(LIMITS),
        "submissions": {kind: described(whole[kind]) for kind in KINDS},
        "honest_alone": {kind: points(alone[kind]) for kind in HONEST},
        "provenance": provenance(torch.device("cpu")),
    }
    if options.json and not wrong:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, record)
    print("\n".join(wrong) or f"{len(KINDS)} submissions, each with a mark or a reason.")
    sys.exit(bool(wrong))


def graded(folder: Path, kinds: tuple[str, ...]) -> dict[str, dict[str, Mark]]:
    """The marks of a class with one student of each kind."""
    root = folder / f"class of {len(kinds)}"
    assigned, inbox = root / "assigned", root / "in"
    write_assignments(SECRET, assigned)
    roster = root / "roster.csv"
    inbox.mkdir()
    rows = [f"{IDS[kind]},Student {KINDS.index(kind)}" for kind in kinds]
    roster.write_text("\n".join(["id,name", *rows]), encoding="utf-8")
    for kind in kinds:
        (inbox / IDS[kind]).mkdir()
        hand_in(kind, inbox / IDS[kind], assigned)
    grader = assigned / "grader"
    marks = grade_class(
        inbox, read_roster(roster), read_grader(grader), LIMITS, watched=(roster, grader)
    )
    by_id: dict[str, dict[str, Mark]] = {one.id: found for one, found in marks.items()}
    return {kind: by_id[IDS[kind]] for kind in kinds}


def hand_in(kind: str, to: Path, assigned: Path) -> None:
    """Write one submission; ``right``, ``untouched`` and ``half done`` hand in every notebook."""
    solutions, students = assigned / "solutions", assigned / "students"
    if kind == "right":
        copies = dict.fromkeys(NAMES, solutions)
    elif kind == "untouched":
        copies = dict.fromkeys(NAMES, students)
    elif kind == "half done":
        copies = {name: (solutions, students)[n % 2] for n, name in enumerate(NAMES)}
    else:
        copies = {}
    for name, source in copies.items():
        found = next(source.rglob(f"{name}.ipynb"))
        (to / f"{name}.ipynb").write_bytes(found.read_bytes())
    if copies:
        return
    path, solution = to / "perlin.ipynb", solutions / "perlin.ipynb"
    if kind == LINK:
        path.symlink_to(solution)
    elif kind in FILES:
        path.write_bytes(FILES[kind][0])
    else:
        neighbour = to.parent / IDS["right"] / "perlin.ipynb"
        hidden = assigned / "grader" / "perlin.json"
        names = f"HIDDEN, NEIGHBOUR = {str(hidden)!r}, {str(neighbour)!r}\n"
        cell = names + CELLS[kind][0] if kind in CELLS else MISTAKES[kind]
        notebook = json.loads(solution.read_text(encoding="utf-8"))
        notebook["cells"].append({"cell_type": "code", "source": cell})
        path.write_text(json.dumps(notebook), encoding="utf-8")


def mistakes(kind: str, marks: dict[str, Mark]) -> list[str]:
    """What is not as it must be with a student's marks."""
    found = [
        f"{name} has no mark and no reason" for name, mark in marks.items() if not mark.feedback
    ]
    said = "\n".join(marks["perlin"].feedback)
    if kind in EXPECTED:
        got = [marks[name].points for name in NAMES][: len(EXPECTED[kind])]
        if got != EXPECTED[kind]:
            found.append(f"points {got}, expected {EXPECTED[kind]}")
        return found
    expected, words = (
        CELLS[kind][1:] if kind in CELLS else (NONE, FILES.get(kind, ("", "was not"))[1])
    )
    if marks["perlin"].points != expected:
        found.append(f"{marks['perlin'].points} points, expected {expected}")
    if words not in said:
        found.append(f"the feedback does not say {words!r} but {said!r}")
    return found


def points(marks: dict[str, Mark]) -> dict[str, float]:
    """The points of each assignment."""
    return {name: mark.points for name, mark in marks.items()}


def described(marks: dict[str, Mark]) -> dict[str, Any]:
    """Points, the first line of perlin's feedback, and the seconds of all notebooks."""
    return {
        "points": points(marks),
        # Without the name of a file, which differs from run to run.
        "reason": re.sub(r": '.*", "", marks["perlin"].feedback[0])[:160],
        "seconds": round(sum(mark.seconds for mark in marks.values()), 1),
    }


if __name__ == "__main__":
    try:
        main()
    except DeSTSegError as error:
        sys.exit(str(error))
