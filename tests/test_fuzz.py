"""Commands in hostile folders at random: no file that was there changes, and none is a traceback.

15 cases for each command that writes (45 with THOROUGH=1), each in a fork, drawn from a seed: the
same cases each time.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from forks import THOROUGH, TINY, Fork, archive, category, contents, exported, photograph, study

from destseg_lib.files.outputs import LIST

# For each command: cases, and those of them that must end well.
CASES, LEAST = (45, 29) if THOROUGH else (15, 9)
# Cases in which something is lost once the guard is taken away: looked for until so many are found,
# since what somebody else writes meanwhile comes in time on one machine and too late on another.
FOUND = 10 if THOROUGH else 3
ODD = ("plain", "with space", "$HOME", "a|b", "-x", "ümlaut", "new\nline", "100%", "it's", "[1]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can fork"),
]


@dataclass
class Case:
    """One command in one folder.

    Attributes:
        root: of everything that belongs to the case.
        inputs: the folder that the command reads.
        out: where it is told to write.
        place: the folder it works in.
        options: more options.
        twice: give it two times.
        mine: names of files that somebody else writes into ``out`` meanwhile.
    """

    root: Path
    inputs: Path
    out: Path
    place: Path
    options: tuple[str, ...] = ()
    twice: bool = False
    meanwhile: tuple[str, ...] = ()
    replaced: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class Command:
    """A command: its arguments for a case, the names of files that it writes, what it reads."""

    arguments: Callable[[Path, Case, str], list[str]]
    names: tuple[str, ...]
    reads: str
    overwrite: bool = False


def train(world: Path, case: Case, out: str) -> list[str]:
    more = ("--textures", str(world / "photographs"), "--resume")
    return ["train", "--data", str(case.inputs), "--out", out, *TINY, *more]


def evaluate(world: Path, case: Case, out: str) -> list[str]:
    run = ("--run", str(world / "run"), "--data", str(case.inputs), "--device", "cpu", "--quiet")
    return ["evaluate", *run, "--figures", out]


def predict(world: Path, case: Case, out: str) -> list[str]:
    return ["predict", str(case.inputs), "--run", str(world / "run"), "--out", out, "--quiet"]


def page(world: Path, case: Case, out: str) -> list[str]:
    read = ("--good", str(case.inputs), "--runtime", str(world / "exported"))
    return ["page", "--run", str(world / "run"), *read, "--out", out, "--quiet"]


def make_data(world: Path, case: Case, out: str) -> list[str]:
    few = ("--size", "32", "--train", "1", "--good", "1", "--defective", "0")
    return ["make-data", "terrazzo", "--out", out, *few, "--quiet"]


def download(world: Path, case: Case, out: str) -> list[str]:
    return ["download", "dtd", "--root", out, "--quiet"]


def study_run(world: Path, case: Case, out: str) -> list[str]:
    file = study(case.root / "study.toml", case.inputs, world / "photographs")
    return ["study", "run", str(file), "--out", out, "--quiet"]


def study_report(world: Path, case: Case, out: str) -> list[str]:
    return ["study", "report", str(case.inputs), "--out", out]


COMMANDS = {
    "train": Command(train, ("config.json", "teacher.safetensors", "log.jsonl"), "category"),
    "evaluate": Command(evaluate, ("data.png",), "plain category", overwrite=True),
    "predict": Command(predict, ("0.png", "1.png", "scores.json"), "photographs", overwrite=True),
    "page": Command(
        page, ("index.html", "model.onnx.0.js", "ort.wasm.min.js.0.js"), "photographs", True
    ),
    "make-data": Command(
        make_data, ("terrazzo/made.json", "terrazzo/train/good/000.png", "terrazzo/a"), "nothing"
    ),
    "download": Command(download, ("dtd/mine.png", "dtd"), "nothing"),
    "study run": Command(study_run, ("study.json", "records.jsonl"), "category"),
    "study report": Command(
        study_report, ("report.md", "report.csv", "image_auroc.svg"), "study", overwrite=True
    ),
}


def make_inputs(command: Command, folder: Path, world: Path, rng: np.random.Generator) -> None:
    """What the command reads, with what people have in such folders."""
    kept = folder.with_name("kept")  # where links lead
    if command.reads == "photographs":
        for n in range(2):
            photograph(folder / f"{n}.png", n)
        for name in rng.choice(ODD, 2, replace=False):
            photograph(folder / name / f"{name}.png", 3)
    elif command.reads == "study":
        shutil.copytree(world / "records", folder)
    elif command.reads != "nothing":
        category(folder, masks=command.reads == "category")
    folder.mkdir(exist_ok=True)
    images = sorted(folder.rglob("*.png"))
    if images and rng.random() < 0.5:  # the photographs are links
        for n, image in enumerate(images):
            kept.mkdir(exist_ok=True)
            image.rename(kept / f"{n}-{image.name}")
            image.symlink_to(kept / f"{n}-{image.name}")
    (folder / ".hidden").write_text("mine")
    if command.reads in ("photographs", "nothing"):
        (folder / "loop").symlink_to(folder)
        (folder / "empty").mkdir()
        photograph(folder / "@eaDir" / "0.png" / "thumbnail.jpg", 4)


def put(path: Path, kind: str, inputs: Path) -> None:
    """Put something where a command will write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [file for file in sorted(inputs.rglob("*")) if file.is_file()]
    if kind == "file":
        path.write_text("mine")
    elif kind == "empty file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to("nowhere")
    elif kind == "link to an input":
        path.symlink_to(files[0])
    else:
        os.link(files[0].resolve(), path)


