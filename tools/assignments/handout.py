"""Write the chapters as they are handed out: without the solutions of their exercises.

    python tools/assignments/handout.py --out handout --keep 02_measuring

Cells with the tag ``solution`` are left out; nothing after them depends on them. Answers in words
under "Check yourself" stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from destseg_lib.errors import DeSTSegError

BOOK = Path(__file__).resolve().parents[2] / "book"


def main() -> None:
    """Read the command line and write the chapters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("handout"))
    parser.add_argument("--keep", nargs="*", default=[], help="chapters that keep their solutions")
    arguments = parser.parse_args()
    try:
        removed = write_handout(arguments.out, arguments.keep)
    except DeSTSegError as error:
        sys.exit(str(error))
    print(f"{arguments.out}: {removed} solutions left out")


def write_handout(out: Path, keep: list[str], book: Path = BOOK) -> int:
    """Write every chapter to ``out``; the number of solutions that were left out.

    Raises:
        DeSTSegError: a chapter of ``keep`` does not exist.
    """
    chapters = sorted(book.glob("*.ipynb"))
    if unknown := set(keep) - {path.stem for path in chapters}:
        names = ", ".join(path.stem for path in chapters)
        raise DeSTSegError(f"there is no chapter {min(unknown)!r}; choose among {names}")
    out.mkdir(parents=True, exist_ok=True)
    removed = 0
    for path in chapters:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        if path.stem not in keep:
            cells = [c for c in cells if "solution" not in c["metadata"].get("tags", [])]
        removed += len(notebook["cells"]) - len(cells)
        notebook["cells"] = cells
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (out / path.name).write_text(text, encoding="utf-8")
    return removed


if __name__ == "__main__":
    main()
