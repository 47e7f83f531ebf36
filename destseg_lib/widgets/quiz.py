"""The questions at the end of each chapter, with an answer to every choice.

They are HTML without a script: a reader's choice shows its answer in the built page, in Jupyter and
in Colab, with mouse or keys, from disk and on paper.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import styles

QUIZZES = Path(__file__).parent / "quizzes"


@dataclass(frozen=True)
class Choice:
    """What a reader may choose, whether it is right, and why."""

    text: str
    right: bool
    because: str


@dataclass(frozen=True)
class Question:
    """A question with its choices, one of them right, in the order they are shown in."""

    ask: str
    choices: tuple[Choice, ...]


def chapters() -> list[str]:
    """The chapters that have questions, by their files' names."""
    return sorted(path.stem for path in QUIZZES.glob("*.toml"))


def read_questions(chapter: str) -> list[Question]:
    """The questions of a chapter.

    Args:
        chapter: the name of its file, such as ``02_measuring``.

    Raises:
        DeSTSegError: it has none.
    """
    path = QUIZZES / f"{chapter}.toml"
    if not path.is_file():
        raise DeSTSegError(f"{chapter!r} has no questions; choose from {', '.join(chapters())}.")
    found = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    return [_question(one["ask"], one["right"], one["because"], one["wrong"]) for one in found]


def _question(ask: str, right: str, because: str, wrong: list[list[str]]) -> Question:
    """The right choice takes a place that the question's text decides, the same each time."""
    choices = [Choice(text, False, why) for text, why in wrong]
    place = hashlib.sha256(ask.encode()).digest()[0] % (len(choices) + 1)
    return Question(ask, (*choices[:place], Choice(right, True, because), *choices[place:]))


class Quiz:
    """A chapter's questions, as the last line of a cell shows them.

    Raises:
        DeSTSegError: the chapter has none.
    """

    def __init__(self, chapter: str) -> None:
        self.chapter, self.questions = chapter, read_questions(chapter)

    def __repr__(self) -> str:
        """The questions with their choices, without the answers."""
        lines = []
        for number, question in enumerate(self.questions, start=1):
            lines += [f"{number}. {question.ask}", *(f"   - {c.text}" for c in question.choices)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        fields = [_field(self.chapter, n, one) for n, one in enumerate(self.questions, start=1)]
        return (
            f"<style>{styles('quiz')}</style>"
            f'<div class="destseg quiz"><p class="hint">'
            "Choose an answer: it says whether it is right, and why.</p>"
            f"{''.join(fields)}</div>"
        )


def _field(chapter: str, number: int, question: Question) -> str:
    name = f"quiz-{chapter}-{number}"
    choices = ""
    for place, choice in enumerate(question.choices):
        verdict = "✓ Right." if choice.right else "✗ No."
        choices += (
            f'<div class="choice {"right" if choice.right else "wrong"}">'
            f'<input type="radio" name="{name}" id="{name}-{place}">'
            f'<label for="{name}-{place}">{marked(choice.text)}</label>'
            f'<p class="because"><strong>{verdict}</strong> {marked(choice.because)}</p></div>'
        )
    return f"<fieldset><legend>{number}. {marked(question.ask)}</legend>{choices}</fieldset>"


def marked(text: str) -> str:
    """Text as HTML; what is between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
