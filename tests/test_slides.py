"""A deck of slides is made of a chapter's own figures, formulas, code, summary and questions."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from destseg_lib.errors import DeSTSegError

pytest.importorskip("sphinx")
import slides

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("[01]*.ipynb"))
TITLE = """# 2. Measuring

How good is it? [Chapter 3](03_teacher.ipynb) asks that too.

**You will be able to**

- count;
- doubt,
  and say why.

**Before this**: nothing.
"""
CAPTION = "Two curves<!-- none -->. The left one rises. " + "It goes on and on for very long. " * 6


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def figure(caption: str, *, drawn: bool = True) -> nbformat.NotebookNode:
    shown = [new_output("display_data", data={"image/png": picture()})] if drawn else []
    metadata = {
        "slideshow": {"slide_type": "slide"},
        "mystnb": {"figure": {"caption": caption, "name": "f"}, "image": {"alt": 'Two "curves"'}},
    }
    return new_code_cell("plot()", id="curves", metadata=metadata, outputs=shown)


def cell(kind: str, source: str, slide: str = "slide", printed: str = "") -> nbformat.NotebookNode:
    metadata = {"slideshow": {"slide_type": slide}}
    if kind == "text":
        return new_markdown_cell(source, metadata=metadata)
    shown = [new_output("stream", name="stdout", text=printed)] if printed else []
    return new_code_cell(source, metadata=metadata, outputs=shown)


def made(tmp_path: Path, *cells: nbformat.NotebookNode) -> slides.Deck:
    path = tmp_path / "02_measuring.ipynb"
    nbformat.write(new_notebook(cells=[cell("text", TITLE), *cells]), path)
    return slides.deck(path)


def test_a_deck_begins_with_the_chapter_s_question_and_what_is_learned(tmp_path: Path) -> None:
    first, second = made(tmp_path).slides
    assert first.headline == "2. Measuring" and "How good is it?" in first.body
    assert 'href="../book/03_teacher.html"' in first.body
    assert second.headline == "You will be able to"
    assert second.body.count("<li>") == 2 and "and say why" in second.body


def test_a_figure_stands_under_its_heading_and_the_prose_is_said(tmp_path: Path) -> None:
    deck = made(
        tmp_path, cell("text", "## Two `curves`\n\nBefore.", "notes"), figure(CAPTION),
        cell("text", "After it, 3<!-- cell:x -->.", "notes"), cell("text", "Left out.", "skip"),
    )  # fmt: skip
    shown = deck.slides[-1]
    assert shown.headline == "Two curves"
    assert 'alt="Two &quot;curves&quot;"' in shown.body
    assert "The left one rises." in shown.body and len(shown.body.split()) < 50
    assert "on and on" in shown.said[0] and shown.said[1] == "After it, 3."
    assert "Before." in deck.slides[-2].said[-1]
    assert set(deck.pictures) == {"02_measuring-curves.png"}
    assert "Left out." not in str(deck)


def test_formulas_tables_and_a_summary_are_slides_of_their_own(tmp_path: Path) -> None:
    text = (
        "## Rates\n\nLong prose. Two rates:\n\n$$a < b$$\n\nand\n\n$$c$$\n\nand\n\n$$d$$\n\n"
        "## Many\n\n"
        "| x | y |\n|---|---|\n" + "| 1 | 2 |\n" * 7 + "\n## Summary\n\n- One. And more.\n- Two."
    )
    found = made(tmp_path, cell("text", text)).slides[2:]
    assert [one.headline for one in found] == ["Rates", "Rates", "Many", "Many", "Summary"]
    assert r"\[a &lt; b\]" in found[0].body and "Two rates:" in found[0].body
    assert "Long prose" not in found[0].body
    assert [one.body.count("<tr>") for one in found[2:4]] == [6, 3]
    assert found[4].body.count("<li>") == 2 and "And more" not in found[4].body


def test_code_shows_what_it_printed_and_an_interactive_is_linked(tmp_path: Path) -> None:
    long = "\n".join(map(str, range(99)))
    show = "from destseg_lib.widgets import FusionByHand\nFusionByHand()"
    code, live = made(
        tmp_path, cell("code", "x = '<b>'", printed=long), cell("text", "## By hand", "notes"),
        cell("code", show), cell("text", "**Try this.** Move it.", "notes"),
    ).slides[2:]  # fmt: skip
    assert "&lt;b&gt;" in code.body and code.body.count("\n") < 20
    assert "Move it." in live.body
    assert 'href="../book/02_measuring.html#by-hand"' in live.body


def test_questions_hide_the_right_choice_until_the_next_step(tmp_path: Path) -> None:
    found = made(tmp_path, cell("code", 'Quiz("02_measuring")')).slides[2:]
    assert [one.headline for one in found] == ["Check yourself"] * 2
    for one in found:
        assert one.body.count('class="fragment right"') == 1
        assert any("**Right.**" in reason for reason in one.said)


def test_photographs_that_may_not_be_used_for_money_stay_in_the_chapter(tmp_path: Path) -> None:
    deck = made(tmp_path, figure("Screws. Photographs and figure under CC BY-NC-SA 4.0."))
    assert len(deck.slides) == 2 and not deck.pictures


def test_without_a_built_book_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match="run 'make book' first"):
        slides.executed(tmp_path)
    with pytest.raises(DeSTSegError, match="'curves' has no picture; run 'make book'"):
        made(tmp_path, figure(CAPTION, drawn=False))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_makes_a_deck_one_can_lecture_from(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for one in notebook.cells:  # as if executed
        kind = one.metadata.get("slideshow", {}).get("slide_type")
        assert kind in {"slide", "notes", "skip"} or one.id == "setup"
        if "figure" in one.metadata.get("mystnb", {}):
            one.outputs = [new_output("display_data", data={"image/png": picture()})]
    nbformat.write(notebook, tmp_path / path.name)
    deck = slides.deck(tmp_path / path.name)
    assert 9 <= len(deck.slides) <= 19
    assert len(deck.pictures) >= 2
    kinds = Counter(one.headline for one in deck.slides)
    assert kinds["You will be able to"] == kinds["Summary"] == 1 or path.stem.startswith("07b")
    assert kinds["Check yourself"] == slides.QUESTIONS
    said = [one for one in deck.slides if one.said]
    assert len(said) >= len(deck.slides) - 4
    for one in deck.slides:
        prose = re.sub(
            r'<pre.*?</pre>|<div class="(?:code|table)">.*</div>|<[^>]+>', " ", one.body, flags=re.S
        )
        assert len(prose.split()) <= 150, one.headline
        assert "<!--" not in one.body + "".join(one.said)


def test_decks_ask_no_other_host_and_are_listed(tmp_path: Path) -> None:
    deck = made(tmp_path, figure(CAPTION))
    slides.write([deck], tmp_path / "slides")
    page = (tmp_path / "slides" / "02_measuring.html").read_text(encoding="utf-8")
    assert page.count("<section") == len(deck.slides)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert (tmp_path / "slides" / "pictures" / "02_measuring-curves.png").is_file()
    listing = (tmp_path / "slides" / "index.html").read_text(encoding="utf-8")
    assert 'href="02_measuring.html"' in listing and "../index.html" in listing
