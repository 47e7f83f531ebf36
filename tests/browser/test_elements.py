"""Each interactive element by itself, in a page that has nothing but it."""

from __future__ import annotations

import base64
import gzip
import html as markup
import json
from dataclasses import replace
from pathlib import Path

import elements
import numpy as np
import pytest
import torch
from anywidget import AnyWidget
from playwright.sync_api import Browser, FloatRect, Locator, Page

from destseg_lib import widgets
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.runs.halves import Halves, open_halves
from destseg_lib.runs.run import Run
from destseg_lib.runs.shipped import load_pretrained
from tests.tiny import TINY, tiny_model

from . import checks
from . import test_live as live
from .conftest import ROOT

AXE = ROOT / "_vendor" / "axe.min.js"
STATIC = ROOT / "_vendor" / "static"


def write_page(folder: Path, name: str) -> str:
    """A page with one element of the book; its address."""
    return write_page_of(folder, elements.ALL[name](), name)


def write_page_of(folder: Path, element: AnyWidget, name: str) -> str:
    """A page with one element, as the book's build makes it; its address."""
    from ipywidgets.embed import dependency_state

    state = {
        "version_major": 2,
        "version_minor": 0,
        "state": dependency_state([element], drop_defaults=False),
    }
    view = {"version_major": 2, "version_minor": 0, "model_id": element.model_id}

    def script(kind: str, value: object) -> str:
        text = json.dumps(value).replace("</", "<\\/")
        return f'<script type="application/vnd.jupyter.widget-{kind}+json">{text}</script>'

    (folder / "book").mkdir()
    (folder / "_static").symlink_to(STATIC)
    page = folder / "book" / "one.html"
    page.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{markup.escape(name)}</title>'
        f'<script src="../_static/widgets/manager.js" data-jupyter-widgets-cdn-only="true"'
        f' data-jupyter-widgets-cdn="../_static/widgets/"></script>{script("state", state)}'
        f"<style>:root {{ color-scheme: light dark; }} body {{ margin: 8px; }}"
        f" @media (prefers-color-scheme: dark) {{ body {{ background: #121212; }} }}</style></head>"
        f"<body><main><h1 hidden>{name}</h1>{script('view', view)}</main></body></html>",
        encoding="utf-8",
    )
    return page.as_uri()


