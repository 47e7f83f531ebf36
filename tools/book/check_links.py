"""Request every address outside the built book that it links to; the tests make no requests."""

from __future__ import annotations

import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
LINK = re.compile(r'<a\s[^>]*href="(https?://[^"#]+)')
# Some hosts refuse programs that are not browsers; their links are not broken.
REFUSALS = {401, 403, 405, 418, 429, 999}


def answer(address: str) -> str:
    """Why an address cannot be followed; empty if it can."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except HTTPError as error:
        return "" if error.code in REFUSALS else f"status {error.code}"
    except OSError as error:
        return str(error)


def main() -> None:
    """Print the links that lead nowhere, each with a page that has it."""
    pages = {
        address: page.relative_to(HTML).as_posix()
        for page in sorted(HTML.rglob("*.html"), reverse=True)
        for address in LINK.findall(page.read_text(encoding="utf-8"))
    }
    if not HTML.is_dir():
        sys.exit("There is no built book: run 'make book' first.")
    with ThreadPoolExecutor(8) as pool:
        answers = zip(pages, pool.map(answer, pages), strict=True)
        broken = [f"{pages[a]}: {a}: {why}" for a, why in answers if why]
    print(f"{len(pages)} addresses requested, {len(broken)} of them broken")
    sys.exit("\n".join(broken) or None)


if __name__ == "__main__":
    main()
