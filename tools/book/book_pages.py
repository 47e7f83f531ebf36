"""Sphinx extension: take out of the pages what this book does not need, and make pictures light.

- Scripts and styles for live code on another host, for cards and for tabs go; the index of all
  words is loaded by the search page alone.
- Two buttons of the theme have names that disagree with what they show, which confuses a screen
  reader; the titles under which Colab folds solutions mean nothing in the book.
- Plots of few colours are stored with few, at a quarter of the weight, and pictures full of
  photographs as JPEG.
- A chapter of the method shows, under its title, where in the method it is.
- In the reference, the fields of a named tuple are in its docstring, a default that is not Python
  is three dots, and arrays have the names that the code gives them.
"""

from __future__ import annotations

import io
import re
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sphinx.application import Sphinx

from destseg_lib.widgets import diagram
from destseg_lib.widgets.diagram import PARTS, method_picture

REPLACED = (
    # The name of a button is the text it shows; a picture in a button needs no name.
    (re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"'), r"\1"),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    # The arrow next to a page that has pages below it shows no word.
    (
        re.compile(r'<summary>(?=<span class="toctree-toggle")'),
        '<summary aria-label="Pages below">',
    ),
    (re.compile(r'<span class="c1"># @title Solution</span>\n'), ""),
    # A picture made for a desk is small on a telephone; alone it can be enlarged.
    # A picture that has its link already, in a page that was not built again, keeps it.
    (
        re.compile(r'(?<!\.png">)(?<!\.jpg">)<img [^>]*?src="((?:\.\./)?_images/[^"]+)"[^>]*>'),
        r'<a href="\1">\g<0></a>',
    ),
    (re.compile(r'(<i class="theme-switch [^>]*?)\s+title="[^"]*"'), r"\1"),
)
HEAVY = 150_000  # bytes
WIDE = 600  # pixels
CELL_PICTURE = re.compile(r'<img ((?:(?!class=)[^>])*?src="(?:\.\./)?_images/)([^"]+)("[^>]*>)')
Field = type(namedtuple("Pair", "one").one)  # of a named tuple
NO_PYTHON = re.compile(r"= ?<[^<>]*>")
# Numpy's long names for arrays, and the names in the code.
ARRAYS = (
    (
        re.compile(
            r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], "
            r"~?(?:numpy\.)?dtype\[~?(?:numpy\.|typing\.)?(\w+)(?:\[~?(?:typing\.)?Any\])?\]\]"
        ),
        r"NDArray[\1]",
    ),
    (re.compile(r"[\w.~]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]"), "ArrayLike"),
)
CHAPTER = re.compile(r"book/(?P<name>(?!00_)\d\d[a-z]?_\w+)")
LEARNING = {"08_training": ["student", "segmentation"]}  # it builds no part, it trains two
STYLE = (Path(diagram.__file__).parent / "method.css").read_text(encoding="utf-8")
UNUSED = re.compile("thebe|sphinx-design|design-tabs", re.I)
SEARCH = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)


def without_unused(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Leave scripts and styles that nothing here needs out of a page."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context[kind]
            if not UNUSED.search(f"{file} {getattr(file, 'attributes', {})}")
        ]


def repeats_docstring(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave out the fields of named tuples, which only say which number each has."""
    return True if isinstance(member, Field) else None


def readable(
    app: Sphinx,
    what: str,
    name: str,
    of: object,
    options: object,
    signature: str | None,
    returns: str,
) -> tuple[str, str] | None:
    """Sphinx shows a signature raw, types with their modules, if a default is ``<factory>``."""
    if not signature:
        return None
    return named(NO_PYTHON.sub("= ...", signature)), returns and named(returns)


def named(types: str) -> str:
    """The types, with the names that the code gives to arrays."""
    for pattern, name in ARRAYS:
        types = pattern.sub(name, types)
    return types


def attributes(
    app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    """The same in the list of a class's attributes."""
    lines[:] = [named(line) for line in lines]


def lightened(picture: bytes) -> bytes:
    """A PNG in at most 256 colours if nobody sees a difference (45 dB or more), else unchanged.

    At 45 dB a colour is off by 1.4 of 255 in the root mean square.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    exact = np.asarray(image, dtype=np.float64)
    best, least = picture, 255**2 / 10**4.5
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE):
        few = image.quantize(256, method=method, dither=Image.Dither.NONE)
        palette = np.array(few.getpalette()).reshape(-1, 3)
        for ground in (0, 255):  # paper stays exactly white and letters exactly black
            palette[np.abs(palette - ground).sum(axis=1).argmin()] = ground
        few.putpalette(palette.astype(np.uint8).tobytes())
        error = float(((np.asarray(few.convert("RGB")) - exact) ** 2).mean())
        if error < least:
            file = io.BytesIO()
            few.save(file, "png", optimize=True)
            best, least = file.getvalue(), error
    return min(best, picture, key=len)


def photographic(picture: bytes) -> bytes | None:
    """A heavy PNG as JPEG if that has at most a third of the bytes, as with photographs."""
    if len(picture) < HEAVY:
        return None
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(
        file, "jpeg", quality=80, optimize=True, progressive=True
    )
    return file.getvalue() if 3 * len(file.getvalue()) <= len(picture) else None


def with_place(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Put the small picture of the method under a chapter's title, its own part marked."""
    if match := CHAPTER.fullmatch(pagename):
        picture = place(match["name"])
        context["body"] = context["body"].replace("</h1>", f"</h1>{picture}", 1)


def place(chapter: str) -> str:
    """The small picture of the method for a chapter: its parts are marked, others are links."""
    here = LEARNING.get(chapter, [n for n, part in PARTS.items() if part.chapter == chapter])
    names = " and ".join(" ".join(PARTS[name].label) for name in here) or "the whole method"
    drawn = method_picture(here, address="{chapter}.html", label=f"You are here: {names}")
    return (
        f"<style>{STYLE}</style>"
        f'<nav class="destseg-here" aria-label="The method">{drawn}'
        f"<p>You are here: <strong>{names}</strong></p></nav>"
    )


def as_wide(hit: re.Match[str], images: Path) -> str:
    """A picture's tag, with a class if its letters would be too small on a telephone."""
    file = images / hit[2]
    found = file if file.exists() else file.with_suffix(".jpg")
    if "wide" in hit[0] or not found.exists() or Image.open(found).width < WIDE:
        return hit[0]
    return f'<img class="wide" {hit[1]}{hit[2]}{hit[3]}'


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Correct the theme's buttons in the written pages, and make their pictures light."""
    if exception or app.builder.name != "html":
        return
    renamed, images = [], Path(app.outdir, "_images")
    for picture in images.glob("*.png"):
        light = lightened(picture.read_bytes())
        photograph = photographic(light)
        picture.write_bytes(photograph or light)
        if photograph:
            picture.rename(picture.with_suffix(".jpg"))
            renamed.append(picture.name)
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = CELL_PICTURE.sub(lambda hit: as_wide(hit, images), text)
        for name in renamed:
            text = text.replace(f"_images/{name}", f"_images/{Path(name).stem}.jpg")
        for pattern, replacement in REPLACED:
            text = pattern.sub(replacement, text)
        if page.name != "search.html":
            text = SEARCH.sub("", text)
        page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", without_unused, priority=900)
    app.connect("html-page-context", with_place)
    app.connect("autodoc-skip-member", repeats_docstring)
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-process-docstring", attributes, priority=900)  # after napoleon
    app.connect("build-finished", finish_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
