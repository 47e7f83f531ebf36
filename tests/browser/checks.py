"""Checks of a page of the built book; each returns a list of the problems it found.

They are functions of a page and its address, so that the tests can also show them a broken page.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

HEAVIEST = 4_000_000  # bytes of a page with all it loads, before anyone touches it
NARROW = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}


@dataclass
class Visit:
    """An open page, and what was heard while it loaded."""

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


@contextmanager
def visit(
    browser: Browser, address: str, root: str, *, dark: bool = False, narrow: bool = False
) -> Iterator[Visit]:
    """Open a page in a browser that knows nothing yet, and wait until it has come to rest.

    Args:
        browser: any.
        address: of the page, http or file.
        root: the book's own address; requests to other addresses are refused and noted.
        dark: the reader's system prefers dark colours.
        narrow: on a telephone.
    """
    context = browser.new_context(
        viewport=NARROW if narrow else WIDE, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    seen = Visit(page)

    def request(route: Any) -> None:
        url = route.request.url
        if url.startswith((root, "data:", "blob:")):
            seen.loaded.append(url)
            route.continue_()
        else:
            seen.elsewhere.append(url)
            route.abort()

    context.route("**/*", request)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(address, wait_until="load")
    views = page.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
    if views:
        # A dead one never comes: the checks count them afterwards.
        page.wait_for_timeout(100)
        for _ in range(60):
            if page.locator(".destseg .value output, .jupyter-widgets").count() >= views:
                break
            page.wait_for_timeout(100)
    if page.locator(".math").count():
        page.wait_for_function("!window.MathJax?.startup?.promise || "
                               "MathJax.startup.promise.then(() => true)")  # fmt: skip
    page.wait_for_timeout(150)
    try:
        yield seen
    finally:
        context.close()


def quiet(seen: Visit) -> list[str]:
    """No error in the console, nothing asked of another host, formulas and icons drawn."""
    found = [f"console: {text}" for text in seen.errors]
    found += [f"asked for {address}" for address in seen.elsewhere]
    page = seen.page
    if page.locator(".math").count() and not page.locator("mjx-container").count():
        found.append("formulas are not drawn")
    found += ["a formula cannot be read"] * page.locator("mjx-merror, .MathJax_Error").count()
    found += ["an icon is missing from tools/book/vendor.py"] * page.locator("svg .missing").count()
    return found


def light_enough(seen: Visit, html: Path, root: str) -> list[str]:
    """The page and all it loads weigh no more than they may."""
    files = {unquote(urlparse(address).path) for address in seen.loaded if "://" in address}
    prefix = unquote(urlparse(root).path)
    weight = sum(
        file.stat().st_size
        for path in files
        if (file := html / path.removeprefix(prefix).lstrip("/")).is_file()
    )
    return [] if weight <= HEAVIEST else [f"weighs {weight / 1e6:.1f} MB with all it loads"]


def described(page: Page) -> list[str]:
    """Every picture of the text has an alternative that says what it shows."""
    found = []
    for image in page.locator("article img, .bd-article img, .destseg [role=img]").all():
        text = image.get_attribute("alt") or image.get_attribute("aria-label") or ""
        if len(text) < 10 or re.search(r"\.(png|jpe?g|svg)$|^_images|^\.\./", text):
            found.append(f"a picture is described as {text!r}; say what it shows")
    return found


def fits(page: Page) -> list[str]:
    """Nothing is wider than the screen."""
    width, room = page.evaluate(
        "[document.scrollingElement.scrollWidth, document.documentElement.clientWidth]"
    )
    if width <= room:
        return []
    culprits = page.evaluate(
        """(room) => [...document.querySelectorAll("article *, .bd-main *")]
        .filter((node) => node.getBoundingClientRect().right > room + 1)
        .slice(0, 4).map((node) => node.tagName + "." + node.className)"""
    , room)  # fmt: skip
    return [f"is {width} pixels wide on a screen of {room}: {culprits}"]


def accessible(page: Page, axe: Path) -> list[str]:
    """No serious finding of axe-core, contrast included."""
    page.add_script_tag(path=axe)
    # A page from disk may not ask for its style sheets again, and no rule in use reads them.
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
    return [
        f"{finding['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for finding in result["violations"]
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"][:3]
    ]


def dark_enough(page: Page) -> list[str]:
    """A reader who prefers the dark gets it; whether it can be read, axe-core says."""
    light = page.evaluate(
        """getComputedStyle(document.body).backgroundColor.match(/\\d+/g)
        .slice(0, 3).map(Number).reduce((a, b) => a + b)"""
    )
    return [] if light < 200 else ["stays light where the reader prefers dark"]


def canvas_pixels(canvas: Locator) -> np.ndarray:
    """What an opaque canvas shows, (H, W, 3), handed over as a PNG: small, and without a loss."""
    address = canvas.evaluate("node => node.toDataURL()")
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(image.convert("RGB"))


# Interactives


def states(page: Page) -> dict[str, Any]:
    """The state of each widget of the page, by its id."""
    script = page.locator('script[type="application/vnd.jupyter.widget-state+json"]')
    if not script.count():
        return {}
    return {
        name: model["state"]
        for name, model in json.loads(script.first.text_content() or "{}")["state"].items()
    }


def alive(page: Page) -> list[str]:
    """Every interactive of the page has come to life."""
    return interactives(page)[0]


def answers(page: Page) -> list[str]:
    """Every interactive, at five settings reached by mouse and keyboard, shows Python's values."""
    found, ours = interactives(page)
    if found:
        return found
    for number, state in enumerate(ours):
        found += driven(page, elements(page).nth(number), state["checks"])
    return found


