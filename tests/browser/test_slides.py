"""The slides in a real browser: by keys, on a telephone, in the dark, from disk, for everyone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from . import checks
from .test_book import AXE, PAGES

DECKS = [Path(name).name for name in PAGES if Path(name).name[:2].isdigit()]


def slides_of(page: Page) -> int:
    page.wait_for_function("window.Reveal?.isReady()")
    return int(page.evaluate("Reveal.getTotalSlides()"))


@pytest.mark.parametrize("name", DECKS)
def test_a_deck_is_shown_whole_by_keys(name: str, root: str, browser: Browser) -> None:
    with checks.visit(browser, f"{root}slides/{name}.html", root) as seen:
        page, passed = seen.page, []
        count = slides_of(page)
        for _ in range(count + 4):  # an answer is a step more
            passed.append(page.evaluate("Reveal.getIndices().h"))
            # A long piece of code scrolls a little; nothing else does.
            over = page.evaluate(
                "(() => { const s = Reveal.getCurrentSlide();"
                " return [s.scrollHeight - s.clientHeight, s.scrollWidth - s.clientWidth]; })()"
            )
            assert over[0] <= 120 and over[1] <= 1, f"slide {passed[-1] + 1}: {over}"
            page.keyboard.press("ArrowRight")
        assert sorted(set(passed)) == list(range(count))
        pictures = page.locator(".figure img")
        for picture in pictures.all():
            assert len(picture.get_attribute("alt") or "") > 10
        assert pictures.count() >= 2
        assert page.locator("aside.notes").count() > count / 2
        assert page.locator("mjx-merror").count() == 0
        assert checks.quiet(seen) == []


@pytest.mark.parametrize("name", ["04_student_teacher", "12_limits", "index"])
def test_a_deck_suits_a_telephone_in_the_dark(name: str, served: str, browser: Browser) -> None:
    address = f"{served}slides/{name}.html"
    with checks.visit(browser, address, served, dark=True, narrow=True) as seen:
        for number in range(slides_of(seen.page)):
            seen.page.evaluate(f"Reveal.slide({number})")
            size = seen.page.evaluate(
                "parseFloat(getComputedStyle("
                "Reveal.getCurrentSlide().querySelector('p, li, h2')).fontSize)"
            )
            assert size >= 12
            assert checks.fits(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []


def test_an_answer_comes_a_step_after_its_question(served: str, browser: Browser) -> None:
    with checks.visit(browser, f"{served}slides/02_measuring.html", served) as seen:
        last = slides_of(seen.page) - 1
        seen.page.evaluate(f"Reveal.slide({last})")
        right = seen.page.locator("section.present .right")
        expect(right).to_have_css("visibility", "hidden")
        seen.page.keyboard.press("ArrowRight")
        expect(right).to_have_css("visibility", "visible")
