"""A link of the text sets an interactive to what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from . import checks
from .test_book import PAGES, ROOT

SAYS = re.compile(r'\]\(#[\w-]+ \\"set [^"]+\\"\)')
WITH_LINKS = [
    name
    for name in PAGES
    if (source := ROOT / f"{name}.ipynb").is_file() and SAYS.search(source.read_text("utf-8"))
]


def labelled(box: Locator, label: str) -> Locator:
    found = box.locator(".control label", has_text=re.compile(f"^{re.escape(label)}$"))
    return box.locator(f"[id='{found.get_attribute('for')}']")


@pytest.mark.parametrize("name", WITH_LINKS)
def test_each_link_sets_what_it_says(name: str, html: Path, browser: Browser) -> None:
    root = html.as_uri() + "/"  # by http the same scripts are loaded
    with checks.visit(browser, f"{root}{name}.html", root) as seen:
        links = seen.page.locator("a[title^='set ']").all()
        assert links
        for link in links:
            link.evaluate("link => { link.focus(); link.click(); }")
            said = link.get_attribute("title") or ""
            settings = [one.rsplit(" to ", 1) for one in said.removeprefix("set ").split("; ")]
            boxes = seen.page.locator(".destseg")
            where = [
                box
                for box in boxes.all()
                if all(labelled_count(box, label) for label, _ in settings)
                and link.evaluate(
                    "(link, box) => !!(document.getElementById(link.hash.slice(1))"
                    ".compareDocumentPosition(box) & 20)",
                    box.element_handle(),
                )
            ]
            assert where, f"{said}: there is no such interactive"
            for label, wanted in settings:
                control = labelled(where[0], label)
                text = control.evaluate(
                    "c => c.selectedOptions ? c.selectedOptions[0].text : c.ariaValueText"
                )
                if wanted == "the end":
                    assert control.evaluate("c => c.value === c.max")
                elif text != wanted:
                    assert abs(float(re.sub(r"[^\d.-]", "", text)) - float(wanted)) < 0.006, text
        assert checks.quiet(seen) == []


def labelled_count(box: Locator, label: str) -> int:
    return box.locator(".control label", has_text=re.compile(f"^{re.escape(label)}$")).count()


def test_the_chapters_that_ask_to_move_a_handle_have_such_links() -> None:
    assert len(WITH_LINKS) >= 8, [Path(name).name for name in WITH_LINKS]
