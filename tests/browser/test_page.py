"""The page of a run: a photograph goes in, outline and verdict come out, and nothing leaves."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, FileChooser, Page

from destseg_lib import cli
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.images.read import read_image
from destseg_lib.runs.halves import Answer, Halves, open_halves
from destseg_lib.runs.shipped import load_pretrained

from . import checks
from .conftest import ROOT, serve
from .pictures import as_file, quarters, turned
from .test_elements import AXE

RUNTIME = ROOT / "_vendor" / "onnxruntime"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures, photographs, and the page of a model that ships, as a folder and one file."""
    root = tmp_path_factory.mktemp("page")
    good = draw_category("metal", 128, ImageCounts(0, 99, 0), seed=6, progress=False).test
    others = draw_category("metal", 512, ImageCounts(0, 2, 1), seed=8, progress=False)
    for kind, pictures in (("good", good), ("photographs", others.test)):
        (root / kind).mkdir()
        for number, picture in enumerate(pictures):
            image = Image.fromarray(picture)
            image.save(root / kind / f"{number}.png")
    for number, (picture, kind) in enumerate(zip(others.test, others.defects, strict=True)):
        wide = Image.fromarray(picture).resize((900, 600))
        wide.save(root / "photographs" / f"{kind}{number}.jpg", quality=95)
    command = ["page", "--run", "pretrained:metal", "--good", str(root / "good"), "--quiet"]
    command += ["--runtime", str(RUNTIME)]
    assert cli.main([*command, "--out", str(root / "whole")]) == 0
    assert cli.main([*command, "--out", str(root / "single"), "--single", "--weights", "int8"]) == 0
    return root


