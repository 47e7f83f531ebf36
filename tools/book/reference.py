"""Write the pages of the reference that follow from the code, or check that they are up to date.

``book/api.md`` and ``book/api/*.md`` list the modules of the library, one page per folder. In
``book/commands.md`` the options of each command are written between two markers; the rest of that
page is written by hand.

Run: ``python tools/book/reference.py`` to write, with ``--check`` to compare.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import destseg_lib  # noqa: E402
from destseg_lib.cli import build_parser  # noqa: E402

LIBRARY = ROOT / "destseg_lib"
COMMANDS = Path("book/commands.md")
# A page per folder. The drawings and the interactives are shown by what their packages offer.
PAGES = {
    "method": ("The method", "The files at the top of `destseg_lib`, in the order of the book."),
    "files": ("Files", "Written whole or not at all, and never over a user's."),
    "images": ("Images", "Image files, folders and data sets."),
    "drawn": ("Drawn categories", "Images that need no download."),
    "runs": ("Runs", "One training on disk, which can be stopped and continued."),
    "evaluation": ("Evaluation", "A trained model on images: metrics, scores and pictures."),
    "studies": ("Studies", "Many runs compared, in one process or on Ray."),
    "widgets": ("Interactives", "Elements of the book that work in a page without a kernel."),
    "cli": ("Commands", "What is behind [the commands](../commands.md)."),
}
SHORT = {"drawn": ["drawn", "drawn.dataset"], "widgets": ["widgets"]}
MARKED = re.compile(r"(<!-- options: ([\w -]+) -->\n).*?(<!-- end -->)", re.S)


def modules(page: str) -> list[str]:
    """The modules of a page, without ``destseg_lib.``: as the map orders them, or by name."""
    if page in SHORT:
        return SHORT[page]
    if page == "method":
        names = [path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__"]
        return sorted(names, key=lambda name: (destseg_lib.__doc__ or "").index(f"{name}.py"))
    files = [path for path in (LIBRARY / page).glob("*.py") if not path.stem.startswith("__")]
    return sorted(f"{page}.{path.stem}" for path in files)


def api_pages() -> dict[Path, str]:
    """The text of ``book/api.md`` and of each page below it."""
    overview = [
        "# The library\n\nEvery module of `destseg_lib`, from its docstrings. Batches of tensors "
        "have the shape (B, C, H, W),\narrays of photographs (N, H, W, 3).\n"
    ]
    pages = {}
    for page, (title, text) in PAGES.items():
        names = [f"destseg_lib.{name}" for name in modules(page)]
        listed = "\n".join(f"   {name}" for name in names)
        overview.append(
            f"## [{title}](api/{page}.md)\n\n```{{eval-rst}}\n.. autosummary::\n\n{listed}\n```\n"
        )
        blocks = [
            f"## {name.removeprefix('destseg_lib.')}\n\n"
            f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
            for name in names
        ]
        pages[Path(f"book/api/{page}.md")] = "\n".join([f"# {title}\n\n{text}\n", *blocks])
    return {Path("book/api.md"): "\n".join(overview), **pages}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command and of each part of one, by what is typed to reach it."""
    found, waiting = {}, {"destseg": build_parser()}
    while waiting:
        name, parser = waiting.popitem()
        parts = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        waiting |= {f"{name} {part}": p for a in parts for part, p in a.choices.items()}
        found |= {} if parts else {name.removeprefix("destseg "): parser}
    return found


def options_table(parser: argparse.ArgumentParser) -> str:
    """The options of a command as a table in Markdown."""
    rows = ["| Option | Meaning |", "|---|---|"]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
        flag = action.option_strings[0] if action.option_strings else ""
        name = " ".join(filter(None, [flag, str(value) if action.nargs != 0 else ""]))
        many = " ..." if action.nargs in ("*", "+") else ""
        needed = " (required)" if action.required and flag else ""
        cells = f"`{name}{many}`{needed}", action.help or ""
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def commands_page(text: str) -> str:
    """The page of commands with the options between its markers as they are now."""
    known = parsers()
    shown = [name for _, name, _ in MARKED.findall(text)]
    if sorted(shown) != sorted(known):
        sys.exit(f"{COMMANDS} has places for {sorted(shown)}; the commands are {sorted(known)}")
    return MARKED.sub(lambda m: f"{m[1]}\n{options_table(known[m[2]])}\n{m[3]}", text)


def main() -> int:
    """Write the pages, or with --check fail if one would change."""
    pages = api_pages()
    pages[COMMANDS] = commands_page((ROOT / COMMANDS).read_text(encoding="utf-8"))
    surplus = set((ROOT / "book/api").glob("*.md")) - {ROOT / page for page in pages}
    stale = [f"{path.relative_to(ROOT)} belongs to no folder of the library" for path in surplus]
    for page, text in pages.items():
        path = ROOT / page
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(f"{page} is not up to date")
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    if "--check" not in sys.argv:
        for path in surplus:
            path.unlink()
        return 0
    for problem in stale:
        print(f"{problem}: run 'python tools/book/reference.py'", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
