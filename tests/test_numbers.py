"""Numbers in the book's prose are those of the records and of the cells that they name."""

from __future__ import annotations

import json
from pathlib import Path

import numbers_in_prose
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", numbers_in_prose.prose(), ids=lambda path: path.stem)
def test_no_number_of_the_book_is_stale(path):
    assert numbers_in_prose.stale(path) == []


@pytest.fixture
def chapter(tmp_path: Path):
    """A project with one record and one chapter, whose prose is given."""
    (tmp_path / "results").mkdir()
    record = {"mean": {"aupro": 0.98649, "by pixel": 7}, "runs": [{"images": 1234}]}
    (tmp_path / "results" / "tile.json").write_text(json.dumps(record), encoding="utf-8")

    def problems(prose: str, checked: bool = True) -> list[str]:
        code = {
            "cell_type": "code", "id": "draw", "source": ["print(612)"],
            "metadata": {"tags": ["nbval-check-output"] if checked else []},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["612 of 9\n"]}],
        }  # fmt: skip
        path = tmp_path / "one.ipynb"
        cells = [{"cell_type": "markdown", "id": "a", "source": [prose]}, code]
        path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
        return numbers_in_prose.stale(path, tmp_path)

    return problems


@pytest.mark.parametrize(
    "prose",
    [
        "AUPRO is 0.986<!-- results/tile.json#mean/aupro --> here.",
        "AUPRO is **98.6** %<!-- results/tile.json#mean/aupro*100 -->.",
        "There are 7<!-- results/tile.json#mean/by pixel --> of them.",
        "All 1,234 images<!-- results/tile.json#runs/0/images -->.",
        "There are 612<!-- cell:draw --> of them and 9<!-- cell:draw --> more.",
        "No number is anchored, 17 is not <!-- a note -->.",
    ],
)
def test_a_number_that_is_what_it_says_passes(chapter, prose):
    assert chapter(prose) == []


@pytest.mark.parametrize(
    ("prose", "message"),
    [
        ("AUPRO is 0.987<!-- results/tile.json#mean/aupro -->.", "0.987 is stale"),
        ("AUPRO is 98.7 %<!-- results/tile.json#mean/aupro*100 -->.", "98.7 is stale"),
        ("There are 613<!-- cell:draw -->.", "613 is stale: cell:draw says 612, 9"),
        ("There are 12<!-- cell:draw -->.", "12 is stale"),
        ("AUPRO is 0.99<!-- results/gone.json#mean -->.", "leads nowhere"),
        ("AUPRO is 0.99<!-- results/tile.json#mean/iap -->.", "leads nowhere"),
        ("There are 612<!-- cell:gone -->.", "no checked cell gone"),
        ("AUPRO is high<!-- results/tile.json#mean/aupro -->.", "does not follow a number"),
    ],
)
def test_a_stale_number_or_a_lost_anchor_is_named(chapter, prose, message):
    assert message in "\n".join(chapter(prose))


def test_numbers_are_brought_to_their_records(chapter, tmp_path):
    prose = (
        "AUPRO **{}** %<!-- results/tile.json#mean/aupro*100 -->, "
        "{}<!-- results/tile.json#runs/0/images --> images, 7<!-- cell:other -->."
    )
    found = numbers_in_prose.updated(prose.format("0.0", "9,000"), tmp_path)
    assert found == prose.format("98.6", "1,234")


def test_an_output_that_nothing_compares_anchors_nothing(chapter):
    assert "no checked cell draw" in chapter("There are 612<!-- cell:draw -->.", checked=False)[0]
