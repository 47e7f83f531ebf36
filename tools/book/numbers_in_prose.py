"""Compare the numbers in the book's prose with what they come from.

An anchor right after a number is a comment that no front end shows:

    98.6 %<!-- results/tile.json#mean/image_auroc*100 -->   a value of a committed record
    612<!-- cell:draw -->                                   printed by a checked cell

The number must be that value, rounded as the prose rounds it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from notebooks import CHECKED, ROOT

NUMBER = r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?"
ANY_ANCHOR = re.compile(r"<!--\s*(?:results/|cell:).*?-->")
ANCHOR = re.compile(r"<!--\s*(results/[^\s#]+|cell:[^\s#]+)(?:#([^*]+?))?(?:\*(\d+))?\s*-->")
# Between a number and its anchor there may be emphasis, a unit in a word, per cent.
BEFORE = re.compile(rf"({NUMBER})[*_`]*(?:\s?(?:%|[A-Za-zµ]+))?[*_`]*\s?$")


@dataclass(frozen=True)
class Anchored:
    """A number in prose with its anchor.

    Attributes:
        number: where the number is in the text; group 1 is the number alone.
        source: a record's path, or ``cell:`` and the id of a cell.
        key: keys and indices into a record, with slashes between.
        factor: the prose shows the value times this.
    """

    number: re.Match[str]
    source: str
    key: str
    factor: int

    def rounded(self, value: Any) -> Decimal:
        """The value, times the factor, with as many decimals as the prose has."""
        digits = len(self.number[1].partition(".")[2])
        exact = Decimal(str(value)) * self.factor
        return exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)

    def shows(self, value: Any) -> bool:
        """Whether the prose shows this value."""
        return self.rounded(value) == Decimal(self.number[1].replace(",", ""))


def anchors(text: str) -> Iterator[tuple[str, Anchored | None]]:
    """Every anchor of a text as it is written; None where it cannot be read or has no number."""
    for loose in ANY_ANCHOR.finditer(text):
        hit, number = ANCHOR.fullmatch(loose[0]), BEFORE.search(text, 0, loose.start())
        found = number and hit and Anchored(number, hit[1], hit[2] or "", int(hit[3] or 1))
        yield loose[0], found or None


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
        if cell["id"] == name and CHECKED in cell["metadata"].get("tags", []):
            outputs = cell["outputs"]
            parts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs]
            return "\n".join("".join(part) for part in parts)
    raise KeyError(f"no checked cell {name}")


def recorded(file: str, key: str, root: Path) -> Any:
    """One value of a record, by its keys and indices with slashes between.

    Of a list of records, one in each line (``.jsonl``), the first key is the number of the line.
    """
    text = (root / file).read_text(encoding="utf-8")
    lines = file.endswith(".jsonl")
    value = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    for part in key.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def stale(path: Path, root: Path = ROOT) -> list[str]:
    """Anchors of a file whose number is not what it says, one sentence for each."""
    found = []
    for written, anchored in (pair for text in texts(path) for pair in anchors(text)):
        if anchored is None:
            found.append(f"{path.name}: {written} does not follow a number or cannot be read")
            continue
        source, key = anchored.source, anchored.key
        try:
            if source.startswith("cell:"):
                numbers = re.findall(NUMBER, printed(path, source[5:]))
                values = [number.replace(",", "") for number in numbers]
            else:
                values = [recorded(source, key, root)]
            fits = any(anchored.shows(value) for value in values)
        except (OSError, LookupError, ValueError, TypeError, InvalidOperation) as error:
            found.append(f"{path.name}: {written} leads nowhere: {error}")
            continue
        if not fits:
            says = f"{source}{key and f'#{key}'} says {', '.join(map(str, values[:8]))}"
            found.append(f"{path.name}: {anchored.number[1]} is stale: {says}")
    return found


def updated(text: str, root: Path = ROOT) -> str:
    """The text with every number that a record anchors as the record says, rounded as before."""
    for _, anchored in reversed(list(anchors(text))):  # from the end: places before stay
        if anchored and not anchored.source.startswith("cell:"):
            value = anchored.rounded(recorded(anchored.source, anchored.key, root))
            comma = "," if "," in anchored.number[1] else ""
            start, end = anchored.number.span(1)
            text = f"{text[:start]}{value:{comma}f}{text[end:]}"
    return text


def prose(root: Path = ROOT) -> list[Path]:
    """The files whose prose is read."""
    files = [path for kind in ("md", "ipynb") for path in (root / "book").rglob(f"*.{kind}")]
    return sorted(path for path in files if ".ipynb_checkpoints" not in path.parts)


if __name__ == "__main__":
    problems = [line for path in prose() for line in stale(path)]
    sys.exit("\n".join(problems) or None)
