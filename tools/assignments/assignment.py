"""An assignment: its text, what is drawn from the instructor's secret, and its hidden tests.

``assignments/NAME.md`` is the instructor notebook as text. A fence says what a cell is:

    ```python               a cell for everybody
    ```python question Q    the answer to question Q; lines between # BEGIN SOLUTION and
                            # END SOLUTION are taken out for students
    ```python check         a public test of the question before it

``assignments/NAME.py`` holds what the secret decides: ``draw(rng)`` gives the specification, whose
values replace ``{{name}}`` in the text, and ``parts(specification, rng)`` the hidden tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from destseg_lib.errors import DeSTSegError

SOURCES = Path(__file__).resolve().parents[2] / "assignments"
NAMES = ("perlin", "cosine", "levels", "fusion", "metrics", "ablation")
FENCE = re.compile(r"^```python *([^\n]*)\n(.*?)^```\n", re.M | re.S)

Specification = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A hidden test: one property of a function, shown by calling it.

    Attributes:
        question: the function's name.
        what: what is tested, as the feedback says it.
        points: lost if any of the calls gives a wrong value.
        calls: the arguments of each call: numbers, arrays, or lists of arrays.
    """

    question: str
    what: str
    points: int
    calls: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Cell:
    """A piece of the text: ``kind`` is ``text``, ``code``, ``question`` or ``check``."""

    kind: str
    source: str
    question: str = ""


@dataclass(frozen=True)
class Assignment:
    """One assignment as one secret makes it.

    Attributes:
        name: its name; the notebook is NAME.ipynb.
        key: derived from the secret, the same for the whole class.
        specification: what was drawn.
        cells: the text, with the specification filled in.
        tests: the text of ``assignments/NAME.py`` as it was when the assignment was made, so that
            what is handed in is graded by the tests and points that it was handed out with.
    """

    name: str
    key: bytes
    specification: Specification
    cells: tuple[Cell, ...]
    tests: str = field(repr=False)

    @property
    def made(self) -> str:
        """Names this assignment as this secret makes it; the secret cannot be found from it."""
        return hmac.digest(self.key, b"the name of this set", "sha256").hex()[:16]

    def parts(self, student: str) -> list[Part]:
        """The hidden tests of one student; their inputs depend on the key and the name."""
        return _parts(self.tests, self.specification, _generator(self.key, student))

    def solution(self) -> dict[str, Callable[..., Any]]:
        """The reference functions, by name: the expected values are computed with them."""
        namespace: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            for cell in self.cells:
                if cell.kind in ("code", "question"):
                    exec(compile(cell.source, f"{self.name}.md", "exec"), namespace)
        return {c.question: namespace[c.question] for c in self.cells if c.kind == "question"}


def make_assignment(name: str, secret: bytes) -> Assignment:
    """Draw an assignment from the instructor's secret.

    Raises:
        DeSTSegError: a placeholder of the text is not in the specification.
    """
    key = hmac.digest(secret, name.encode(), "sha256")
    tests = (SOURCES / f"{name}.py").read_text(encoding="utf-8")
    specification: Specification = _module(tests)["draw"](_generator(key, "specification"))
    words = {k: str(v) for k, v in specification.items()}
    words |= points_by_question(_parts(tests, specification, _generator(key, "points")))

    def fill(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise DeSTSegError(f"{name}.md asks for {match[1]!r}, which {name}.py does not draw")
        return words[match[1]]

    text = (SOURCES / f"{name}.md").read_text(encoding="utf-8")
    cells = tuple(_cells(re.sub(r"\{\{(\w+)}}", fill, text)))
    return Assignment(name, key, specification, cells, tests)


def points_by_question(parts: list[Part]) -> dict[str, str]:
    """The points of each question as the text names them, ``points_QUESTION``, and their sum."""
    totals: dict[str, int] = {"points": sum(part.points for part in parts)}
    for part in parts:
        name = f"points_{part.question}"
        totals[name] = totals.get(name, 0) + part.points
    return {name: f"{total} point{'s' * (total != 1)}" for name, total in totals.items()}


def read_secret(path: Path) -> bytes:
    """The instructor's secret: any file of at least 16 bytes, white space at its end aside.

    Raises:
        DeSTSegError: it cannot be read or is too short to be a secret.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DeSTSegError(
            f"{path} is no file. Name the file of your secret: SECRET=~/course.secret; "
            "(umask 077; openssl rand -hex 32 > ~/course.secret) makes one"
        )
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise DeSTSegError(
            f"{path} cannot be read ({error.strerror}); name your secret's file"
        ) from None
    if len(secret) < 16:
        raise DeSTSegError(
            f"{path} holds {len(secret)} bytes; a secret has 16 or more: openssl rand -hex 32"
        )
    return secret


def _cells(text: str) -> list[Cell]:
    cells: list[Cell] = []
    end = 0
    for match in FENCE.finditer(text):
        if before := text[end : match.start()].strip():
            cells.append(Cell("text", before))
        kind, _, question = match[1].strip().partition(" ")
        if kind == "check":
            question = next(c.question for c in reversed(cells) if c.kind == "question")
        cells.append(Cell(kind or "code", match[2].rstrip(), question))
        end = match.end()
    return [*cells, Cell("text", rest)] if (rest := text[end:].strip()) else cells


def _generator(key: bytes, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(key + purpose.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _parts(tests: str, specification: Specification, rng: np.random.Generator) -> list[Part]:
    return [Part(*part) for part in _module(tests)["parts"](specification, rng)]


def _module(tests: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "tests", "__file__": str(SOURCES / "tests.py")}
    exec(compile(tests, "tests", "exec"), namespace)
    return namespace
