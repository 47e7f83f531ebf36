"""Check that the built book has every page of the table of contents and no failed notebook.

Jupyter Book 1.x ends with exit status 0 after some failures, so its word is not enough.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"


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


def problems() -> list[str]:
    """What is wrong with the built book, a sentence each; empty when it is whole."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [
        f"{page} stands in _toc.yml but was not built."
        for page in pages(toc)
        if not (HTML / f"{page}.html").is_file()
    ]
    found += [
        f"A cell failed: see {report.relative_to(ROOT)}." for report in HTML.rglob("*.err.log")
    ]
    return found


if __name__ == "__main__":
    found = problems()
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(bool(found))