@pytest.mark.parametrize("name", elements.ALL)
def test_an_element_shows_what_python_computes(name, tmp_path, browser: Browser):
    address = write_page(tmp_path, name)
    root = tmp_path.as_uri() + "/"
    with checks.visit(browser, address, root) as seen:
        assert checks.states(seen.page)
        assert checks.answers(seen.page) == []
        assert checks.quiet(seen) == []
        assert checks.described(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []
    with checks.visit(browser, address, root, dark=True, narrow=True) as seen:
        assert checks.fits(seen.page) == []
        assert checks.dark_enough(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []


def handle(page: Page) -> tuple[Locator, FloatRect]:
    """The canvas that pointer and keys move something on, and where it is."""
    canvas = page.locator("canvas[tabindex]")
    box = canvas.bounding_box()
    assert box
    return canvas, box


def test_a_place_is_chosen_on_the_picture_by_pointer_and_by_arrow_keys(tmp_path, browser: Browser):
    address = write_page(tmp_path, "SimilarityProbe")
    probe = elements.probe()
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        canvas, box = handle(seen.page)
        # The middle of row 7, column 30 of 32 x 40.
        seen.page.mouse.click(
            box["x"] + box["width"] * 30.5 / 40, box["y"] + box["height"] * 7.5 / 32
        )
        element = seen.page.locator(".destseg")
        assert checks.shown(element) == probe.displayed(7, 30)
        for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
            canvas.press(key)
        assert checks.shown(element) == probe.displayed(9, 29)


def test_a_gradient_is_turned_on_the_noise_by_pointer_and_by_arrow_keys(tmp_path, browser: Browser):
    address = write_page(tmp_path, "CorruptionLab")
    lab = elements.laboratory()
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        canvas, box = handle(seen.page)
        # To the right of the lattice's middle, which is place 24 of 48.
        x, y = (
            box[side] + box[length] * 24.5 / 48
            for side, length in (("x", "width"), ("y", "height"))
        )
        seen.page.mouse.click(x + box["width"] / 8, y)
        to_the_right = 5 * round(np.degrees(-lab._angles[2, 2]) / 5)
        turn = to_the_right - 360 * round(to_the_right / 360)
        element = seen.page.locator(".destseg")
        setting = {"down": 2, "across": 2, "rotation": 0, "threshold": 50, "opacity": 60}
        setting |= {"texture": "stripes"}
        assert checks.shown(element) == lab.displayed(**setting, turn=turn)
        for key in ("ArrowDown", "ArrowRight", "ArrowLeft"):
            canvas.press(key)
        assert checks.shown(element) == lab.displayed(**setting, turn=turn + 5)


def test_a_film_plays_and_stops(tmp_path, browser: Browser):
    address = write_page(tmp_path, "TrainingFilm")
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        seen.page.get_by_role("button", name="Play").press("Enter")
        seen.page.get_by_role("button", name="Stop").wait_for()
        seen.page.get_by_role("button", name="Play").wait_for(timeout=5000)
        shown = checks.shown(seen.page.locator(".destseg"))
        assert shown == elements.film().displayed(5)


def test_a_reader_s_own_model_is_painted_on_in_a_notebook(tmp_path, browser: Browser):
    good = draw_category("metal", 128, ImageCounts(0, 40, 0), seed=6, progress=False).test
    element = widgets.LiveDetector(
        load_pretrained("metal", torch.device("cpu")),
        good,
        name="my plate",
        runtime=ROOT / "_vendor" / "onnxruntime",
    )
    address = write_page_of(tmp_path, element, "LiveDetector")
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        page = seen.page
        page.get_by_role("button", name="Start").click()
        page.locator("[data-value=score]:not(:empty)").wait_for(timeout=60_000)
        before = live.settled(page)
        assert not live.over(before)
        expected = open_halves(halves_of(element.data["inline"]))(live.painted(page)).scores[0]
        assert float(before["score"]) == pytest.approx(expected, abs=1e-3)
        live.drag(page, *((40 + n, 50 + n / 2) for n in range(0, 41, 2)))
        assert live.over(live.settled(page))
        assert page.get_by_text("it comes from 40 of them, judged by this very model").is_visible()
        assert page.locator("select").count() == 1, "one part, so only the maps are chosen among"
        assert checks.quiet(seen) == []
        assert checks.described(page) == []
        assert checks.accessible(page, AXE) == []
    with checks.visit(browser, address, tmp_path.as_uri() + "/", dark=True, narrow=True) as seen:
        seen.page.get_by_role("button", name="Start").click()
        seen.page.locator("[data-value=score]:not(:empty)").wait_for(timeout=60_000)
        assert checks.fits(seen.page) == []
        assert checks.accessible(seen.page, AXE) == []


def test_an_ablation_of_another_size_shows_its_own_maps(tmp_path, browser: Browser):
    own = replace(TINY.model, levels=(2, 3), segmentation=False, student_map="sum")
    config = replace(TINY, model=own, image_size=64)
    run = Run(tiny_model(config).eval(), config, "random", ())
    good = draw_category("wood", 64, ImageCounts(0, 3, 0), progress=False).test
    runtime = ROOT / "_vendor" / "onnxruntime"
    element = widgets.LiveDetector(run, good, runtime=runtime, weights="fp32")
    address = write_page_of(tmp_path, element, "LiveDetector")
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        page = seen.page
        page.get_by_role("button", name="Start").click()
        page.locator("[data-value=score]:not(:empty)").wait_for(timeout=60_000)
        live.drag(page, (30, 30), (60, 45), (70, 80))
        live.settled(page)
        painted = live.painted(page, 64)
        assert np.abs(painted.astype(int) - good[0]).max() > 40, "a stroke"
        answer = open_halves(halves_of(element.data["inline"]))(painted)
        views = page.get_by_label("Map", exact=True)
        names = views.locator("option").all_inner_texts()
        assert names == ["Sum of distances", "Level 2 alone", "Level 3 alone"]
        for name, score in zip(names, answer.scores[[0, 2, 3]], strict=True):
            views.select_option(name)
            shown = checks.shown(page.locator(".destseg"))
            assert float(shown["score"]) == pytest.approx(score, abs=1e-3)
        assert page.locator(".three figure").count() == 2
        assert checks.quiet(seen) == []


def halves_of(parts: dict[str, str]) -> Halves:
    """The graphs in an element's data."""
    contents = []
    for name in ("teacher.onnx", "model.onnx"):
        count = sum(key.startswith(f"{name}.") for key in parts)
        text = "".join(parts[f"{name}.{number}"] for number in range(count))
        contents.append(gzip.decompress(base64.b64decode(text)))
    return Halves(*contents)


def pressed(page: Page, across: float, down: float) -> None:
    """Press on a drawing, at a share of its width and height."""
    box = page.locator(".destseg svg").first.bounding_box()
    assert box
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def test_the_student_s_vector_follows_the_pointer(tmp_path, browser: Browser):
    address = write_page(tmp_path, "TwoVectors")
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        pressed(seen.page, 210 / 420, (205 - 90) / 225)  # above the middle, as long as the teacher
        shown = checks.shown(seen.page.locator(".destseg"))
        assert shown == widgets.TwoVectors().displayed(90, 10)


def test_the_taps_follow_the_pointer(tmp_path, browser: Browser):
    address = write_page(tmp_path, "DilatedTaps")
    with checks.visit(browser, address, tmp_path.as_uri() + "/") as seen:
        pressed(seen.page, (70 + 200 * 0.02) / 340, (70 + 200 * 0.5) / 340)  # at the left edge
        shown = checks.shown(seen.page.locator(".destseg"))
        assert shown == widgets.DilatedTaps().displayed(12, "64", 2, 50)
        assert shown["inside"] == "6 of 9"
