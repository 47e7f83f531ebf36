"""A headless Chromium and the built book, by http and from disk."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
HTML = ROOT / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no browser waits for it at the end.

    What the tests of a page share takes a minute, so all of them come first: in one process.
    """
    longest = ("test_page", "test_live", "test_handout")
    items.sort(key=lambda item: (*longest, item.path.stem).index(item.path.stem))


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of every request."""


def missing(what: str) -> None:
    """Skip with a word on a reader's machine, fail where nothing may be left out."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def html() -> Path:
    if not (HTML / "index.html").is_file():
        missing("there is no built book to look at: run 'make book' first")
    return HTML


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        missing("there is no Chromium here: install it (Debian and Ubuntu: apt install chromium)")
    with sync_playwright() as driver:
        # Sandboxing needs rights that containers seldom give; the pages are our own.
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def serve(folder: Path) -> ThreadingHTTPServer:
    """A server of one folder on this machine, in a thread of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="session")
def served(html: Path) -> Iterator[str]:
    """The book's address by http."""
    server = serve(html)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(params=["http", "file"])
def root(request: pytest.FixtureRequest, html: Path) -> str:
    """The book's address, by http and from disk."""
    if request.param == "http":
        address: str = request.getfixturevalue("served")
        return address
    return html.as_uri() + "/"
