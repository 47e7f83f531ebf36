"""What the live page is built from: two graphs, packed files, and strokes that never change."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from destseg_lib.config import TOP_PIXELS
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation import browser
from destseg_lib.metrics import image_scores
from destseg_lib.runs.halves import Answer, Halves, export_halves, open_halves
from destseg_lib.runs.run import Run
from tests.tiny import TINY, tiny_model
from tools.live import build
from tools.live.strokes import FEWEST, PARTS, PER_KIND, STROKES, VISIBLE, erase, painted


def tiny_run(**model: object) -> Run:
    config = replace(TINY, model=replace(TINY.model, **model), image_size=64)
    return Run(tiny_model(config).eval(), config, "random", ())


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return draw_category("wood", 64, ImageCounts(0, 2, 0), progress=False).test


@pytest.fixture(scope="module")
def halves() -> Halves:
    return export_halves(tiny_run(), "fp32")


def assert_answers_as(halves: Halves, run: Run, pictures: np.ndarray) -> Answer:
    """The graphs answer as the run; the last answer."""
    answer = open_halves(halves)
    (expected,) = run.maps(pictures)
    for number, picture in enumerate(pictures):
        given = answer(picture)
        assert given.maps.shape == (2 + len(run.config.model.levels), 256, 256)
        np.testing.assert_allclose(given.maps[0], expected.final[number], atol=1e-4)
        np.testing.assert_allclose(given.maps[1], expected.student[number], atol=1e-4)
        np.testing.assert_allclose(given.scores, image_scores(given.maps, TOP_PIXELS), atol=1e-5)
    return given


def test_two_graphs_give_the_maps_and_scores_of_the_model(halves, pictures):
    assert_answers_as(halves, tiny_run(), pictures)


def test_no_path_of_the_machine_is_in_a_graph(halves):
    for content in (halves.teacher, halves.rest):
        assert b"destseg_lib/" not in content
        assert str(build.ROOT).encode() not in content


@pytest.mark.slow
def test_two_graphs_of_an_ablation_give_its_levels_too(pictures):
    run = tiny_run(levels=(2, 3), segmentation=False, student_map="sum")
    given = assert_answers_as(export_halves(run, "fp32"), run, pictures)
    np.testing.assert_allclose(given.maps[2:].sum(axis=0), given.maps[0], atol=1e-4)


@pytest.mark.slow
def test_runs_with_one_teacher_share_its_graph(halves):
    other = export_halves(tiny_run(segmentation_input="cosine"), "fp32")
    assert other.teacher == halves.teacher
    assert other.rest != halves.rest


def test_a_packed_file_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "LIVE", tmp_path)
    monkeypatch.setattr(browser, "PART", 400)
    content = np.random.default_rng(0).bytes(4000)
    parts = browser.packed("one.onnx", content)
    for key, part in parts.items():
        (tmp_path / f"{key}.js").write_text(browser.part_script(key, part))
    assert build.unpack("one.onnx") == content
    assert browser.sizes(parts)["one.onnx"]["parts"] == len(parts) > 10
    assert max(map(len, parts.values())) == 400


def test_graphs_that_differ_from_torch_are_refused(monkeypatch):
    monkeypatch.setattr(
        "destseg_lib.runs.halves.open_halves",
        lambda _: lambda __: Answer(np.ones((5, 256, 256), np.float32), np.ones(5, np.float32)),
    )
    with pytest.raises(DeSTSegError, match="the exported graphs differ from torch by"):
        export_halves(tiny_run(), "fp32")


def test_strokes_are_the_same_each_time_and_can_be_seen():
    good = draw_category("component", 128, ImageCounts(0, 3, 0), progress=False).test
    strokes, again = list(painted(good, 0)), list(painted(good, 0))
    assert [s.kind for s in strokes] == [
        kind for kind in [*(s.name for s in STROKES), *PARTS] for _ in range(PER_KIND)
    ]
    for number, (one, other) in enumerate(zip(strokes, again, strict=True)):
        np.testing.assert_array_equal(one.picture, other.picture)
        difference = np.abs(one.picture.astype(int) - good[number % 3]).max(axis=2)
        assert (difference >= VISIBLE).sum() >= FEWEST
        np.testing.assert_array_equal(one.changed, difference > 0)


def test_what_is_erased_is_filled_with_what_is_around_it():
    picture = np.full((32, 32, 3), 100, np.uint8)
    picture[10:20, 10:20] = 255
    assert (erase(picture, (10, 10, 20, 20)) == 100).all()


def test_the_page_begins_with_the_category_that_is_found_best():
    record = json.loads(build.RECORD.read_text(encoding="utf-8"))
    found = [record["categories"][name]["lines"]["found"] for name in build.CATEGORIES]
    assert found[0] >= 0.9
    assert found == sorted(found, reverse=True)
    assert record["weights"] == build.WEIGHTS
