"""The few real photographs of the book: small, named with their licence, and nowhere else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from destseg_lib.images.folders import find_category
from destseg_lib.images.read import read_image, read_mask
from destseg_lib.studies.records import project_photographs

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "book" / "static" / "photographs"
LICENCE = "CC BY-NC-SA 4.0"
SHOWING = ("01_never_seen", "09_results")  # the chapters that show them

needs_photographs = pytest.mark.skipif(not FOLDER.exists(), reason="this copy has none")


@needs_photographs
def test_they_are_two_categories_and_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.name for path in FOLDER.iterdir()} == {"transistor", "screw", "maps", "LICENSE.md"}
    assert max(path.stat().st_size for path in files) <= 40_000
    assert sum(path.stat().st_size for path in files) <= 500_000


@needs_photographs
@pytest.mark.parametrize("name", ["transistor", "screw"])
def test_they_are_read_as_any_category_and_every_defect_has_its_mask(name: str) -> None:
    category = find_category(FOLDER / name)
    assert len(category.train) >= 4
    for test in category.test:
        assert read_image(test.path, 256).shape == (256, 256, 3)
        assert (test.mask is None) == (test.defect == "good")
        if test.mask:
            share = np.mean(read_mask(test.mask, 256).pixels != 0)
            assert 0 < share < 0.5


@needs_photographs
@pytest.mark.parametrize("name", ["transistor", "screw"])
def test_every_test_photograph_has_a_map_that_marks_defects_more_than_good_parts(name: str) -> None:
    brightest = {True: [], False: []}
    for test in find_category(FOLDER / name).test:
        place = FOLDER / "maps" / name / test.path.relative_to(FOLDER / name)
        levels = read_image(place.with_suffix(".png"), 48)[..., 0]
        brightest[test.defect == "good"].append(levels.max())
    assert min(map(len, brightest.values())) >= 1
    assert np.median(brightest[False]) > max(brightest[True])
    record = json.loads((FOLDER / "maps" / "maps.json").read_text(encoding="utf-8"))
    assert record["provenance"]["commit"] and record["teacher"]


@needs_photographs
def test_their_licence_names_authors_source_and_changes() -> None:
    text = (FOLDER / "LICENSE.md").read_text(encoding="utf-8")
    for word in (LICENCE, "Bergmann", "mvtec.com", "resized", "paired", "reconstruction"):
        assert word in text


@pytest.mark.parametrize("file", ["LICENSE-TEXT", "README.md", "_config.yml", "book/index.ipynb"])
def test_the_project_s_own_licences_except_them(file: str) -> None:
    assert LICENCE in (ROOT / file).read_text(encoding="utf-8")


def test_every_figure_that_shows_them_says_whose_they_are() -> None:
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        uses = [c for c in cells if c.cell_type == "code" and "project_photographs(" in c.source]
        assert bool(uses) == (path.stem in SHOWING), path.name
        captions = [
            c.metadata["mystnb"]["figure"]["caption"]
            for c in cells
            if "figure" in c.metadata.get("mystnb", {})
        ]
        said = [caption for caption in captions if "MVTec AD (Bergmann" in caption]
        assert len(said) == len(uses)
        assert all(LICENCE in caption and "resized" in caption for caption in said)


def test_nothing_else_uses_them() -> None:
    """The README's picture, the landing and live pages, the quizzes and assignments: none."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("assignments", "book", "destseg_lib", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".ipynb", ".js", ".css", ".toml"}
        and re.search(r"static/photographs|project_photographs\(", path.read_text("utf-8"))
    }
    shown = {f"book/{name}.ipynb" for name in SHOWING}
    assert found == shown | {"destseg_lib/studies/records.py", "tools/book/photographs.py"}


def test_a_copy_without_them_is_told_from_one_with(tmp_path: Path) -> None:
    (tmp_path / "results" / "world").mkdir(parents=True)
    assert project_photographs("screw", here=tmp_path) is None
    assert project_photographs("screw", here=tmp_path / "elsewhere" / "deep") is None
    folder = tmp_path / "book" / "static" / "photographs" / "screw"
    folder.mkdir(parents=True)
    found = project_photographs("screw", here=tmp_path / "book")
    assert found and found.resolve() == folder.resolve()


@pytest.mark.slow
def test_wheel_and_sdist_hold_none(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if not name.startswith(("tests/", "results/")) and (ROOT / name).is_file():
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "copy" / name)
    build = (
        "import sys; from setuptools import build_meta as b; "
        "out = sys.argv[1]; b.build_wheel(out); b.build_sdist(out)"
    )
    subprocess.run(
        [sys.executable, "-c", build, tmp_path / "dist"],
        cwd=tmp_path / "copy", check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    names = zipfile.ZipFile(wheel).namelist()
    names += [path.as_posix() for path in (tmp_path / "unpacked").rglob("*")]
    assert any(name.endswith("model.py") for name in names)
    assert not [name for name in names if "photographs/" in name or name.endswith(".jpg")]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWING)
def test_a_chapter_runs_where_they_are_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a shell may set one that shows no pictures
    (tmp_path / "results").symlink_to(ROOT / "results")
    (tmp_path / "book").mkdir()
    notebook = nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)
    # What comes after the last figure of theirs does not look at them.
    last = max(n for n, c in enumerate(notebook.cells) if "project_photographs(" in c.source)
    notebook.cells = notebook.cells[: last + 3]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path / "book"))
    pictures = json.dumps([c.get("outputs", []) for c in notebook.cells[last : last + 2]])
    assert "image/png" in pictures
