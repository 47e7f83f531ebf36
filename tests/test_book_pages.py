"""What the build does to the pages after they are written."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("sphinx")
import book_pages


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_a_plot_of_many_shades_loses_weight_and_nothing_that_is_seen():
    rng = np.random.default_rng(0)
    shade = np.mgrid[:200, :300].sum(axis=0) // 4 + rng.integers(0, 8, (200, 300))
    plot = np.stack([shade, 2 * shade // 3, 255 - shade], axis=-1).astype(np.uint8)
    plot[:20], plot[-20:] = 255, 0
    before = png(plot)
    after = book_pages.lightened(before)
    assert len(after) < 0.9 * len(before)
    seen = np.asarray(Image.open(io.BytesIO(after)).convert("RGB")).astype(float)
    assert ((seen - plot) ** 2).mean() < 255**2 / 10**4.5
    assert (seen[:20] == 255).all() and (seen[-20:] == 0).all()


def test_a_picture_of_all_colours_stays_as_it_is():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert book_pages.lightened(png(noise)) == png(noise)


@pytest.mark.slow
def test_a_figure_full_of_photographs_becomes_a_jpeg_and_the_page_shows_that(tmp_path):
    rng = np.random.default_rng(3)
    smooth = np.kron(rng.integers(60, 190, (10, 12, 3)), np.ones((50, 50, 1)))
    photograph = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
    images = tmp_path / "_images"
    images.mkdir()
    (images / "a.png").write_bytes(png(photograph))
    (images / "b.png").write_bytes(png(photograph[:60, :60]))  # light enough as it is
    page = tmp_path / "page.html"
    page.write_text('<p><img src="_images/a.png"> <img src="_images/b.png"></p>', encoding="utf-8")
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path)
    for _ in range(2):  # a page that was not built again is finished again
        book_pages.finish_pages(app, None)
        assert sorted(path.name for path in images.iterdir()) == ["a.jpg", "b.png"]
        # 600 pixels are more than a telephone has: the first is moved sideways there.
        assert page.read_text(encoding="utf-8") == (
            '<p><a href="_images/a.jpg"><img class="wide" src="_images/a.jpg"></a> '
            '<a href="_images/b.png"><img src="_images/b.png"></a></p>'
        )
    seen = np.asarray(Image.open(images / "a.jpg")).astype(float)
    assert seen.shape == photograph.shape and ((seen - photograph) ** 2).mean() < 60


class Pair(NamedTuple):
    """Two of a kind."""

    first: int
    second: int = 2

    def both(self) -> int:
        """Their sum."""
        return self.first + self.second


def test_the_reference_leaves_out_that_a_field_of_a_named_tuple_has_a_number_and_nothing_else():
    skipped = [
        name
        for name, member in vars(Pair).items()
        if book_pages.repeats_docstring(None, "class", name, member, False, None)
    ]
    assert skipped == ["first", "second"]


def test_a_default_that_is_no_python_is_three_dots_and_others_stay():
    signature = "(a: ~x.Y = <factory>, b: str = 'a < b', c: object=<object object at 0x7f>)"
    shown, returns = book_pages.readable(None, "class", "A", None, None, signature, "~x.Y")
    assert shown == "(a: ~x.Y = ..., b: str = 'a < b', c: object= ...)"
    assert returns == "~x.Y"
    assert book_pages.readable(None, "module", "a", None, None, None, None) is None


def test_arrays_are_shown_as_the_code_writes_them():
    array = "~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[{}]]"
    like = (
        "~numpy._typing._array_like._Buffer | ~a._SupportsArray[~numpy.dtype[~typing.Any]] | "
        "~a._NestedSequence[~a._SupportsArray[~numpy.dtype[~typing.Any]]] | complex | bytes | "
        "str | ~a._NestedSequence[complex | bytes | str]"
    )
    signature = f"(maps: {like}, masks: {array.format('~numpy.floating[~typing.Any]')})"
    result = f"tuple[{array.format('~numpy.int32')}, {array.format('~typing.Any')}, int]"
    assert book_pages.readable(None, "function", "f", None, None, signature, result) == (
        "(maps: ArrayLike, masks: NDArray[floating])",
        "tuple[NDArray[int32], NDArray[Any], int]",
    )
    lines = [":vartype a: numpy.ndarray[tuple[typing.Any, ...], numpy.dtype[numpy.int64]]", "text"]
    book_pages.attributes(None, "class", "A", None, None, lines)
    assert lines == [":vartype a: NDArray[int64]", "text"]


def test_a_chapter_shows_its_place_in_the_method_under_its_title():
    for page, marked in {
        "book/03_teacher": ["03_teacher.html"],
        "book/07_fusion": ["07_fusion.html"] * 2,
        "book/08_training": ["06_denoising_student.html", "07b_network.html"],
        "book/10_ablations": [],
    }.items():
        context = {"body": "<h1>One</h1><h2>Two</h2>"}
        book_pages.with_place(None, page, "page.html", context, None)
        after = context["body"].split("</h1>")[1]
        assert after.startswith("<style>") and after.endswith("</nav><h2>Two</h2>")
        assert re.findall(r'<a class="part here" href="([^"]+)"', after) == marked
    for page in ("book/00_first_look", "book/glossary", "book/api/method"):
        context = {"body": "<h1>One</h1>"}
        book_pages.with_place(None, page, "page.html", context, None)
        assert context["body"] == "<h1>One</h1>"
