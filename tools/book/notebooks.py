"""Keep the book's notebooks in the form that is committed, with the same first cell and badge.

    python tools/book/notebooks.py                 bring every notebook of book/ into that form
    python tools/book/notebooks.py --check         change nothing; say what is wrong, exit with 1
    python tools/book/notebooks.py --run FILE ...  run, and keep the outputs that the tests compare
    python tools/book/notebooks.py --stamp OWNER/NAME [--reference main]   publish under that name

The form: cell ids that last, outputs of checked cells only and no pictures among them, execution
counts as of one run, no metadata except what the book reads, solutions folded everywhere.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("first_cell.py")
CHECKED = "nbval-check-output"  # a tag of nbval's: its cells print the same everywhere
KEPT = ("tags", "mystnb", "jupyter", "cellView", "slideshow")
# Editors give every cell a random id, and a new one each time; names last.
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
Cell = Any
Colab = dict[str, str]


def notebooks(root: Path = ROOT) -> list[Path]:
    """The book's notebooks, in order."""
    files = (root / "book").rglob("*.ipynb")
    return sorted(path for path in files if ".ipynb_checkpoints" not in path.parts)


def settings(root: Path) -> Colab:
    """``repository`` (empty while unpublished) and ``reference`` out of _config.yml."""
    colab = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("colab", {})
    return {"repository": "", "reference": "main", **{k: v or "" for k, v in colab.items()}}


def first_cell(root: Path, colab: Colab) -> str:
    """The source of the cell that every chapter begins with."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    values = (colab["repository"], colab["reference"], project["version"])
    line = "REPOSITORY, REFERENCE, VERSION = " + ", ".join(json.dumps(value) for value in values)
    text = TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    return re.sub(r"^REPOSITORY, .*$", line, text, count=1, flags=re.M)


def badge(path: Path, root: Path, colab: Colab) -> str:
    """A link to Colab. It is no picture: that would be loaded from another host."""
    place = path.resolve().relative_to(root.resolve()).as_posix()
    blob = f"{colab['repository']}/blob/{colab['reference']}/{place}"
    return f"[Open this chapter in Colab ↗](https://colab.research.google.com/github/{blob})"


def normalise(notebook: Any, path: Path, root: Path = ROOT) -> None:
    """Bring a notebook into the form that is committed, in place."""
    set_first_cells(notebook, path, root)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    name_cells(notebook.cells)
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: cell.metadata[k] for k in KEPT if k in cell.metadata}
        )
        cell.pop("attachments", None)
        fold(cell)
        if cell.cell_type == "code":
            count += 1
            # Without a count, nbval thinks that the cell was never run.
            cell.execution_count = count
            cell.outputs = kept_outputs(cell)


def set_first_cells(notebook: Any, path: Path, root: Path) -> None:
    """The title first, the link to Colab if there is one, the setup cell before any other code."""
    colab = settings(root)
    cells = [cell for cell in notebook.cells if cell.get("id") not in ("setup", "colab")]
    title = 1 if cells and cells[0].cell_type == "markdown" else 0
    setup = nbformat.v4.new_code_cell(first_cell(root, colab), id="setup")
    # The landing page shows the method before a word, versions included.
    folded = "remove-cell" if path.stem == "index" else "hide-input"
    setup.metadata.update(tags=[folded], cellView="form", jupyter={"source_hidden": True})
    new = [setup]
    if colab["repository"]:
        new.insert(0, nbformat.v4.new_markdown_cell(badge(path, root, colab), id="colab"))
    notebook.cells = [*cells[:title], *new, *cells[title:]]


def name_cells(cells: list[Cell]) -> None:
    """Replace ids that do not last by the last heading and a number."""
    heading = "cell"
    taken = {cell.id for cell in cells if not RANDOM_ID.fullmatch(cell.get("id", "00000000"))}
    seen: set[str] = set()
    for cell in cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^#+ (.+)$", cell.source, re.M)):
            heading = re.sub(r"[^a-z0-9]+", "-", found[1].lower()).strip("-")[:40] or "cell"
        number = 1
        if RANDOM_ID.fullmatch(cell.get("id", "00000000")) or cell.id in seen:
            while (name := f"{heading}-{number}") in taken:
                number += 1
            taken.add(name)
            cell.id = name
        seen.add(cell.id)


def fold(cell: Cell) -> None:
    """Fold a solution in the book (tag), in JupyterLab (metadata) and in Colab (form)."""
    tags = cell.metadata.get("tags", [])
    if cell.cell_type != "code" or "solution" not in tags:
        return
    cell.metadata["tags"] = [*(tag for tag in tags if tag != "hide-cell"), "hide-cell"]
    cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    cell.metadata["cellView"] = "form"
    prompts = {f"code_prompt_{do}": f"{do.capitalize()} the solution" for do in ("show", "hide")}
    cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), **prompts}
    # Colab folds a form only under a title.
    if not cell.source.startswith("# @title"):
        cell.source = f"# @title Solution\n{cell.source}"


def kept_outputs(cell: Cell) -> list[Any]:
    """The text that a checked cell printed; other outputs are made again by every run."""
    kept = []
    for output in cell.outputs if CHECKED in cell.metadata.get("tags", []) else []:
        if output.output_type == "stream" and output.name == "stdout":
            kept.append(output)
        elif set(output.get("data", ())) == {"text/plain"}:
            output.metadata = nbformat.from_dict({})
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
            kept.append(output)
    return kept


def committed_text(path: Path, root: Path = ROOT, *, run: bool = False) -> str:
    """The text that a notebook should have, if asked with the outputs of a new run."""
    notebook = nbformat.read(path, as_version=4)
    normalise(notebook, path, root)
    if run:
        from nbclient import NotebookClient

        NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
        normalise(notebook, path, root)
    return str(nbformat.writes(notebook)) + "\n"


def differences(path: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with a notebook, one sentence for each finding."""
    text, wanted = path.read_text(encoding="utf-8"), committed_text(path, root)
    now, then = (json.loads(one)["cells"] for one in (text, wanted))
    found = []
    for number, (cell, good) in enumerate(zip(now, then, strict=False), start=1):
        where = f"{path.name}, cell {number} ({cell.get('id', 'no id')})"
        # In this order, because a cell that is another one has another everything.
        for part in ("id", "source", "metadata", "execution_count", "outputs"):
            if cell.get(part) != good.get(part):
                found.append(f"{where}: {part!r} is not as generated")
                break
        if any(output["output_type"] == "error" for output in cell.get("outputs", [])):
            found.append(f"{where}: it failed when it was last run")
        if CHECKED in cell["metadata"].get("tags", []) and not cell["outputs"]:
            found.append(
                f"{where}: its output is to be compared but there is none; "
                "run tools/book/notebooks.py --run"
            )
    if text != wanted and not found:
        found.append(f"{path.name}: its cells or its metadata are not as generated")
    return found


