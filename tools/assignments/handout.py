"""Write the chapters as they are handed out: without the solutions of their exercises.

    python tools/assignments/handout.py --out handout --keep 02_measuring [--book]

Cells with the tag ``solution`` and answers in words are left out; nothing after them depends on
them. So are the links to Colab, which lead to the chapters with their solutions. The questions
under "Check yourself" keep their answers. With ``--book`` the chapters are also built into pages,
from the notebooks that ``make book`` executed, so that nothing is run again. The instructor's guide
and the bank of questions are not among them; a link to one of them becomes plain words.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from destseg_lib.errors import DeSTSegError

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
FOR_INSTRUCTORS = ("instructor", "questions")  # pages
ANSWER = re.compile(
    r"\n*<details\b[^>]*>\s*<summary\b(?:(?!</summary>).)*(?:answer|solution).*?</details>",
    re.S | re.I,
)


def main() -> None:
    """Read the command line and write the chapters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("handout"))
    parser.add_argument("--keep", nargs="*", default=[], help="chapters that keep their solutions")
    parser.add_argument("--book", action="store_true", help="build their pages too")
    arguments = parser.parse_args()
    try:
        removed = write_handout(arguments.out, arguments.keep)
        print(f"{arguments.out}: {removed} solutions left out")
        if arguments.book:
            print(f"Their pages: {build_handout(arguments.out, arguments.keep) / 'index.html'}")
    except DeSTSegError as error:
        sys.exit(str(error))


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
        notebook["cells"] = [cell for cell in cells if cell.get("id") != "colab"]
        if path.stem not in keep:
            removed += leave_out_solutions(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (out / path.name).write_text(text, encoding="utf-8")
    return removed


def leave_out_solutions(notebook: dict[str, Any]) -> int:
    """Take cells tagged ``solution`` and answers in words out of a notebook; their number."""
    cells = notebook["cells"]
    notebook["cells"] = [c for c in cells if "solution" not in c["metadata"].get("tags", [])]
    removed = len(cells) - len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text, answers = ANSWER.subn("", "".join(cell["source"]))
            cell["source"] = text.splitlines(keepends=True)
            removed += answers
    return removed


def leave_out_pages(book: Path, contents: Path, to: Path) -> None:
    """Take the instructors' pages out of a copy of the book and of its table of contents.

    A link to one of them becomes the words that it stands on.
    """
    names = "|".join(FOR_INSTRUCTORS)
    text = contents.read_text(encoding="utf-8")
    to.write_text(re.sub(rf" *- file: book/({names})\n", "", text), encoding="utf-8")
    for name in FOR_INSTRUCTORS:
        (book / f"{name}.md").unlink(missing_ok=True)
    link = re.compile(rf"\[([^][]+)]\(({names})\.md(?:#[^)]*)?\)")
    for path in sorted([*book.rglob("*.md"), *book.glob("*.ipynb")]):
        text = path.read_text(encoding="utf-8")
        path.write_text(link.sub(r"\1", text), encoding="utf-8")


def build_handout(out: Path, keep: list[str], root: Path = ROOT) -> Path:
    """Build the book's pages from its executed notebooks, without solutions; their folder.

    Raises:
        DeSTSegError: the book was not built here, or this build fails.
    """
    executed = root / "_build" / "executed" / "book"
    wanted = {path.name for path in (root / "book").glob("*.ipynb")}
    if missing := wanted - {path.name for path in executed.glob("*.ipynb")}:
        raise DeSTSegError(f"{executed} has no {min(missing)}; run 'make book' first")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("book", "tools/book", "_vendor"):
            shutil.copytree(root / name, copy / name)
        config = (root / "_config.yml").read_text(encoding="utf-8")
        config = config.replace("execute_notebooks: cache", 'execute_notebooks: "off"')
        (copy / "_config.yml").write_text(config, encoding="utf-8")
        write_handout(copy / "book", keep, executed)
        leave_out_pages(copy / "book", root / "_toc.yml", copy / "_toc.yml")
        command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "."]
        built = subprocess.run(
            [*command, "--path-output", ".", "-q"], cwd=copy, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        pages = copy / "_build" / "html"
        if built.returncode or not (pages / "index.html").is_file():
            last = built.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise DeSTSegError(f"jupyter-book could not build the pages: {last[0]}")
        shutil.rmtree(out / "html", ignore_errors=True)
        shutil.copytree(pages, out / "html")
    return out / "html"


if __name__ == "__main__":
    main()
