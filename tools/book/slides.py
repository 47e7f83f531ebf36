"""Write a deck of slides for each chapter, from its executed notebook, into the built book.

Run: ``python tools/book/slides.py`` after the book was built. A cell's slide type, as Jupyter keeps
it, decides what becomes of it:

- *slide*: a figure, a formula, a summary, a short piece of code, an interactive or the quiz, each
  on a slide of its own;
- *notes*: its prose is said, not shown: the speaker's notes of the slide before;
- *skip*: left to the chapter.

Photographs that may not be used for money stay in the chapters.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from book_pages import lightened, photographic
from docutils.nodes import make_id
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from destseg_lib.errors import DeSTSegError
from destseg_lib.widgets.quiz import Question, marked, read_questions

ROOT = Path(__file__).resolve().parents[2]
EXECUTED = ROOT / "_build" / "executed" / "book"
OUT = ROOT / "_build" / "html" / "slides"
PAGE = Path(__file__).with_name("slides.html")
WORDS = 60  # more on a slide is set smaller
LINES = 10  # of what a cell printed
ROWS = 5  # of a table
QUESTIONS = 2
NOT_SHOWN = "CC BY-NC-SA"  # in the caption of a figure
HEADING = re.compile(r"^(#{1,3}) +(.+)$", re.M)
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.S)
TABLE = re.compile(r"(?:^\|.*\n?)+", re.M)
COMMENT = re.compile(r"<!--.*?-->", re.S)
CHAPTER_LINK = re.compile(r'href="(?![a-z]+:|\.\./)([\w./-]+?)\.(?:ipynb|md)')
WITHIN = re.compile(r'<a href="#[^"]*"[^>]*>(.*?)</a>', re.S)
SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Slide:
    """A slide: its headline, its HTML, and what the speaker says, in Markdown."""

    headline: str
    body: str
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deck:
    """The slides of a chapter, and the pictures on them by file name."""

    name: str
    title: str
    slides: list[Slide] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)


def main() -> None:
    """Write all decks and a page that lists them."""
    try:
        decks = [deck(path) for path in executed(EXECUTED)]
    except DeSTSegError as error:
        sys.exit(str(error))
    write(decks, OUT)
    print(f"Slides: {(OUT / 'index.html').relative_to(ROOT)}")


def executed(folder: Path) -> list[Path]:
    """The executed chapters, in order.

    Raises:
        DeSTSegError: the book was not built.
    """
    found = sorted(path for path in folder.glob("[01]*.ipynb") if path.stem[0].isdigit())
    if not found:
        raise DeSTSegError(f"{folder} holds no executed chapter; run 'make book' first")
    return found


def deck(path: Path) -> Deck:
    """The deck of one executed chapter.

    Raises:
        DeSTSegError: a figure to be shown has no picture: the chapter was not executed.
    """
    cells = nbformat.read(path, as_version=4).cells
    made = Deck(path.stem, HEADING.findall(cells[0].source)[0][1])
    headline = made.title
    for number, cell in enumerate(cells):
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        if cell.cell_type == "markdown":
            slides = text_slides(cell.source, headline, made.name) if kind == "slide" else []
            made.slides.extend(slides)
            headings = HEADING.findall(cell.source)
            headline = plain(headings[-1][1]) if headings else headline
            if kind != "skip" and made.slides:
                made.slides[-1] = said(made.slides[-1], cell.source)
        elif kind == "slide":
            around = cells[number + 1 : number + 2] + cells[number - 2 : number][::-1]
            near = [c.source for c in around if c.cell_type == "markdown"]
            made.slides.extend(code_slides(cell, headline, made, near))
    return made


def said(slide: Slide, text: str) -> Slide:
    """A slide with more for its speaker to say."""
    return replace(slide, said=(*slide.said, COMMENT.sub("", text).strip()))


# What a cell shows


def text_slides(source: str, headline: str, chapter: str) -> Iterator[Slide]:
    """A title and what is learned, the formulas under a heading, a summary."""
    source = COMMENT.sub("", source)
    title = re.match(r"# (.+?)\n+(.+?)(?:\n\n|\Z)", source, re.S)
    if title:
        link = f'<p class="aside"><a href="../book/{chapter}.html">The chapter</a></p>'
        yield Slide(plain(title[1]), rendered(title[2]) + link)
    goals = re.search(r"\*\*You will be able to\*\*\n+((?:- .+\n(?:  .+\n)*)+)", source + "\n")
    if goals:
        yield Slide("You will be able to", rendered(goals[1]))
    places = [(hit.start(), plain(hit[2])) for hit in HEADING.finditer(source)]
    shown: dict[str, list[str]] = {}
    for hit in FORMULA.finditer(source):
        under = [name for start, name in places if start < hit.start()]
        before = re.split(r"\n\n|\$\$", source[: hit.start()].rstrip())[-1]
        lead = SENTENCE.split(before.strip())[-1] if before.strip() else ""
        name = under[-1] if under else headline
        shown.setdefault(name, []).append(rendered(f"{lead}\n\n$${hit[1]}$$"))
    for name, all_of_it in shown.items():
        for n in range(0, len(all_of_it), 2):
            yield Slide(name, "".join(all_of_it[n : n + 2]))
    for hit in TABLE.finditer(source):
        under = [name for start, name in places if start < hit.start()]
        head, rows = hit[0].splitlines()[:2], hit[0].splitlines()[2:]
        for n in range(0, len(rows), ROWS):
            part = "\n".join([*head, *rows[n : n + ROWS]])
            yield Slide(under[-1] if under else headline, rendered(part))
    summary = re.search(r"^## Summary\n+(.+?)(?=\n#|\Z)", source, re.M | re.S)
    if summary:
        points = re.findall(r"^- (.+?)(?=^- |\Z)", summary[1] + "\n", re.M | re.S)
        firsts = [SENTENCE.split(" ".join(point.split()))[0] for point in points]
        yield Slide("Summary", rendered("\n".join(f"- {point}" for point in firsts)))


def code_slides(cell: Any, headline: str, made: Deck, near: list[str]) -> Iterator[Slide]:
    """A figure, an interactive, the questions, or code with what it printed."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    if "Quiz(" in cell.source:
        for question in read_questions(made.name)[:QUESTIONS]:
            yield Slide("Check yourself", asked(question), answers(question))
    elif figure and NOT_SHOWN in figure["caption"]:
        return
    elif figure:
        name = f"{made.name}-{cell.id}"
        picture = next(found(cell, "image/png"), None)
        if picture is None:
            raise DeSTSegError(
                f"{made.name}: cell {cell.id!r} has no picture; run 'make book', which executes it"
            )
        file, content = light(name, base64.b64decode(picture))
        made.pictures[file] = content
        alt = escape(cell.metadata["mystnb"]["image"]["alt"], quote=True)
        caption = figure["caption"]
        body = f'<img src="pictures/{file}" alt="{alt}">{rendered(shortened(caption, 30))}'
        yield Slide(headline, f'<div class="figure">{body}</div>', (caption,))
    elif "destseg_lib.widgets import" in cell.source:
        anchor = f"../book/{made.name}.html#{make_id(headline)}"
        ask = rendered(shortened(next(tries(near), ""), 40))
        link = f'<p class="try"><a href="{anchor}">Open the interactive in the chapter</a></p>'
        yield Slide(headline, ask + link)
    elif table := next(found(cell, "text/html"), ""):
        yield Slide(headline, f'<div class="table">{table}</div>')
    else:
        code = highlight(cell.source, PythonLexer(), HtmlFormatter(cssclass="code"))
        outputs = [o for o in cell.get("outputs", []) if o.get("name") == "stdout"]
        text = "".join(output["text"] for output in outputs)
        lines = text.rstrip().splitlines()[:LINES]
        printed = f'<pre class="printed">{escape(chr(10).join(lines))}</pre>' if lines else ""
        yield Slide(headline, code + printed)


def tries(near: list[str]) -> Iterator[str]:
    """What the text around an interactive asks for: a paragraph that begins so, or its first."""
    texts = [COMMENT.sub("", text).split("\n\n") for text in near]
    for paragraph in (one for text in texts for one in text):
        if paragraph.startswith("**Try"):
            yield paragraph
    for paragraph in (one for text in reversed(texts) for one in text):
        if not paragraph.startswith(("#", "**You", "- ")):
            yield paragraph


def found(cell: Any, kind: str) -> Iterator[str]:
    """What a cell left, of one MIME type."""
    for output in cell.get("outputs", []):
        if kind in output.get("data", {}):
            yield output["data"][kind]


def light(name: str, picture: bytes) -> tuple[str, bytes]:
    """A picture as the book's pages carry it, and its file's name."""
    smaller = photographic(picture)
    return (f"{name}.jpg", smaller) if smaller else (f"{name}.png", lightened(picture))


def asked(question: Question) -> str:
    """A question with its choices; the right one is marked at the next step."""
    mark = '<span class="fragment right"> right</span>'
    choices = "".join(
        f"<li>{rendered(marked(c.text), inline=True)}{mark if c.right else ''}</li>"
        for c in question.choices
    )
    return f'{rendered(marked(question.ask))}<ol class="choices">{choices}</ol>'


def answers(question: Question) -> tuple[str, ...]:
    """Why each choice is right or wrong, for the speaker."""
    return tuple(
        f"*{marked(c.text)}* {'**Right.** ' if c.right else ''}{marked(c.because)}"
        for c in question.choices
    )


# Words


def plain(text: str) -> str:
    """A heading without marks."""
    return re.sub(r"[*`]", "", text).strip()


def shortened(text: str, words: int) -> str:
    """The first sentences that fit, at least one."""
    kept: list[str] = []
    for sentence in SENTENCE.split(text.strip()):
        if kept and len(" ".join([*kept, sentence]).split()) > words:
            break
        kept.append(sentence)
    return " ".join(kept)


def _formula(content: str, options: dict[str, Any]) -> str:
    return escape(f"\\[{content}\\]" if options["display_mode"] else f"\\({content}\\)")


def rendered(text: str, *, inline: bool = False) -> str:
    """Markdown as HTML; links lead from the slides to the chapters, and none within a chapter."""
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=_formula)
    html = str(reader.renderInline(text) if inline else reader.render(text))
    html = WITHIN.sub(r"\1", html)  # what it leads to is not in the deck
    return CHAPTER_LINK.sub(r'href="../book/\1.html', html)