def interactives(page: Page) -> tuple[list[str], list[dict[str, Any]]]:
    """What is wrong with the page's widgets, and the states of those that say what they show."""
    models = states(page)
    scripts = page.locator('script[type="application/vnd.jupyter.widget-view+json"]')
    views = [json.loads(text)["model_id"] for text in scripts.all_text_contents()]
    found = [f"a widget has no state: {view}" for view in views if view not in models]
    ours = [models[view] for view in views if "checks" in models.get(view, {})]
    if (drawn := elements(page).count()) != len(ours):
        found.append(f"{drawn} of {len(ours)} interactives are alive")
    return found, ours


def elements(page: Page) -> Locator:
    """The interactives; the live page has its own tests: it loads nothing before it is asked to."""
    return page.locator(".destseg[data-element]:not([data-live] *)")


def driven(page: Page, element: Locator, checks: list[dict[str, Any]]) -> list[str]:
    """Drive one element through its settings."""
    name = element.get_attribute("data-element")
    if len(checks) < 5:
        return [f"{name} has {len(checks)} settings to be checked at; five are needed"]
    found = []
    moved = False
    before = shown(element)
    for number, check in enumerate(checks):
        for setting, value in check["settings"].items():
            moved |= brought_to(page, element, setting, value, by_mouse=number % 2 == 0)
        page.wait_for_timeout(30)
        now = shown(element)
        wrong = {k: (now.get(k), v) for k, v in check["values"].items() if now.get(k) != v}
        if wrong:
            found.append(f"{name} at {check['settings']} shows (page, Python): {wrong}")
        moved |= now != before
    if not moved:
        found.append(f"{name} does not answer to mouse and keyboard")
    return found


def shown(element: Locator) -> dict[str, str]:
    """The values that an element displays."""
    return {
        str(output.get_attribute("data-value")): (output.text_content() or "").strip()
        for output in element.locator("[data-value]").all()
    }


def brought_to(page: Page, element: Locator, name: str, target: Any, by_mouse: bool) -> bool:
    """Bring one control to a value as a reader does; whether the mouse moved it."""
    control = element.locator(f'[data-setting="{name}"]').first
    control.scroll_into_view_if_needed()
    if control.evaluate("node => node.tagName") == "SELECT":
        control.select_option(str(target))
        return False
    if control.get_attribute("type") == "checkbox":
        if control.is_checked() != bool(target):
            if by_mouse:
                control.click()
            else:
                control.press("Space")
        return by_mouse
    low, high, step = (float(control.get_attribute(key) or 1) for key in ("min", "max", "step"))
    before = float(control.input_value())
    clicked = False
    if by_mouse:
        box = control.bounding_box()
        assert box
        thumb = 16
        share = (float(target) - low) / (high - low)
        page.mouse.click(
            box["x"] + thumb / 2 + share * (box["width"] - thumb), box["y"] + box["height"] / 2
        )
        clicked = float(control.input_value()) != before
    control.focus()
    if not by_mouse:
        control.press("End" if float(target) - low > (high - low) / 2 else "Home")
    # A page's key moves by about a tenth of the way: never past the target.
    leap = math.ceil((high - low) / 10 / step)
    for _ in range(40):
        left = round((float(target) - float(control.input_value())) / step)
        if not left:
            break
        keys, times = ("ArrowRight", "ArrowLeft"), abs(left)
        if times > 2 * leap:
            keys, times = ("PageUp", "PageDown"), times // leap - 1
        for _ in range(times):
            control.press(keys[left < 0])
    return clicked


# Links, without a browser


class Links(HTMLParser):
    """The addresses that a page links to, and the places in it that may be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def read_links(file: Path) -> Links:
    return _read_links(file, file.stat().st_mtime_ns)


@cache  # every page links to every other
def _read_links(file: Path, changed: int) -> Links:
    links = Links()
    links.feed(file.read_text(encoding="utf-8"))
    return links


def broken_links(html: Path, file: Path) -> list[str]:
    """Links within the book that lead nowhere."""
    found = []
    for link in read_links(file).links:
        if urlparse(link).scheme or link.startswith("//") or link == "#":
            continue
        place, anchor = urldefrag(urljoin(file.as_uri(), link))
        target = Path(unquote(urlparse(place).path))
        if not target.is_file():
            found.append(f"{link} leads nowhere")
        elif (
            anchor and target.suffix == ".html" and unquote(anchor) not in read_links(target).places
        ):
            found.append(f"{link} names a place that is not there")
    return found
