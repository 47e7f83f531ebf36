"""Check the built book: every page of the table of contents, no failed notebook, no other host.

Jupyter Book 1.x ends with exit status 0 after some failures, so its word is not enough.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
EXECUTED = ROOT / "_build" / "jupyter_execute"
# What Sphinx writes of its own accord: the index, the search page and the way to the first page.
BESIDES = {"genindex", "search", "index", "py-modindex"}
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
         "audio": "src", "embed": "src", "object": "data"}  # fmt: skip
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect"}
# MyST makes a link of whatever looks like an address, and some countries are called md and py;
# _config.yml tells it not to, unless a scheme stands before it.
NO_ADDRESS = re.compile(r'href="https?://([\w-]+\.(?:md|py|sh))/?"', re.I)
ELSEWHERE = re.compile(r"\s*(?:[a-z]+:)?//", re.I)
# Pages do not show stderr, where progress bars go. A bar: "name:  40%|####  | 2/5 [...]", or the
# count alone where the end is unknown, "3it [00:01, 2.1it/s]".
BAR = re.compile(r"(.*: )?\s*(\d+%\|.*|\d+\w* \[\d\d:\d\d.*\])\s*")


def pages(entry: object) -> Iterator[str]:
    """Every page that a table of contents names, in its order, without suffix."""
    if isinstance(entry, list):
        for item in entry:
            yield from pages(item)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("root", "file"):
                yield Path(value).with_suffix("").as_posix()
            else:
                yield from pages(value)


class Loaded(HTMLParser):
    """Collects what a page makes the browser fetch; what a reader may follow is not in it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of the address that a tag loads."""
        given = {name: value or "" for name, value in attrs}
        if tag in LOADS:
            self.addresses.append(given.get(LOADS[tag], ""))
        elif tag == "link" and LOADING_LINKS & set(given.get("rel", "").split()):
            self.addresses.append(given.get("href", ""))
        for candidate in given.get("srcset", "").split(","):
            self.addresses.append(candidate)


def foreign(page: str) -> list[str]:
    """The addresses on other hosts that a page loads by itself."""
    reader = Loaded()
    reader.feed(page)
    return [address for address in reader.addresses if ELSEWHERE.match(address)]


def warnings(notebook: dict[str, Any]) -> list[str]:
    """What the cells of a notebook that was run wrote to stderr, progress bars apart."""
    streams = [
        output["text"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    lines = re.split(r"[\r\n]|\x1b\[A", "\n".join("".join(text) for text in streams))
    return [line for line in lines if line.strip() and not BAR.fullmatch(line)]


def problems() -> list[str]:
    """What is wrong with the built book, a sentence each; empty when it is whole."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    wanted = list(pages(toc))
    built = {
        page.relative_to(HTML).with_suffix("").as_posix()
        for page in HTML.rglob("*.html")
        if not page.relative_to(HTML).parts[0].startswith("_")
    }
    found = [
        f"{page} stands in _toc.yml but was not built." for page in wanted if page not in built
    ]
    found += [
        f"{page} was built but does not stand in _toc.yml."
        for page in sorted(built - BESIDES - set(wanted))
    ]
    found += [
        f"A cell failed: see {report.relative_to(ROOT)}." for report in HTML.rglob("*.err.log")
    ]
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
    found += [
        f"{sheet.relative_to(HTML)} loads {hit[1]} from another host."
        for sheet in HTML.rglob("*.css")
        for hit in re.finditer(
            r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)",
            sheet.read_text(encoding="utf-8"),
        )
    ]
    return found


if __name__ == "__main__":
    found = problems()
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(bool(found))
