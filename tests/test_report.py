"""What a study's records are made to say, checked where the answer is known."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.studies.compare import bootstrap, compare, unfinished
from destseg_lib.studies.records import project_results
from destseg_lib.studies.report import write_report
from destseg_lib.studies.study import Study

STUDY = Study(
    name="a study",
    recipe="tiny",
    categories=("metal", "terrazzo"),
    seeds=(0, 1, 2),
    variants={"whole": {}, "without <L1>": {"l1": False}},
    reference="whole",
    paper={"whole": {"image_auroc": 98.6}},
)
VALUES = {
    ("whole", "metal"): (0.80, 0.82, 0.84),
    ("whole", "terrazzo"): (0.60, 0.70, 0.80),
    ("without <L1>", "metal"): (0.70, 0.71, 0.75),
    ("without <L1>", "terrazzo"): (0.55, 0.60, 0.79),
}


def records() -> list[dict]:
    return [
        {
            "variant": v,
            "category": c,
            "seed": s,
            "status": "done",
            **dict.fromkeys(METRIC_NAMES, value),
        }
        for (v, c), values in VALUES.items()
        for s, value in enumerate(values)
    ]


def fail(every: list[dict], place: int) -> list[dict]:
    kept = {key: every[place][key] for key in ("variant", "category", "seed")}
    every[place] = {**kept, "status": "failed", "error": "RuntimeError: out of memory"}
    return every


# The bootstrap


def test_two_pairs_have_the_interval_that_enumeration_gives():
    """Resampling two values gives the lower, the mean, the higher with shares 1/4, 1/2, 1/4."""
    found = bootstrap([0.1, 0.3])
    means = [np.mean(pair) for pair in itertools.product([0.1, 0.3], repeat=2)]
    assert (found.low, found.high) == pytest.approx((min(means), max(means)))
    inner = bootstrap([0.1, 0.3], level=0.4)
    assert (inner.low, inner.high) == pytest.approx((0.2, 0.2))


def test_many_pairs_have_the_interval_of_the_normal_law():
    values = np.random.default_rng(0).normal(0.05, 0.1, 400)
    found = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for n in range(300):
        found = bootstrap(rng.normal(0.02, 0.05, 30), draws=1000, seed=n)
        inside += found.low <= 0.02 <= found.high
    assert 0.89 <= inside / 300 <= 0.98


def test_equal_differences_leave_no_doubt_and_one_pair_nothing_but_doubt():
    assert bootstrap([0.1] * 3).verdict == "better"
    assert bootstrap([-0.1] * 3).verdict == "worse"
    assert bootstrap([0.1, -0.1, 0.05]).verdict == "undecided"
    alone = bootstrap([0.3])
    assert (alone.low, alone.high, alone.verdict) == (None, None, "undecided")


@pytest.mark.parametrize("wrong", [[], [0.1, float("nan")], [[0.1]]])
def test_what_has_no_mean_is_refused(wrong):
    with pytest.raises(DeSTSegError, match="give one or more finite numbers"):
        bootstrap(wrong)


# Comparing


def test_means_spreads_and_differences_are_those_of_the_values():
    whole, without = compare(STUDY, records(), "image_auroc")
    table = np.array([VALUES["whole", c] for c in STUDY.categories])
    other = np.array([VALUES["without <L1>", c] for c in STUDY.categories])
    assert whole.mean == pytest.approx(table.mean())
    assert whole.spread == pytest.approx(table.mean(0).std(ddof=1))
    assert (whole.done, whole.asked, whole.difference, whole.paper) == (6, 6, None, 0.986)
    assert without.difference.mean == pytest.approx((other - table).mean())
    assert without.difference.pairs == 6
    assert without.difference.verdict == "worse"


def test_a_failed_run_is_not_averaged_over():
    every = fail(records(), 5)  # whole, terrazzo, seed 2
    whole, without = compare(STUDY, every, "pixel_ap")
    assert (whole.done, without.done) == (5, 6)
    assert without.difference.pairs == 5
    # The seed without all its categories is no part of the spread.
    assert whole.spread == pytest.approx(np.std([0.70, 0.76], ddof=1))
    assert unfinished(STUDY, every) == [
        "whole, terrazzo, seed 2: failed, RuntimeError: out of memory"
    ]
    assert unfinished(STUDY, every[:-1])[-1] == "without <L1>, terrazzo, seed 2: not run"


def test_a_category_without_any_run_leaves_the_others():
    every = [r for r in records() if r["category"] == "metal"]
    whole, _ = compare(STUDY, every, "iap")
    assert (whole.mean, whole.spread, whole.done) == (pytest.approx(0.82), None, 3)


def test_an_unknown_metric_is_refused():
    with pytest.raises(DeSTSegError, match="no metric 'f1'; choose one of image_auroc"):
        compare(STUDY, records(), "f1")


def test_categories_of_one_name_in_two_folders_are_two():
    both = replace(STUDY, categories=("lineA/bolt", "lineB/bolt", "metal"), seeds=(0,))
    every = [
        {
            "variant": v,
            "category": c,
            "seed": 0,
            "status": "done",
            **dict.fromkeys(METRIC_NAMES, value),
        }
        for v in STUDY.variants
        for c, value in zip(both.categories, (0.2, 0.6, 1.0), strict=True)
    ]
    whole, _ = compare(both, every, "iap")
    assert (whole.mean, whole.done) == (pytest.approx(0.6), 3)
    assert unfinished(both, every[1:]) == ["whole, lineA/bolt, seed 0: not run"]
    assert "whole, metal, seed 0: not run" in unfinished(both, every[:2])


# The report


def test_all_forms_say_the_same(tmp_path):
    path = write_report(replace(STUDY, about="A & B."), records(), tmp_path)
    text = path.read_text()
    whole, without = compare(STUDY, records(), "image_auroc")
    d = without.difference
    assert f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]" in text
    assert "| whole | 76.0 |" in text and "98.6" in text
    assert "without <L1>" in text and "A & B." in text
    with (tmp_path / "report.csv").open() as file:
        rows = {(r["figure"], r["variant"]): r for r in csv.DictReader(file)}
    assert float(rows["image_auroc", "whole"]["mean"]) == whole.mean
    assert float(rows["image_auroc", "without <L1>"]["low"]) == d.low
    assert (tmp_path / "image_auroc.svg").read_text().lstrip().startswith("<?xml")
    assert "missing" not in text


def test_a_missing_run_stands_at_the_top_and_in_its_row(tmp_path):
    text = write_report(STUDY, fail(records(), 0), tmp_path).read_text()
    assert text.index("1 runs are missing") < text.index("## image AUROC")
    assert "out of memory" in text
    assert "**5 of 6**" in text


def test_nothing_finished_is_no_report(tmp_path):
    with pytest.raises(DeSTSegError, match="no run of a study has finished"):
        write_report(STUDY, fail(records()[:1], 0), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DeSTSegError, match="could not be written"):
        write_report(STUDY, records(), tmp_path / "file")


# The project's own records


def test_the_project_s_records_are_found_beside_the_book_here_and_in_a_clone(tmp_path, monkeypatch):
    (tmp_path / "results" / "world").mkdir(parents=True)
    for place in ("book", ".", "course/destseg-project"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    expected = (tmp_path / "results").resolve()
    assert project_results(here=tmp_path / "book").resolve() == expected
    assert project_results(here=tmp_path).resolve() == expected
    below = tmp_path / "course" / "notes" / "destseg-project"
    (below / "results" / "world").mkdir(parents=True)
    assert project_results("a/b", here=below.parent) == below / "results"


def test_without_records_a_clone_is_tried_and_then_it_is_said_what_to_do(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("subprocess.run", lambda command, check: commands.append(command))
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    with pytest.raises(DeSTSegError, match=r"no folder 'results' here or above\. Clone"):
        project_results(here=here)
    assert commands == []
    with pytest.raises(DeSTSegError, match="Clone the project"):
        project_results("owner/name", "v1", here)
    assert commands[0][-4:-1] == ["-b", "v1", "https://github.com/owner/name"]
