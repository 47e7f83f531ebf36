"""Check the built book: every page of the table of contents, no failed notebook, no other host.

Jupyter Book 1.x ends with exit status 0 after some failures, so that status is not enough.
"""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
EXECUTED = ROOT / "_build" / "executed"
# Pages that Sphinx adds by itself: the index, the search page and the link to the first page.
ADDED = {"genindex", "search", "index", "py-modindex"}
SLIDES = "slides/"  # tools/book/slides.py writes them
LOADING_TAGS = {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect"}
# MyST makes a link of anything that looks like an address, and md and py are country codes;
# _config.yml tells it not to, except after a scheme.
NO_ADDRESS = re.compile(r'href="https?://([\w-]+\.(?:md|py|sh))/?"', re.I)
ELSEWHERE = re.compile(r"\s*(?:[a-z]+:)?//", re.I)
STYLE_LOADS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
# Pages do not show stderr, where progress bars go. A bar: "name:  40%|####  | 2/5 [...]", or the
# count alone where the end is unknown, "3it [00:01, 2.1it/s]".
BAR = re.compile(r"(.*: )?\s*(\d+%\|.*|\d+\w* \[\d\d:\d\d.*\])\s*")


def pages() -> list[str]:
    """Every page that the table of contents names, in its order, without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    named = re.findall(r"'(?:root|file)': '([^']+)'", str(toc))
    return [Path(page).with_suffix("").as_posix() for page in named]


class Loaded(HTMLParser):
    """Collects the addresses that a browser fetches by itself, not those a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses that a tag loads."""
        given = {name: value or "" for name, value in attrs}
        if tag in LOADING_TAGS or (
            tag == "link" and LOADING_LINKS & {*given.get("rel", "").split()}
        ):
            self.addresses += [given.get(name, "") for name in ("src", "data", "href")]
            self.addresses += given.get("srcset", "").split(",")


def foreign(page: str) -> list[str]:
    """The addresses on other hosts that a page loads by itself."""
    reader = Loaded()
    reader.feed(page)
    return [address for address in reader.addresses if ELSEWHERE.match(address)]


def warnings(notebook: dict[str, Any]) -> list[str]:
    """The lines that the cells of a notebook wrote to stderr, without progress bars."""
    streams = [
        output["text"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    lines = re.split(r"[\r\n]|\x1b\[A", "\n".join("".join(text) for text in streams))
    return [line for line in lines if line.strip() and not BAR.fullmatch(line)]


def problems() -> list[str]:
    """What is wrong with the built book, one sentence for each finding."""
    wanted = pages()
    built = {
        page.relative_to(HTML).with_suffix("").as_posix()
        for page in HTML.rglob("*.html")
        if not page.relative_to(HTML).parts[0].startswith("_")
    }
    found = [f"{page} is in _toc.yml but was not built." for page in wanted if page not in built]
    pages_alone = {page for page in built if not page.startswith(SLIDES)}
    extra = sorted(pages_alone - ADDED - set(wanted))
    found += [f"{page} was built but is not in _toc.yml." for page in extra]
    chapters = {page.removeprefix("book/") for page in wanted if re.match(r"book/\d\d", page)}
    decks = {page.removeprefix(SLIDES) for page in built - pages_alone}
    found += [f"{name} has no slides." for name in sorted(chapters - decks)]
    failed = HTML.rglob("*.err.log")
    found += [f"A cell failed: see {report.relative_to(ROOT)}." for report in failed]
    for run in sorted(EXECUTED.rglob("*.ipynb")):
        notebook = json.loads(run.read_text(encoding="utf-8"))
        found += [f"{run.stem} warns, unseen: {line}" for line in warnings(notebook)]
    for page in sorted(built):
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        found += [
            f"{page} loads {address} from another host; it must come with the book."
            for address in foreign(text)
        ]
        found += [
            f"{page} makes a link of the file name {name}; write it as code."
            for name in NO_ADDRESS.findall(text)
        ]
    for sheet in HTML.rglob("*.css"):
        loads = STYLE_LOADS.findall(sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(HTML)} loads {one} from another host." for one in loads]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems()) or None)
