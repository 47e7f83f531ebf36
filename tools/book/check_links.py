"""Ask every address outside the built book that it links to; the tests ask nobody."""

from __future__ import annotations

import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
LINK = re.compile(r'<a\s[^>]*href="(https?://[^"#]+)')
# Some hosts turn away what does not look like a browser; that does not make a link broken.
REFUSALS = {401, 403, 405, 418, 429, 999}


def answer(address: str) -> str:
    """Why an address cannot be followed; empty when it can."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except HTTPError as error:
        return "" if error.code in REFUSALS else f"status {error.code}"
    except OSError as error:
        return str(error)


def main() -> None:
    """Print the links that lead nowhere, with a page that has each."""
    pages: dict[str, str] = {}
    for page in sorted(HTML.rglob("*.html")):
        for address in LINK.findall(page.read_text(encoding="utf-8")):
            pages.setdefault(address, page.relative_to(HTML).as_posix())
    if not pages and not HTML.is_dir():
        sys.exit("There is no built book: run 'make book' first.")
    with ThreadPoolExecutor(8) as pool:
        answers = zip(pages, pool.map(answer, pages), strict=True)
        broken = [f"{pages[a]}: {a}: {why}" for a, why in answers if why]
    print("\n".join(broken), file=sys.stderr, end="\n" if broken else "")
    print(f"{len(pages)} addresses asked, {len(broken)} of them broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