def make_case(name: str, number: int, root: Path, world: Path) -> Case:
    """The case of this number."""
    rng = np.random.default_rng([number, *name.encode()])
    command = COMMANDS[name]
    inputs, others = root / "data", root / "others"
    make_inputs(command, inputs, world, rng)
    case = Case(root, inputs, root / str(rng.choice(ODD)), root)
    photograph(others / "IMG_1.png", 7)
    (others / "setup.exe.partial").write_text("a browser's")
    kind = rng.choice(
        ["new", "deep", "others", "link", "relative", "again", "meanwhile", "taken", "inputs"],
        p=[0.1, 0.1, 0.15, 0.1, 0.1, 0.15, 0.05, 0.15, 0.1],
    )
    if kind == "deep":
        case.out = case.out / "a" / "b"
    elif kind == "others":
        case.out = others
    elif kind == "link":
        case.out.symlink_to(others)
    elif kind == "relative":
        case.place, case.out = others, Path("..") / "others" / "." / "new"
    elif kind == "again":
        case.twice = True
    elif kind == "meanwhile":
        # A log or a list of records, once begun, is added to.
        case.meanwhile = tuple(name for name in command.names if not name.endswith(".jsonl"))
    elif kind == "taken":
        things = ["file", "empty file", "folder", "pipe", "link to nothing"]
        things += ["link to an input", "hard link to an input"]
        taken = case.out / str(rng.choice([*command.names, LIST]))
        put(taken, str(rng.choice(things)), inputs)
        if taken.name == LIST and taken.is_file() and not taken.read_bytes():
            case.replaced = {taken}  # an empty list can be of a command that was killed
        if command.overwrite and rng.random() < 0.5:
            case.options, case.replaced = ("--overwrite",), {taken}
    elif kind == "inputs":
        places = [inputs, inputs / "out", root / "link", root / "in the way", root / "dangling"]
        (root / "link").symlink_to(inputs)
        (root / "in the way").write_text("mine")
        (root / "dangling").symlink_to("nowhere")
        case.out = places[rng.integers(len(places))]
    return case