# Files


def write(decks: list[Deck], out: Path) -> None:
    """Write decks, pictures and the page that lists them."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    for one in decks:
        sections = "\n".join(map(section, one.slides))
        (out / f"{one.name}.html").write_text(
            page.replace("{{title}}", escape(one.title)).replace("{{slides}}", sections),
            encoding="utf-8",
        )
        for name, content in one.pictures.items():
            (out / "pictures" / name).write_bytes(content)
    rows = "".join(
        f'<li><a href="{one.name}.html">{escape(one.title)}</a> ({len(one.slides)} slides)</li>'
        for one in decks
    )
    back = '<p class="aside"><a href="../index.html">The book</a></p>'
    listing = f"<section><h2>Slides</h2><ul>{rows}</ul>{back}</section>"
    (out / "index.html").write_text(
        page.replace("{{title}}", "Slides").replace("{{slides}}", listing), encoding="utf-8"
    )


def section(slide: Slide) -> str:
    """A slide as reveal.js takes it."""
    notes = "\n\n".join(slide.said)
    aside = f'<aside class="notes">{rendered(notes)}</aside>' if notes else ""
    words = len(re.sub(r"<[^>]+>", " ", slide.body).split())
    dense = ' class="dense"' if words > WORDS or slide.body.count("\n") > LINES else ""
    return f"<section{dense}><h2>{escape(slide.headline)}</h2>{slide.body}{aside}</section>"


if __name__ == "__main__":
    main()
