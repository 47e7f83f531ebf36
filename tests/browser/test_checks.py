"""The checks themselves: each is shown a page that is broken in its own way, and says so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from . import checks
from .conftest import ROOT

PAGE = "book/02_measuring"
AXE = ROOT / "_vendor" / "axe.min.js"
STATE = re.compile(
    r'(<script type="application/vnd.jupyter.widget-state\+json">)(.*?)(</script>)', re.S
)


@pytest.fixture
def spoiled(html: Path, tmp_path: Path) -> Callable[[Callable[[str], str]], tuple[str, str, Path]]:
    """A throw-away site with one page of the book, changed."""

    def make(change: Callable[[str], str]) -> tuple[str, str, Path]:
        site = tmp_path / "site"
        (site / "book").mkdir(parents=True)
        (site / "_static").symlink_to(html / "_static")
        (site / "_images").symlink_to(html / "_images")
        text = (html / f"{PAGE}.html").read_text(encoding="utf-8")
        changed = change(text)
        assert changed != text, "nothing was spoiled"
        (site / f"{PAGE}.html").write_text(changed, encoding="utf-8")
        root = site.as_uri() + "/"
        return f"{root}{PAGE}.html", root, site

    return make


def in_state(change: Callable[[dict], None]) -> Callable[[str], str]:
    """Change the state of the page's own elements."""

    def changed(text: str) -> str:
        def rewrite(hit: re.Match[str]) -> str:
            state = json.loads(hit[2])
            for model in state["state"].values():
                if "checks" in model["state"]:
                    change(model["state"])
            return hit[1] + json.dumps(state).replace("</", "<\\/") + hit[3]

        return STATE.sub(rewrite, text)

    return changed


def dead(state: dict) -> None:
    state["_esm"] = "export default { render() {} }"


def deaf(state: dict) -> None:
    state["_esm"] = state["_esm"].replace('addEventListener("input"', 'addEventListener("never"')


def broken(state: dict) -> None:
    state["_esm"] = "export default { render() { throw new Error('broken'); } }"


def stale(state: dict) -> None:
    values = state["checks"][2]["values"]
    name = sorted(values)[0]
    values[name] += "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dead, "0 of 2 interactives are alive"),
        (broken, "0 of 2 interactives are alive"),
        (deaf, "shows (page, Python)"),
        (stale, "shows (page, Python)"),
    ],
)
def test_an_interactive_that_is_dead_or_wrong_is_noticed(spoiled, browser, change, message):
    address, root, _ = spoiled(in_state(change))
    with checks.visit(browser, address, root) as seen:
        assert message in "\n".join(checks.answers(seen.page))


HEAD_END = "</head>"


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "asked for https://cdn.example/x.js"),
        ("<script>console.error('oh')</script>", "console: oh"),
        ("<script>undefined.x</script>", "console: "),
    ],
)
def test_noise_and_requests_are_noticed(spoiled, browser, added, message):
    address, root, _ = spoiled(lambda text: text.replace(HEAD_END, added + HEAD_END))
    with checks.visit(browser, address, root) as seen:
        assert message in "\n".join(checks.quiet(seen))


def test_a_heavy_wide_undescribed_page_is_noticed(spoiled, browser: Browser):
    added = (
        '<div style="width:900px">wide</div><img src="big.png" alt="">'
        '<p style="color:#ddd;background:#fff">Hardly to be read by anyone.</p>'
    )
    address, root, site = spoiled(lambda text: text.replace("</article>", added + "</article>"))
    (site / "book" / "big.png").write_bytes(bytes(checks.HEAVIEST))
    with checks.visit(browser, address, root, narrow=True) as seen:
        assert "weighs" in checks.light_enough(seen, site, root)[0]
        assert "on a screen of 390" in checks.fits(seen.page)[0]
        assert "a picture is described as ''" in "\n".join(checks.described(seen.page))
        assert "color-contrast" in "\n".join(checks.accessible(seen.page, AXE))
        assert checks.dark_enough(seen.page) == ["stays light where the reader prefers dark"]


def test_a_link_that_leads_nowhere_is_noticed(spoiled):
    added = '<a href="gone.html">x</a><a href="#nowhere">y</a>'
    _, _, site = spoiled(lambda text: text.replace("</article>", added + "</article>"))
    found = "\n".join(checks.broken_links(site, site / f"{PAGE}.html"))
    assert "gone.html leads nowhere" in found
    assert "#nowhere names a place that is not there" in found


def test_a_failing_cell_fails_the_build(html: Path, tmp_path: Path):
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: one\n", encoding="utf-8")
    for name in ("tools", "book/static"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "_vendor", tmp_path / "_vendor")
    notebook = {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# One"},
            {
                "cell_type": "code", "id": "fail", "metadata": {}, "execution_count": None,
                "outputs": [], "source": "assert 1 == 2",
            },
        ],
        "metadata": {"kernelspec": {"display_name": "P", "language": "python", "name": "python3"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    (tmp_path / "one.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    program = str(Path(sys.executable).parent / "jupyter-book")
    command = [program, "build", ".", "--path-output", ".", "--all", "-W", "-n", "--keep-going"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    checked = subprocess.run(
        [sys.executable, "tools/book/check_book.py"], cwd=tmp_path, capture_output=True, check=False
    )
    assert built.returncode or checked.returncode
    assert "AssertionError" in built.stdout + built.stderr