@pytest.fixture(params=["http", "file", "single"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The folder of the page, by http and from disk, and the one file from disk."""
    if request.param != "http":
        name = "single" if request.param == "single" else "whole"
        yield (folder / name).as_uri() + "/"
        return
    server = serve(folder / "whole")
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@contextmanager
def ready(browser: Browser, root: str, **how: bool) -> Iterator[checks.Visit]:
    with checks.visit(browser, f"{root}index.html", root, **how) as seen:
        seen.page.get_by_text("Ready:").wait_for(timeout=60_000)
        yield seen


def judged(page: Page, file: Path | dict[str, object]) -> dict[str, str]:
    """Give a photograph to the page; what it shows once it has judged it."""
    name = file.name if isinstance(file, Path) else file["name"]
    page.locator("input[type=file]").last.set_input_files(file)
    page.get_by_text(f"{name},").wait_for(timeout=30_000)
    return checks.shown(page.locator(".destseg"))


def graphs(folder: Path) -> Callable[[np.ndarray], Answer]:
    """What the page of the folder computes, in Python, from the very files that it loads."""

    def content(name: str) -> bytes:
        files = sorted(folder.glob(f"{name}.*.js"), key=lambda path: int(path.name.split(".")[-2]))
        text = "".join(path.read_text(encoding="ascii").split('"')[3] for path in files)
        return gzip.decompress(base64.b64decode(text))

    return open_halves(Halves(content("teacher.onnx"), content("model.onnx")))


def outlined(page: Page) -> np.ndarray:
    """Where the shown photograph has the outline's colour, (H, W)."""
    pixels = checks.canvas_pixels(page.locator(".pair canvas").first).astype(int)
    return np.abs(pixels - (213, 94, 0)).max(axis=2) <= 2


def test_a_defect_is_outlined_and_a_good_part_is_not_and_nothing_leaves(address, folder, browser):
    with ready(browser, address) as seen:
        page = seen.page
        defect, good = folder / "photographs" / "rust4.jpg", folder / "photographs" / "good0.jpg"
        shown = judged(page, defect)
        assert float(shown["score"]) > float(shown["threshold"])
        assert page.get_by_text("Defect found", exact=True).is_visible()
        line = outlined(page)
        across, down = (float(part) for part in shown["peak"].split(","))
        rows, columns = np.nonzero(line)
        assert columns.min() < across * 9 < columns.max()
        assert rows.min() < down * 6 < rows.max()
        assert line.mean() < 0.2
        shown = judged(page, good)
        assert float(shown["score"]) <= float(shown["threshold"])
        assert page.get_by_text("No defect found", exact=True).is_visible()
        assert not outlined(page).any()
        assert "stays on this device" in page.inner_text("main")
        assert checks.quiet(seen) == []


def test_the_score_is_that_of_onnx_runtime_and_of_predict_on_the_same_photograph(folder, browser):
    answer = graphs(folder / "whole")
    run = load_pretrained("metal", torch.device("cpu"))
    root = (folder / "whole").as_uri() + "/"
    with ready(browser, root) as seen:
        for file in sorted((folder / "photographs").iterdir()):
            pixels = read_image(file, 128)
            score = float(judged(seen.page, file)["score"])
            assert score == pytest.approx(answer(pixels).scores[0], abs=1e-3), file.name
            (maps,) = run.maps(pixels[None])
            expected = np.sort(maps.final[0], axis=None)[-100:].mean()
            assert score == pytest.approx(expected, abs=0.03)  # half precision, and bf16


def test_odd_huge_turned_and_clear_pictures_are_read_as_the_library_reads_them(
    folder, browser, tmp_path
):
    clear = quarters(300, 200).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((300, 200)))
    pictures = [
        as_file(quarters(37, 211), "odd.png"),
        as_file(quarters(1, 900), "thin.png"),
        as_file(quarters(7000, 5000), "huge.jpeg"),
        as_file(quarters(300, 200), "turned.jpeg", exif=turned()),
        as_file(clear, "clear.png"),
        as_file(quarters(301, 203).convert("L"), "grey.png"),
    ]
    answer = graphs(folder / "whole")
    with ready(browser, (folder / "whole").as_uri() + "/") as seen:
        for file in pictures:
            path = tmp_path / str(file["name"])
            path.write_bytes(file["buffer"])
            score = float(judged(seen.page, file)["score"])
            expected = answer(read_image(path, 128)).scores[0]
            assert score == pytest.approx(expected, abs=2e-3), file["name"]
        judged(seen.page, pictures[3])
        shape = seen.page.locator(".pair canvas").first.evaluate("c => [c.width, c.height]")
        assert shape == [200, 300]
        assert checks.quiet(seen) == []


def test_what_cannot_be_judged_is_named_and_the_next_photograph_is(folder, browser):
    whole = as_file(quarters(300, 200), "cut.jpeg", quality=95)
    bad = [
        {"name": "no.png", "mimeType": "image/png", "buffer": b"no"},
        {"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b""},
        {**whole, "buffer": whole["buffer"][: len(whole["buffer"]) // 2]},
    ]
    with ready(browser, (folder / "single").as_uri() + "/") as seen:
        judged(seen.page, folder / "photographs" / "0.png")
        for file in bad:
            seen.page.locator("input[type=file]").last.set_input_files(file)
            seen.page.get_by_text(f"{file['name']} cannot be read as a picture").wait_for()
            assert not seen.page.locator(".verdict").is_visible(), "an old verdict"
        judged(seen.page, folder / "photographs" / "0.png")
        assert seen.page.locator(".verdict").is_visible()
        assert checks.quiet(seen) == []


def test_it_is_worked_with_the_keyboard_and_by_dropping(folder, browser):
    with ready(browser, (folder / "whole").as_uri() + "/") as seen:
        page = seen.page
        # Listening from the start: asked for only as the key is pressed, the browser may come late.
        choosers: list[FileChooser] = []
        page.on("filechooser", lambda chooser: choosers.append(chooser))
        page.keyboard.press("Tab")
        box = page.locator("label:focus-within")
        assert box.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        for _ in range(3):
            page.keyboard.press("Space")
            page.wait_for_timeout(2_000)
            if choosers:
                break
        choosers[0].set_files(folder / "photographs" / "rust4.jpg")
        page.get_by_text("Defect found", exact=True).wait_for()
        content = base64.b64encode((folder / "photographs" / "good0.jpg").read_bytes()).decode()
        page.evaluate(
            """(content) => {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
              document.querySelector("main").dispatchEvent(
                new DragEvent("drop", { dataTransfer, bubbles: true }));
            }""",
            content,
        )
        page.get_by_text("dropped.jpg,").wait_for()
        assert page.get_by_text("No defect found", exact=True).is_visible()


@pytest.mark.parametrize("how", [{}, {"dark": True, "narrow": True}], ids=["desk", "telephone"])
def test_it_can_be_read_by_everybody(how, folder, browser):
    server = serve(folder / "whole")  # axe-core reads style sheets, which it may not from disk
    root = f"http://127.0.0.1:{server.server_port}/"
    with ready(browser, root, **how) as seen:
        page = seen.page
        page.get_by_text("What this page does").click()
        for file in ("good0.jpg", "rust4.jpg"):
            judged(page, folder / "photographs" / file)
            assert checks.fits(page) == []
            assert checks.described(page) == []
            assert checks.accessible(page, AXE) == []
        assert not how or checks.dark_enough(page) == []
    server.shutdown()


def test_a_telephone_is_offered_its_camera(folder, browser):
    for touch in (True, False):
        context = browser.new_context(viewport=checks.NARROW, has_touch=touch, is_mobile=touch)
        page = context.new_page()
        page.goto((folder / "single" / "index.html").as_uri())
        page.get_by_text("Ready:").wait_for(timeout=60_000)
        assert page.get_by_text("Take a photograph").is_visible() is touch
        assert page.locator("[capture=environment][accept='image/*']").count() == 1
        assert page.get_by_text("Choose a photograph, or drop one here").is_visible()
        context.close()


def test_the_browser_itself_keeps_the_page_from_sending(folder, browser):
    with ready(browser, (folder / "single").as_uri() + "/") as seen:
        for attempt in (
            "fetch('https://example.com/', { method: 'POST', body: 'a photograph' })",
            "new Promise((yes, no) => { const image = new Image(); image.onload = yes;"
            " image.onerror = no; image.src = 'https://example.com/?a=photograph'; })",
        ):
            assert seen.page.evaluate(f"{attempt}.then(() => 'sent', () => 'kept')") == "kept"
        assert seen.elsewhere == [], "it was not even tried"
        refused = [text for text in seen.errors if "Content Security Policy directive" in text]
        assert len(refused) == 2


def test_16_bits_are_refused_where_white_is_the_camera_s(folder, browser, tmp_path):
    deep = as_file(Image.fromarray(np.full((40, 40), 4000, np.uint16)), "deep.png")
    page = (folder / "single" / "index.html").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(page.replace('"white": 65535', '"white": 4095'))
    with ready(browser, tmp_path.as_uri() + "/") as seen:
        seen.page.locator("input[type=file]").last.set_input_files(deep)
        seen.page.get_by_text("deep.png has 16 bits per colour, and white is 4095").wait_for()


def test_a_missing_file_and_an_old_browser_are_told(folder, browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/teacher.onnx.1.js", lambda route: route.abort())
        page.goto((folder / "whole" / "index.html").as_uri())
        page.get_by_text("teacher.onnx.1.js could not be loaded").wait_for()
        page = context.new_page()
        page.add_init_script("delete self.OffscreenCanvas")
        page.goto((folder / "whole" / "index.html").as_uri())
        page.get_by_text("it lacks OffscreenCanvas").wait_for()
