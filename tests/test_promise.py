"""How near held-out photographs are, and whether a promise is kept: against brute force."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import binomtest
from tiny import TINY

from destseg_lib.drawn import CATEGORIES
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.nearness import (
    nearest,
    nearness,
    own_kind,
    pooled_features,
    repeats,
    shift,
)
from destseg_lib.evaluation.promise import binomial_interval, check_promise, scores_of_maps
from destseg_lib.images.load import load_images
from destseg_lib.model import PredictedMaps, score_images
from destseg_lib.runs.run import Run, load_run
from destseg_lib.runs.train import TrainingJob
from destseg_lib.teacher import load_teacher
from destseg_lib.threshold import threshold_at

pytestmark = pytest.mark.usefixtures("one_thread")
EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "promise.py"


def points(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# ---- nearness


def test_features_are_the_means_of_levels_two_and_three_each_of_length_one():
    teacher = load_teacher("random")
    images = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = pooled_features(teacher, images)
    assert found.shape == (3, 384)
    _, two, three = teacher(images)
    for part, level in ((found[:, :128], two), (found[:, 128:], three)):
        mean = torch.stack([image.flatten(1).mean(1) for image in level])
        torch.testing.assert_close(part, mean / mean.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("neighbour", [1, 2, 9])
def test_nearness_compares_every_pair_of_a_held_out_and_a_new_photograph(neighbour):
    kept, held_out, new = points(0, 9, 4), points(1, 5, 4), 1.3 * points(2, 7, 4)
    one, other = (
        [sorted(float(np.linalg.norm(a - b)) for b in kept)[neighbour - 1] for a in rows]
        for rows in (held_out, new)
    )
    found = nearness(cdist(held_out, kept), cdist(new, kept), neighbour)
    assert found.held_out == pytest.approx(np.median(one))
    assert found.ratio == pytest.approx(np.median(one) / np.median(other))
    assert found.farther == pytest.approx(np.mean([b > a for a in one for b in other]))


def test_photographs_that_are_in_training_twice_are_nearer_than_new_ones_in_the_first_neighbour():
    good, new = points(0, 200, 8), points(1, 50, 8)
    twice = np.concatenate([good, good + 0.01 * points(2, 200, 8)])
    kept, held_out = np.arange(20, 400), np.arange(20)
    near = nearness(cdist(twice[held_out], twice[kept]), cdist(new, twice[kept]))
    far = nearness(cdist(twice[held_out], twice[kept]), cdist(new, twice[kept]), 20)
    assert near.farther == 1 and near.ratio < 0.1
    assert 0.3 < far.farther < 0.7
    day = nearness(cdist(good[:20], good[20:]), cdist(new + 1, good[20:]), 20)
    assert day.farther > 0.8, "another day shows in later neighbours too"


def test_ties_count_half_and_nothing_to_compare_is_refused():
    same = np.ones((3, 4))
    assert nearness(same, same).farther == 0.5
    with pytest.raises(DeSTSegError, match="one or more of each"):
        nearness(np.empty((0, 4)), same)
    for neighbour in (0, 5):
        with pytest.raises(DeSTSegError, match=f"no neighbour {neighbour} among 4 photographs"):
            nearest(same, neighbour)


def test_new_photographs_of_another_day_are_nearest_to_one_another():
    good, new = points(0, 150, 8), points(1, 51, 8)
    alike = own_kind(cdist(new, new), cdist(new, good))
    assert alike[1] == 0.25 and abs(alike[0] - 0.25) < 0.15
    other = own_kind(cdist(new, new), cdist(new + 3, good))
    assert other[0] > 0.9


def test_own_kind_never_counts_a_photograph_as_its_own_neighbour():
    assert own_kind(cdist([[0.0], [9.0]], [[0.0], [9.0]]), cdist([[0.0], [9.0]], [[1.0]]))[0] == 0.0


def test_a_shift_is_the_energy_distance_and_rare_among_permutations_on_another_day_only():
    good, new, random = points(0, 60, 4), points(1, 20, 4), np.random.default_rng(0)

    def mean(a, b):
        return np.mean([np.linalg.norm(x - y) for x in a for y in b])

    def found(new):
        return shift(cdist(good, good), cdist(new, good), cdist(new, new), random, 199)

    energy, p = found(new)
    assert energy == pytest.approx(2 * mean(good, new) - mean(good, good) - mean(new, new))
    assert p > 0.05
    energy, p = found(new + 1)
    assert energy == pytest.approx(2 * mean(good, new + 1) - mean(good, good) - mean(new, new))
    assert p == 1 / 200


@pytest.mark.parametrize("period", [1, 20, 90])
def test_the_distance_at_which_photographs_repeat_is_found(period):
    rounds = np.cumsum(0.05 * points(1, 180 // period, period, 16), axis=0)  # parts change slowly
    good = (points(0, period, 16) + rounds).reshape(180, 16)
    found = repeats(cdist(good, good), width=5)
    assert found.first <= period <= found.last
    brute = np.abs(np.array([np.argsort(row)[1] for row in cdist(good, good)]) - np.arange(180))
    assert found.share == pytest.approx(np.mean((brute >= found.first) & (brute <= found.last)))
    pairs = [abs(i - j) for i in range(180) for j in range(180) if i != j]
    inside = [found.first <= d <= found.last for d in pairs]
    assert found.chance == pytest.approx(np.mean(inside))


def test_a_random_order_repeats_nowhere_much_more_than_chance():
    found = repeats(cdist(points(0, 300, 8), points(0, 300, 8)))
    assert found.last - found.first == 10 and found.share < found.chance + 0.1


# ---- promises


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 41), (5, 41), (41, 41)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_interval_is_that_of_clopper_and_pearson(successes, trials, level):
    expected = binomtest(successes, trials).proportion_ci(level, method="exact")
    assert binomial_interval(successes, trials, level) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 4), (5, 4)])
def test_what_is_no_share_has_no_interval(successes, trials):
    with pytest.raises(DeSTSegError, match=f"{successes} of {trials} is no share"):
        binomial_interval(successes, trials)


def test_a_promise_is_held_against_the_images_above_its_threshold():
    held_out, new = points(0, 21), points(1, 60) + 1
    found = check_promise(held_out, new)
    assert found.promised == 1 / 22 and found.calibrated_on == 21
    assert found.above == sum(score > threshold_at(held_out, None).value for score in new)
    assert found.achieved == found.above / 60
    assert (found.low, found.high) == binomial_interval(found.above, 60)
    assert not found.contained and found.achieved > 0.1
    assert check_promise(held_out, points(1, 60) - 9, 0.1).above == 0


def test_the_chance_to_contain_a_promise_is_what_simulation_gives():
    random = np.random.default_rng(0)
    tried = [check_promise(random.random(21), random.random(60), 0.1) for _ in range(400)]
    share = np.mean([found.contained for found in tried])
    assert share == pytest.approx(tried[0].contained_by_chance, abs=0.07)
    assert tried[0].contained_by_chance < 0.85, "far below the interval's 95 %"


@pytest.mark.parametrize(("held_out", "new"), [([], [1.0]), ([1.0], [])])
def test_a_promise_without_scores_is_refused(held_out, new):
    with pytest.raises(DeSTSegError, match="held-out and of new good images"):
        check_promise(held_out, new)


def test_a_rate_that_cannot_be_resolved_is_refused():
    with pytest.raises(DeSTSegError, match="needs at least 99 good images"):
        check_promise([1.0] * 20, [1.0], 0.01)


def test_the_three_scores_of_maps():
    final, student = (np.abs(points(seed, 5, 32, 32)).astype(np.float32) for seed in (0, 1))
    found = scores_of_maps(PredictedMaps(final[i], student[i]) for i in (slice(0, 2), slice(2, 5)))
    expected = [np.sort(m.reshape(5, -1), axis=1)[:, -100:].mean(axis=1) for m in (final, student)]
    np.testing.assert_allclose(found["final"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found["product"], expected[1], rtol=1e-6)
    np.testing.assert_allclose(found["both"], np.sqrt(expected[0] * expected[1]), rtol=1e-6)
    scaled = scores_of_maps([PredictedMaps(1000 * final, student)])["both"]
    assert list(np.argsort(scaled)) == list(np.argsort(found["both"]))


# ---- the experiment


def photographs(root: Path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train/good", 40), ("test/good", 6), ("test/hole", 4)):
        (root / part).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / f"{number // 4:02d}_{number:02d}.png")
    return root


def experiment(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["promise.py", *map(str, words)])
    runpy.run_path(str(EXPERIMENT), run_name="__main__")


def test_the_experiment_measures_each_way_once(tmp_path, monkeypatch, capsys):
    data, records = photographs(tmp_path / "bolts"), tmp_path / "records"
    command = ("near", data, "--teacher", "random", "--size", 32, "--records", records)
    experiment(monkeypatch, *command, "--group-by", r"^\d+")
    record = json.loads((records / "near-bolts.json").read_text())
    assert record["photographs"] == {"good": 40, "new": 6}
    assert 0 < record["shift"]["p"] <= 1
    assert list(record["ways"]) == ["photographs", "blocks", "groups"]
    for found in record["ways"].values():
        assert found["held_out"]["mean"] == 4
        assert found["promised"]["mean"] == pytest.approx(1 / 5)
        low, high = found["nearest_farther"]["interval"]
        assert 0 <= low <= found["nearest_farther"]["mean"] <= high <= 1
    capsys.readouterr()
    experiment(monkeypatch, *command)
    assert capsys.readouterr().out == "", "what has a record is not measured again"


def test_a_folder_without_good_test_images_is_refused(tmp_path, monkeypatch):
    data = photographs(tmp_path / "bolts") / "train" / "good"
    with pytest.raises(SystemExit, match="no good test images"):
        experiment(monkeypatch, "near", data, "--teacher", "random", "--records", tmp_path / "r")


@pytest.mark.parametrize("changes", [{}, {"holdout_by": "blocks"}, {"group_by": r"^\d+"}])
def test_a_runs_promises_are_held_against_good_test_images(tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)  # where drawn categories would be kept
    data, run = str(photographs(tmp_path / "bolts")), tmp_path / "run"
    config = replace(TINY, holdout=0.3, **changes)
    job = TrainingJob(teacher="random", device="cpu", progress=False, threads=1)
    module = runpy.run_path(str(EXPERIMENT))
    record = module["kept"](data, config, job, run)
    assert record["photographs"] == {"good": 40, "held_out": 12, "new": 6}
    scores = json.loads((run / "calibration.json").read_text())["scores"]
    for name, found in record["scores"].items():
        assert 0 <= found["image_auroc"] <= 1, name
        assert found["best"]["promised"] == pytest.approx(1 / 13)
        assert found["best"]["images"] == 6 and found["best"]["calibrated_on"] == 12
        assert found["tenth"]["above"] == found["best"]["above"], "both take the first of twelve"
    paths = sorted((tmp_path / "bolts/test/good").iterdir())
    loaded = load_run(run, torch.device("cpu"))
    above = image_scores(loaded, paths) > max(scores)
    assert record["scores"]["final"]["best"]["above"] == above.sum()


def image_scores(run: Run, paths: list[Path]) -> np.ndarray:
    pixels = load_images(paths, 32, progress=False).pixels
    return score_images(run.model, pixels, precision="fp32", progress=False)


def test_a_run_that_held_out_other_images_is_not_measured(tmp_path):
    data, run = photographs(tmp_path / "bolts"), tmp_path / "run"
    job = TrainingJob(teacher="random", device="cpu", progress=False, threads=1)
    module = runpy.run_path(str(EXPERIMENT))
    module["kept"](str(data), replace(TINY, holdout=0.25), job, run)
    for path in (data / "train/good").iterdir():
        Image.new("RGB", (32, 32), "white").save(path)
    with pytest.raises(DeSTSegError, match=r"held out other images than those in .*bolts"):
        module["kept"](str(data), replace(TINY, holdout=0.25), job, run)


# ---- the words of results/README.md


RECORDS = Path(__file__).resolve().parents[1] / "results" / "promise"
WAYS = ("photographs", "blocks")


def near(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RECORDS / f"near-{name}.json").read_text(encoding="utf-8"))
    return record


@pytest.mark.parametrize("category", [category.name for category in CATEGORIES])
@pytest.mark.parametrize("way", WAYS)
def test_independent_draws_are_as_near_when_new_as_when_held_out(category, way):
    for neighbour in ("nearest", "far"):
        low, high = near(category)["ways"][way][f"{neighbour}_ratio"]["interval"]
        assert low <= 1 <= high


def test_gravel_shows_what_both_causes_look_like():
    record = near("gravel")
    for way in WAYS:
        found = record["ways"][way]
        assert found["far_ratio"]["interval"][1] < 1
        assert found["nearest_ratio"]["interval"][1] < found["far_ratio"]["interval"][0]
    assert record["nearest_is_new"]["share"] > 0.9


def test_good_test_tiles_are_like_held_out_ones_and_tiles_repeat_after_a_sixth_of_the_set():
    record = near("magnetic_tile")
    for way in WAYS:
        for neighbour in ("nearest", "far"):
            low, high = record["ways"][way][f"{neighbour}_farther"]["interval"]
            assert low <= 0.5 <= high
    assert record["shift"]["p"] > 0.05
    again = record["repeats"]
    assert again["first"] <= record["photographs"]["good"] / 6 <= again["last"]
    assert again["share"] == pytest.approx(2 / 3, abs=0.02)


def test_held_out_screws_are_nearer_most_so_in_the_nearest_neighbour():
    record = near("screw")
    for way in WAYS:
        found = record["ways"][way]
        assert found["nearest_ratio"]["mean"] == pytest.approx(0.9, abs=0.01)
        gaps = [1 - found[f"{neighbour}_ratio"]["mean"] for neighbour in ("far", "nearest")]
        assert gaps[0] / gaps[1] == pytest.approx(0.5, abs=0.05)
        assert found["far_ratio"]["interval"][1] < 1
        assert found["achieved"]["mean"] > 2 * found["promised"]["mean"]
    assert record["nearest_is_new"]["share"] == pytest.approx(0.5, abs=0.02)
    assert record["nearest_is_new"]["chance"] < 0.12
    assert record["shift"]["p"] < 0.05
    assert (record["repeats"]["first"], record["repeats"]["last"]) == (15, 25)
    assert record["ways"]["blocks"]["held_out"]["mean"] / 3 < 11


def test_new_transistors_are_others_as_a_whole_and_nearer_than_those_held_out():
    record = near("transistor")
    for way in WAYS:
        found = record["ways"][way]
        assert found["nearest_ratio"]["interval"][0] > 1
        assert found["achieved"]["mean"] < found["promised"]["mean"]
    assert record["nearest_is_new"]["share"] > 2 * record["nearest_is_new"]["chance"]
    assert record["shift"]["p"] == 0.001


KEPT_ON_DRAWN = {"final": 21, "product": 21, "both": 24}  # of 24


def test_promises_on_drawn_categories_are_kept_as_often_as_is_said():
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RECORDS.glob("kept-*-tiny-photographs-seed*.json"))
    ]
    names = [(record["category"], record["config"]["seed"]) for record in records]
    assert sorted(names) == sorted((c.name, seed) for c in CATEGORIES for seed in range(3))
    for score, kept in KEPT_ON_DRAWN.items():
        best = [record["scores"][score]["best"] for record in records]
        assert sum(one["contained"] for one in best) == kept
        assert {round(one["contained_by_chance"], 2) for one in best} == {0.89}
        assert {round(one["promised"], 3) for one in best} == {0.077}
    flagged = [record["scores"]["final"]["best"] for record in records]
    assert sum(one["above"] for one in flagged) == 52
    assert sum(one["images"] for one in flagged) == 720


def test_stretches_are_no_better_than_single_photographs_on_photographs():
    for name in ("magnetic_tile", "screw", "transistor"):
        ways = near(name)["ways"]
        one, other = (ways[way]["nearest_farther"] for way in WAYS)
        assert abs(one["mean"] - other["mean"]) < 0.025
        assert other["interval"][0] < one["mean"] < other["interval"][1]