def stamp(repository: str, reference: str, root: Path = ROOT) -> None:
    """Write the repository into _config.yml, where badges and first cells take it from."""
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"REPO is {repository!r}; it must be owner/name, as in REPO=ada/destseg.")
    config = root / "_config.yml"
    lines = f'colab:\n  repository: "{repository}"\n  reference: "{reference}"\n'
    text = config.read_text(encoding="utf-8")
    text, hits = re.subn(r"^colab:\n(?:  .*\n)+", lines, text, flags=re.M)
    if hits != 1:
        sys.exit("_config.yml has lost its section 'colab'; put it back.")
    config.write_text(text, encoding="utf-8")


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description="Keep the book's notebooks as they are committed.")
    parser.add_argument("--check", action="store_true", help="change nothing, say what is wrong")
    parser.add_argument("--run", action="store_true", help="run the notebooks first")
    parser.add_argument("--stamp", metavar="OWNER/NAME", help="where the project is published")
    parser.add_argument("--reference", default="main", help="branch or tag that Colab installs")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    if given.stamp is not None:
        stamp(given.stamp, given.reference)
    files = given.files or notebooks()
    if given.check:
        found = [line for path in files for line in differences(path)]
        if found:
            sys.exit("\n".join([*found, "Bring them into form: python tools/book/notebooks.py"]))
        return
    for path in files:
        path.write_text(committed_text(path, run=given.run), encoding="utf-8")


if __name__ == "__main__":
    main()
