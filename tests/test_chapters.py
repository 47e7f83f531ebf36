"""Each chapter was timed, is short enough to run, and has the form of a chapter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import chapters
import nbformat
import pytest

from destseg_lib.widgets.quiz import read_questions

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "book").glob("[01]*.ipynb"))
METHOD = [path for path in FILES if path.stem[:2] in {f"{n:02d}" for n in range(1, 8)}]
LONGEST, LONGEST_OF_ALL = 60, 300  # seconds, on two cores


def record() -> dict:
    return json.loads((ROOT / chapters.RECORD).read_text(encoding="utf-8"))


def cells(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def tagged(path: Path, tag: str) -> list:
    return [cell for cell in cells(path) if tag in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_record_is_of_the_chapter_as_it_is_or_says_what_was_timed(path):
    measured = record()[path.stem]
    assert measured["code"] == chapters.fingerprint(path), (
        f"the code of {path.name} has changed since it was timed: time it with "
        f"python tools/book/chapters.py {path}, or if only names changed, use --renamed"
    )
    assert measured.get("timed_code") != measured["code"]
    assert measured["reading_minutes"] == chapters.reading_minutes(path), (
        f"the text of {path.name} has changed: python tools/book/chapters.py --update"
    )
    opening = prose(path).split("\n## ")[0]
    for key in ("reading_minutes", "seconds", "gib"):
        assert f"{chapters.RECORD}#{path.stem}/{key}" in opening, f"it does not say its {key}"


def test_a_chapter_takes_a_minute_at_most_and_the_seven_five():
    measured, times = record(), Counter()
    for path in METHOD:  # chapter 7 has two pages
        times[path.stem[:2]] += measured[path.stem]["seconds"]
    assert len(times) == 7
    assert max(times.values()) <= LONGEST, times
    assert sum(times.values()) <= LONGEST_OF_ALL, times


@pytest.mark.parametrize("path", [p for p in FILES if p.stem[:2] != "00"], ids=lambda p: p.stem)
def test_a_chapter_opens_and_closes_as_every_other(path):
    text = prose(path)
    opening = text.split("\n## ")[0]
    assert opening.startswith("# ")
    for word in ("You will be able to", "Before this"):
        assert word in opening, f"{path.name} does not open with {word!r}"
    for heading in ("## Summary", "## Check yourself", "## Exercises"):
        assert heading in text, f"{path.name} has no {heading!r}"
    assert len(read_questions(path.stem)) >= 4, "fewer than four questions"
    exercises = text.split("## Exercises")[1]
    solutions = len(tagged(path, "solution")) + exercises.count("<details>")
    assert solutions >= 4, f"{path.name} has {solutions} solutions"
    assert "★" in exercises and "★★" in exercises, "exercises are not graded"


@pytest.mark.parametrize("path", METHOD, ids=lambda path: path.stem)
def test_a_chapter_of_the_method_has_checked_outputs_and_agreements(path):
    checked = tagged(path, "nbval-check-output")
    assert len(checked) >= 2
    assert tagged(path, "agreement"), f"{path.name} agrees with nothing of the library"
    if path.stem[:2] != "01":
        assert any("destseg_lib.widgets" in c.source for c in cells(path) if "code" in c.cell_type)


HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_printed_are_numbers_and_not_verdicts(path):
    lines = [
        line
        for cell in cells(path)
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", [])
        for output in cell.outputs
        for line in output.get("text", "").splitlines()
        if line.strip()
    ]
    verdicts = [line for line in lines if re.search(r"\b(True|False|agrees?)\b", line)]
    assert len(verdicts) <= len(lines) / 10, verdicts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_not_the_lesson_is_out_of_sight(path):
    seen = [
        len([line for line in cell.source.splitlines() if line.strip()])
        for cell in cells(path)
        if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", []))
    ]
    assert max(seen) <= 20
    assert sum(seen) <= (260 if path.stem[:2] in ("05", "06") else 200)


# The tool


@pytest.fixture
def chapter(tmp_path: Path) -> Callable[..., Path]:
    """Write a chapter of 360 words, with the code and metadata that are given."""

    def write(code: str, words: str = "word", **metadata: object) -> Path:
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [
            nbformat.v4.new_markdown_cell(f"{words} " * 360, id="text"),
            nbformat.v4.new_code_cell(code, id="code", metadata=metadata),
        ]
        nbformat.write(notebook, tmp_path / "one.ipynb")
        return tmp_path / "one.ipynb"

    return write


def test_words_code_and_pictures_make_the_reading_time(chapter):
    lines, figure = "\n\n".join(["x = 1"] * 40), {"figure": {"caption": "c"}}
    assert chapters.reading_minutes(chapter("x = 1")) == 2
    assert chapters.reading_minutes(chapter(lines, mystnb=figure)) == 4
    assert chapters.reading_minutes(chapter(lines, mystnb=figure, tags=["hide-cell"])) == 2


@pytest.mark.slow
def test_time_and_memory_are_those_of_the_kernel(chapter):
    path = chapter("import time; time.sleep(1); big = bytearray(300_000_000)")
    found = chapters.measure(path)
    assert found["seconds"] >= 1
    assert 0.28 <= found["gib"] < 1
    assert found["code"] == chapters.fingerprint(path)


def test_another_code_has_another_fingerprint_and_another_text_has_not(chapter):
    before = chapters.fingerprint(chapter("x = 3"))
    assert chapters.fingerprint(chapter("x = 3", words="other")) == before
    assert chapters.fingerprint(chapter("x = 4")) != before


def test_after_renames_the_record_keeps_its_times_and_says_which_code_was_timed(chapter):
    timed = chapters.fingerprint(chapter("old()"))
    record = {"seconds": 8.1, "code": timed, "provenance": {"commit": "c"}}
    for code in ("new()", "newer()"):
        now = chapters.fingerprint(chapter(code))
        record = chapters.renamed(record, chapter(code))
        assert record == {
            "seconds": 8.1, "code": now, "timed_code": timed, "provenance": {"commit": "c"},
        }  # fmt: skip
    back = chapters.renamed(record, chapter("old()"))
    assert back["code"] == timed and "timed_code" not in back
