"""The questions of the chapters: each choice has its reason, and a page shows them all."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.widgets import Quiz
from destseg_lib.widgets.quiz import chapters, read_questions

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))
QUESTIONS = [question for chapter in chapters() for question in read_questions(chapter)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_chapter_shows_its_own_questions(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell.source for cell in cells if "Quiz(" in cell.source]
    assert shown == [f'from destseg_lib.widgets import Quiz\n\nQuiz("{path.stem}")']
    assert len(read_questions(path.stem)) >= 3


def test_there_are_sixty_questions_and_none_twice():
    asked = [question.ask for question in QUESTIONS]
    assert len(asked) == len(set(asked)) >= 60


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.ask[:40])
def test_one_choice_is_right_and_each_has_a_reason(question):
    assert [choice.right for choice in question.choices].count(True) == 1
    assert 3 <= len(question.choices) <= 4
    texts = [choice.text for choice in question.choices]
    assert len(set(texts)) == len(texts)
    for choice in question.choices:
        assert choice.text == choice.text.strip() != ""
        assert len(choice.because.split()) >= 3
        assert choice.because[-1] in ".)"


def test_the_right_choice_cannot_be_told_by_its_place_or_length():
    places = Counter([c.right for c in question.choices].index(True) for question in QUESTIONS)
    assert all(places[place] >= len(QUESTIONS) / 5 for place in range(3))
    longest = [max(question.choices, key=lambda c: len(c.text)).right for question in QUESTIONS]
    assert sum(longest) <= 0.6 * len(QUESTIONS)


class Read(HTMLParser):
    """The choices of a page: their inputs by name, and the ids and targets of labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inputs: dict[str, list[str]] = {}
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "input":
            self.inputs.setdefault(given["name"], []).append(given["id"])
        if tag == "label":
            self.labels.append(given["for"])


def test_the_html_has_a_group_for_each_question_and_a_label_for_each_choice():
    quiz = Quiz("02_measuring")
    html = quiz._repr_html_()
    read = Read(html)
    assert [len(ids) for ids in read.inputs.values()] == [len(q.choices) for q in quiz.questions]
    assert sorted(read.labels) == sorted(id for ids in read.inputs.values() for id in ids)
    assert "<script" not in html
    (answer,) = (choice for choice in quiz.questions[0].choices if choice.right)
    assert answer.because not in repr(quiz)


def test_a_chapter_without_questions_is_refused_with_those_that_have_some():
    with pytest.raises(DeSTSegError, match=r"'99_end' has no questions; choose from 00_first_look"):
        Quiz("99_end")


def test_the_bank_of_questions_is_fresh():
    done = subprocess.run(
        [sys.executable, "tools/book/questions.py", "--check"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
