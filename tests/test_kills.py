"""Every command that writes can be killed at any moment and given again.

A third of the moments are tried, all with THOROUGH=1; of ``train`` and ``page`` a third of those.
Training is killed at every step in test_faults.py, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from forks import THOROUGH, TINY, Fork, archive, category, contents, exported, photograph, study

from destseg_lib.files.outputs import LIST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can fork"),
]


@pytest.fixture(scope="module")
def world(fork: Fork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: a category, photographs, a run, a study's folder, an archive."""
    root = tmp_path_factory.mktemp("world")
    category(root / "bolt")
    category(root / "plain", masks=False)
    for n in range(2):
        photograph(root / "photographs" / f"{n}.png", n)
    archive(root / "dtd-r1.0.1.tar.gz")
    study(root / "study.toml", root / "bolt", root / "photographs")
    study(root / "plain.toml", root / "plain", root / "photographs")
    for arguments in (
        train(root, root / "run"),
        ["study", "run", str(root / "plain.toml"), "--out", str(root / "records"), "--quiet"],
    ):
        status, output = fork(arguments, root / "log")
        assert status == 0, output
    exported(root / "exported", root / "run")
    return root


def train(root: Path, out: Path) -> list[str]:
    textures = ("--textures", str(root / "photographs"), "--checkpoint-every", "1", "--resume")
    return ["train", "--data", str(root / "bolt"), "--out", str(out), *TINY, *textures]


def evaluate(root: Path, out: Path) -> list[str]:
    out.parent.mkdir(parents=True, exist_ok=True)
    files = ("--json", str(out.parent / "metrics.json"), "--figures", str(out))
    run = ("--run", str(root / "run"), "--data", str(root / "plain"))
    return ["evaluate", *run, *files, "--device", "cpu", "--quiet"]


def predict(root: Path, out: Path) -> list[str]:
    photographs = str(root / "photographs")
    return ["predict", photographs, "--run", str(root / "run"), "--out", str(out), "--quiet"]


def page(root: Path, out: Path) -> list[str]:
    read = ("--good", str(root / "photographs"), "--runtime", str(root / "exported"))
    return ["page", "--run", str(root / "run"), *read, "--out", str(out), "--quiet"]


def make_data(root: Path, out: Path) -> list[str]:
    few = ("--size", "32", "--train", "1", "--good", "1", "--defective", "0")
    return ["make-data", "terrazzo", "--out", str(out), *few, "--quiet"]


def download(root: Path, out: Path) -> list[str]:
    return ["download", "dtd", "--root", str(out), "--quiet"]


def study_run(root: Path, out: Path) -> list[str]:
    return ["study", "run", str(root / "study.toml"), "--out", str(out), "--quiet"]


def study_report(root: Path, out: Path) -> list[str]:
    return ["study", "report", str(root / "records"), "--out", str(out)]


# Each command, and the fewest events that it must have: below it, files would go unnoticed.
COMMANDS = [
    (train, 40), (evaluate, 12), (predict, 20), (page, 20), (make_data, 20), (download, 5),
    (study_run, 12), (study_report, 15),
]  # fmt: skip


def results(out: Path) -> dict[str, str]:
    """What a command wrote, without times and the list, which differ."""
    return {
        str(Path(path).relative_to(out)): kind
        for path, kind in contents(out).items()
        if not path.endswith((".svg", ".jsonl", "config.json", ".lock"))
    }


@pytest.mark.parametrize(("command", "least"), COMMANDS, ids=lambda c: getattr(c, "__name__", ""))
def test_a_command_killed_at_any_moment_ends_well_when_given_again(
    command: Callable[[Path, Path], list[str]], least: int, fork: Fork, world: Path, tmp_path: Path
) -> None:
    job = {"archive": str(world / "dtd-r1.0.1.tar.gz"), "exported": str(world / "exported")}
    log, unbroken = tmp_path / "log", tmp_path / "unbroken" / "out"
    status, output = fork(command(world, unbroken), log, **job)
    assert status == 0, output
    before, event = contents(world), 0
    while True:
        # Each file has seven events. A run's teacher has 45 MB and a page has many files: a third
        # finds all kinds.
        event += (3 if command in (train, page) else 1) * (1 if THOROUGH else 3)
        out = tmp_path / "killed" / "out"
        out.mkdir(parents=True)
        mine = {out / "IMG_1.png": "mine", out / "setup.exe.partial": "a browser's"}
        for path, text in mine.items():
            path.write_text(text)
        arguments = command(world, out)
        status, output = fork(arguments, log, moment={"event": event}, **job)
        if status == 0:
            break
        assert status == -signal.SIGKILL, output
        status, output = fork(arguments, log, **job)
        assert status == 0, f"killed at event {event}: {output}"
        for path, text in mine.items():
            assert path.read_text() == text
            path.unlink()
        left = results(out)
        assert left == results(unbroken), f"killed at event {event}"
        assert contents(world) == before
        if (out / LIST).exists():
            assert all(json.loads(line) for line in (out / LIST).read_text().splitlines())
        shutil.rmtree(out.parent)
    assert event > least