@contextmanager
def meanwhile(case: Case) -> Iterator[dict[Path, str]]:
    """Somebody writes files into the folder of outputs while the command works."""
    made: dict[Path, str] = {}
    end = threading.Event()

    def write() -> None:
        left = list(case.meanwhile)
        while left and not end.is_set():
            time.sleep(0.02)
            path = case.out / left[-1]
            try:
                with path.open("x") as file:
                    file.write("mine")
                made[path] = "mine"
                left.pop()
            except FileNotFoundError:
                continue
            except OSError:
                left.pop()

    thread = threading.Thread(target=write)
    thread.start()
    yield made
    end.set()
    thread.join()


def run_case(
    name: str, number: int, fork: Fork, world: Path, root: Path, *, guard: bool = True
) -> tuple[int, str]:
    """Run a case; the status of its command, and what is wrong, or an empty text."""
    root.mkdir()
    case = make_case(name, number, root, world)
    arguments = [*COMMANDS[name].arguments(world, case, str(case.out)), *case.options]
    before, real = contents(root), str((case.place / case.out).resolve())
    job = {"archive": str(world / "dtd-r1.0.1.tar.gz"), "exported": str(world / "exported")}
    job |= {"place": str(case.place), "guard": guard}
    log = root.with_name("log")
    with meanwhile(case) as made:
        status, output = fork(arguments, log, **job)
        if case.twice and status == 0:
            status, output = fork(arguments, log, **job)
    after = contents(root)
    read = {path.resolve() for path in case.inputs.rglob("*") if path.is_file()}
    free = {str(path) for path in case.replaced if path.resolve() not in read}
    if real == str(case.inputs.resolve()) and name == "study report":
        free.add(f"{real}/{LIST}")  # a report in the study's own folder: its list grows
    changed = [path for path in before.keys() - free if after.get(path) != before[path]]
    changed += [str(path) for path, text in made.items() if path.read_bytes() != text.encode()]
    strange = [
        path for path in after.keys() - before.keys()
        if not f"{path}/".startswith((f"{real}/", f"{case.root / 'study.toml'}/"))
        and not f"{real}/".startswith(f"{path}/")
    ]  # fmt: skip
    problem = ""
    if changed or strange:
        problem = f"changed {sorted(changed)}, made {sorted(strange)}"
    elif "Traceback" in output or status not in (0, 2):
        problem = "no message"
    elif status == 0 and after == before and not case.twice:
        problem = "nothing was written"
    elif status == 2 and "destseg: " not in output:
        problem = "no message"
    shutil.rmtree(root)
    return status, problem and f"case {number}, {' '.join(arguments)}: {problem}\n{output}"


@pytest.fixture(scope="module")
def world(fork: Fork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cases share: textures, a run, a study's folder, an archive."""
    root = tmp_path_factory.mktemp("world")
    for n in range(2):
        photograph(root / "photographs" / f"{n}.png", n)
    archive(root / "dtd-r1.0.1.tar.gz")
    plain = category(root / "plain", masks=False)
    case = Case(root, plain, root / "run", root)
    for arguments in (train(root, case, str(case.out)), study_run(root, case, f"{root}/records")):
        status, output = fork(arguments, root / "log")
        assert status == 0, output
    exported(root / "exported", root / "run")
    return root


@pytest.mark.parametrize("name", COMMANDS)
def test_hostile_folders(name: str, fork: Fork, world: Path, tmp_path: Path) -> None:
    before, ended = contents(world), 0
    for number in range(CASES):
        status, problem = run_case(name, number, fork, world, tmp_path / "case")
        assert not problem, problem
        ended += status == 0
    assert contents(world) == before
    assert ended >= LEAST, f"only {ended} of {CASES} cases wrote something"


def test_without_the_guard_files_are_lost(fork: Fork, world: Path, tmp_path: Path) -> None:
    found = 0
    for number, name in product(range(45), ("predict", "study report", "make-data")):
        found += bool(run_case(name, number, fork, world, tmp_path / "case", guard=False)[1])
        if found == FOUND:
            return
    pytest.fail(f"only {found} cases lost something without the guard")
