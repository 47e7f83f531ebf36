"""Write book/questions.md, the bank of questions for instructors, or check that it is fresh.

Run: ``python tools/book/questions.py`` to write, with ``--check`` to compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from destseg_lib.widgets.quiz import chapters, marked, read_questions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "questions.md"
HEAD = """# A bank of questions

The {count} questions of the chapters' quizzes, with every answer, for an exam or for the beginning
of a meeting. A wrong choice is a mistake that people make, and its reason says what to tell them.

Each is data: `destseg_lib/widgets/quizzes/CHAPTER.toml`. `read_questions("02_measuring")` of
`destseg_lib.widgets.quiz` gives them to a program of yours, `widgets.Quiz("02_measuring")` shows
them in a notebook. This page is written from them by `tools/book/questions.py`.
"""


def page() -> str:
    """The page, from the questions of all chapters."""
    found = {chapter: read_questions(chapter) for chapter in chapters()}
    parts = [HEAD.format(count=sum(map(len, found.values())))]
    for chapter, questions in found.items():
        parts.append(f"## {title(chapter)}\n")
        for number, one in enumerate(questions, start=1):
            choices = "\n".join(f"- {marked(choice.text)}" for choice in one.choices)
            reasons = "\n".join(
                f"- *{marked(choice.text)}* {'**Right.** ' * choice.right}{marked(choice.because)}"
                for choice in one.choices
            )
            parts.append(
                f"**{number}.** {marked(one.ask)}\n\n{choices}\n\n"
                f"<details><summary>Answer</summary>\n\n{reasons}\n\n</details>\n"
            )
    return "\n".join(parts)


def title(chapter: str) -> str:
    """A chapter's title, a link to it."""
    cells = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells
    return f"[{cells[0].source.splitlines()[0].removeprefix('# ')}]({chapter}.ipynb)"


def main() -> None:
    """Write the page, or say that it is stale."""
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit(f"{PAGE.relative_to(ROOT)} is stale: run python tools/book/questions.py")
        return
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
