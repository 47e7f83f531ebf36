"""Every built page in a real browser, as a reader meets it: `make browser` after `make book`."""

from __future__ import annotations

from pathlib import Path

import check_book
import pytest
from playwright.sync_api import Browser

from . import checks

ROOT = Path(__file__).resolve().parent.parent.parent
AXE = ROOT / "_vendor" / "axe.min.js"
PAGES = check_book.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_from_disk_is_whole_can_be_read_by_everyone_and_answers_to_mouse_and_keyboard(
    name: str, browser: Browser, html: Path
):
    root = html.as_uri() + "/"
    with checks.visit(browser, f"{root}{name}.html", root) as seen:
        assert checks.quiet(seen) == []
        assert checks.light_enough(seen, html, root) == []
        assert checks.described(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []
        assert checks.answers(seen.page) == []
        assert checks.quiet(seen) == [], "after it was played with"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_by_http_is_whole_and_suits_a_telephone_in_the_dark(
    name: str, served: str, browser: Browser, html: Path
):
    address = f"{served}{name}.html"
    with checks.visit(browser, address, served, dark=True, narrow=True) as seen:
        assert checks.quiet(seen) == []
        assert checks.light_enough(seen, html, served) == []
        assert checks.alive(seen.page) == []
        assert checks.fits(seen.page) == []
        assert checks.dark_enough(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []


def test_links_within_the_book_lead_somewhere(html: Path):
    found = {
        page.relative_to(html).as_posix(): checks.broken_links(html, page)
        for page in html.rglob("*.html")
        if not page.relative_to(html).parts[0].startswith("_")
    }
    assert {page: links for page, links in found.items() if links} == {}
    assert len(found) >= len(PAGES)


def test_search_finds_the_word_threshold(root: str, browser: Browser):
    with checks.visit(browser, f"{root}search.html?q=threshold", root) as seen:
        seen.page.wait_for_selector("#search-results li a", timeout=10_000)
        assert checks.quiet(seen) == []


def test_a_setting_in_python_and_in_the_page_are_checked_apart():
    # The page must not get its values from those that it is compared with.
    scripts = sorted((ROOT / "destseg_lib" / "widgets").glob("*.js"))
    assert scripts
    for script in scripts:
        assert "checks" not in script.read_text(encoding="utf-8"), script.name


def test_a_choice_in_a_quiz_says_why_by_mouse_and_by_keys(root: str, browser: Browser):
    with checks.visit(browser, f"{root}book/12_limits.html", root, narrow=True) as seen:
        question = seen.page.locator(".quiz fieldset").first
        reasons = question.locator(".because")
        assert [reason.is_visible() for reason in reasons.all()] == [False] * 3
        wrong = question.locator(".wrong").first
        wrong.locator("label").click()
        assert wrong.locator(".because").inner_text().startswith("✗ No.")
        while not question.locator(".right input").is_checked():
            seen.page.keyboard.press("ArrowDown")
        shown = [reason.inner_text() for reason in reasons.all() if reason.is_visible()]
        assert [text[:8] for text in shown] == ["✓ Right."]


def test_the_landing_page_shows_curves_and_counts_to_those_who_ask(root: str, browser: Browser):
    with checks.visit(browser, f"{root}book/index.html", root) as seen:
        element = seen.page.locator('[data-element="ThresholdExplorer"]')
        element.scroll_into_view_if_needed()
        assert element.locator("canvas").first.is_visible()
        assert not element.locator(".plots, .values").first.is_visible()
        element.locator("summary").press("Enter")
        for part in (".plots", ".values"):
            assert element.locator(part).is_visible()
