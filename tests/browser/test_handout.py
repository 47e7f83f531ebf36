"""The pages that an instructor hands out: whole, alive, and without solutions."""

from __future__ import annotations

from pathlib import Path

from handout import build_handout
from playwright.sync_api import Browser

from . import checks
from .conftest import serve


def test_a_handed_out_page_is_alive_and_has_no_solution(
    tmp_path: Path, browser: Browser, html: Path
) -> None:
    pages = build_handout(tmp_path, ["04_student_teacher"])
    solutions = {
        name: (pages / "book" / f"{name}.html").read_text("utf-8").count("Show the solution")
        for name in ("02_measuring", "04_student_teacher")
    }
    built = (html / "book" / "02_measuring.html").read_text("utf-8")
    assert built.count("Show the solution") > 2
    assert solutions["02_measuring"] == 0 and solutions["04_student_teacher"] > 2
    server = serve(pages)
    root = f"http://127.0.0.1:{server.server_port}/"
    try:
        with checks.visit(browser, f"{root}book/02_measuring.html", root) as seen:
            assert checks.alive(seen.page) == []
            assert checks.quiet(seen) == []
    finally:
        server.shutdown()
