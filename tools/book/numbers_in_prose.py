"""Hold the numbers in the book's prose to where they come from.

An anchor right after a number is a comment that no front end shows:

    98.6 %<!-- results/tile.json#mean/image_auroc*100 -->   a value of a committed record
    612<!-- cell:draw -->                                   printed by a checked cell

The number must be that value, rounded as the prose rounds it.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?"
# What may stand between a number and its anchor: emphasis, a unit in a word, per cent.
ANCHOR = re.compile(r"<!--\s*(results/[^\s#]+|cell:[^\s#]+)(?:#([^\s*]+))?(?:\*(\d+))?\s*-->")
BEFORE = re.compile(rf"({NUMBER})[*_`]*(?:\s?(?:%|[A-Za-zµ]+))?[*_`]*\s?$")
LOOSE = re.compile(r"<!--\s*(?:results/|cell:).*?-->")


def texts(path: Path) -> list[str]:
    """The prose of a Markdown file or notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [text]
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def printed(path: Path, name: str) -> str:
    """What the checked cell of that id printed when it was committed.

    Raises:
        KeyError: there is no such cell, or nothing compares its output.
    """
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["id"] == name and "nbval-check-output" in cell["metadata"].get("tags", []):
            outputs = cell["outputs"]
            parts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs]
            return "\n".join("".join(part) for part in parts)
    raise KeyError(f"no checked cell {name}")


def recorded(file: str, key: str, root: Path) -> Any:
    """One value of a record, by its keys and indices with slashes between."""
    value = json.loads((root / file).read_text(encoding="utf-8"))
    for part in key.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def rounded(written: str, value: Any, factor: int) -> Decimal:
    """The value, times the factor, rounded as the number is written."""
    digits = len(written.partition(".")[2])
    return (Decimal(str(value)) * factor).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def same(written: str, value: Any, factor: int) -> bool:
    """Whether the value, rounded as the number is written, is that number."""
    return rounded(written, value, factor) == Decimal(written.replace(",", ""))


def stale(path: Path, root: Path = ROOT) -> list[str]:
    """Anchors of a file whose number is not what it says, a sentence each."""
    found = []
    for text in texts(path):
        for loose in LOOSE.finditer(text):
            hit, number = ANCHOR.fullmatch(loose[0]), BEFORE.search(text[: loose.start()])
            if not hit or not number:
                found.append(f"{path.name}: {loose[0]} does not follow a number or cannot be read")
                continue
            source, key, factor = hit[1], hit[2] or "", int(hit[3] or 1)
            try:
                if source.startswith("cell:"):
                    values: list[Any] = re.findall(NUMBER, printed(path, source[5:]))
                    values = [value.replace(",", "") for value in values]
                else:
                    values = [recorded(source, key, root)]
                fits = any(same(number[1], value, factor) for value in values)
            except (
                OSError,
                KeyError,
                IndexError,
                ValueError,
                TypeError,
                InvalidOperation,
            ) as error:
                found.append(f"{path.name}: {loose[0]} leads nowhere: {error}")
                continue
            if not fits:
                shown = ", ".join(str(value) for value in values[:8])
                found.append(
                    f"{path.name}: {number[1]} is stale: {source}{key and f'#{key}'} says {shown}"
                )
    return found


def prose(root: Path = ROOT) -> list[Path]:
    """The files that are looked through."""
    book = root / "book"
    files = [*book.rglob("*.md"), *book.rglob("*.ipynb")]
    return sorted(path for path in files if ".ipynb_checkpoints" not in path.parts)


if __name__ == "__main__":
    problems = [line for path in prose() for line in stale(path)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))
