"""The README's figures are those of the committed records, and a stale one is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from numbers_in_prose import recorded

from destseg_lib.drawn import CATEGORIES
from destseg_lib.studies.compare import Row, compare
from destseg_lib.studies.run import read_folder
from destseg_lib.studies.study import Study

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "tools" / "results" / "results.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_readme_shows_what_the_records_say() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_changed_record_makes_the_readme_stale(tmp_path: Path) -> None:
    for name in ("tools", "results"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    assert check(tmp_path).returncode == 0
    records = sorted((tmp_path / "results" / "magnetic_tile").glob("*.json"))
    assert records, "there is no record to change"
    text = records[0].read_text(encoding="utf-8")
    figure = text.index('"report"')
    digit = text.index("0.", text.index('"image_auroc"', figure)) + 2
    changed = "1" if text[digit] != "1" else "2"
    records[0].write_text(text[:digit] + changed + text[digit + 1 :], encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "stale" in done.stderr


# What results/README.md says in words


def over_seeds(records: str, key: str) -> list[float]:
    """A figure of each record of a kind, in per cent."""
    files = sorted((ROOT / "results").glob(f"{records}-seed*.json"))
    assert len(files) >= 3
    return [100 * recorded(file.relative_to(ROOT).as_posix(), key, ROOT) for file in files]


@pytest.mark.parametrize("figure", ["image_auroc", "pixel_ap"])
@pytest.mark.parametrize("where", ["", "cosine_product/"])
def test_the_built_in_teacher_is_near_the_real_one_and_a_random_one_is_not(figure, where):
    real, ours, none = (
        over_seeds(f"teachers/{teacher}", f"report/{where}{figure}")
        for teacher in ("imagenet", "builtin", "random")
    )
    apart = abs(mean(real) - mean(ours))
    assert apart < 2
    assert apart < max(1, stdev(real), stdev(ours))
    if figure == "pixel_ap":
        assert mean(none) < 0.6 * mean(ours)
    elif where:
        assert 45 < mean(none) < 55


LEVELS, BOTH = ("level1", "level2", "level3"), ("product", "sum")
NAMES = [product.name for product in CATEGORIES]


def leads(
    product: str, level: str, rules: tuple[str, ...], figure: str = "pixel_auroc"
) -> list[float]:
    """By how many points a level is ahead of all of these rules, seed by seed."""
    alone, *together = (
        over_seeds(f"world/{product}-builtin", f"student/{name}/{figure}")
        for name in (level, *rules)
    )
    assert len(alone) == 3
    return [one - max(others) for one, *others in zip(alone, *together, strict=True)]


def test_which_level_alone_is_ahead_of_all_together():
    ahead = {
        (product, level)
        for product in NAMES
        for level in LEVELS
        if min(leads(product, level, ("product",))) > 0
    }
    twos = {(product, "level2") for product in ("fabric", "wood", "component", "metal")}
    assert ahead >= twos | {("connector", "level1"), ("terrazzo", "level3")}
    assert {product for product, level in ahead if level == "level3"} == {"terrazzo"}
    assert {product for product, _ in ahead} == set(NAMES) - {"nut", "tablet"}
    assert all(0.3 < lead < 0.8 for lead in leads("terrazzo", "level3", BOTH))
    clear = {p for p, level in ahead if min(leads(p, level, BOTH)) > 1}
    assert clear == {"fabric", "wood"}


def test_missing_legs_are_outlined_by_one_level_and_misplaced_parts_by_all():
    assert min(leads("component", "level2", BOTH, "defects/missing_leg/pixel_ap")) > 5
    for level in LEVELS:
        askew = leads("component", level, BOTH, "defects/misplaced/pixel_auroc")
        assert all(-4 < lead < 0 for lead in askew)


# What chapter 10 says in words of the studies

FIGURES = ("image_auroc", "pixel_ap", "iap")


@cache
def measured(study: str) -> tuple[Study, list[dict[str, Any]]]:
    """A measured study and its records."""
    return read_folder(ROOT / "results" / "studies" / study)


@cache
def rows(study: str, figure: str) -> dict[str, Row]:
    """Every variant of a measured study, compared with its reference; all its seeds are there."""
    found = {row.variant: row for row in compare(*measured(study), figure)}
    assert all(row.done == 3 for row in found.values())
    return found


def verdicts(study: str, variant: str) -> list[str]:
    """Of a variant against the reference, in image AUROC, pixel AP and IAP."""
    return [rows(study, figure)[variant].difference.verdict for figure in FIGURES]


# The whole method is the reference, so a claim that a part helps is confirmed where the variant
# without it is worse.
CONFIRMED, CONTRADICTED, UNDECIDED = "worse", "better", "undecided"
PARTLESS = {
    "denoising": "encoder-decoder, segmentation",
    "encoder-decoder": "denoising, segmentation",
    "segmentation": "denoising + encoder-decoder",
}
SETS = ("component", "magnetic_tile", "wood")


def test_denoising_and_l1_are_contradicted_nowhere_and_every_other_claim_somewhere():
    variants = [*PARTLESS.values(), "without L1", "plain", "concatenation", "cosine distances"]
    found = {v: [word for data in SETS for word in verdicts(data, v)] for v in variants}
    kept = {v for v, words in found.items() if CONTRADICTED not in words}
    assert kept == {PARTLESS["denoising"], "without L1"}
    assert all(CONFIRMED in words for words in found.values())
    assert all(words.count(CONFIRMED) < 9 for words in found.values())


def test_what_a_part_is_worth_depends_on_the_data():
    segmentation, decoder = PARTLESS["segmentation"], PARTLESS["encoder-decoder"]
    assert verdicts("component", segmentation) == [CONFIRMED, CONTRADICTED, CONTRADICTED]
    assert verdicts("magnetic_tile", segmentation) == [CONTRADICTED, UNDECIDED, CONFIRMED]
    assert verdicts("wood", segmentation) == [CONFIRMED] * 3
    gains = [-100 * rows("wood", f)[segmentation].difference.mean for f in FIGURES]
    assert 7.5 < min(gains) < max(gains) < 11.5
    loss = 100 * rows("magnetic_tile", "image_auroc")[segmentation].difference.mean
    assert 9.5 < loss < 10.5
    assert verdicts("component", decoder) == [CONFIRMED] * 3
    assert verdicts("wood", decoder)[1:] == [CONTRADICTED] * 2
    assert verdicts("component", "concatenation") == [CONFIRMED] * 3
    assert verdicts("wood", "concatenation")[2] == CONTRADICTED
    assert verdicts("magnetic_tile", "concatenation")[1] == CONTRADICTED


def test_four_times_the_steps_turn_one_contradiction_of_three_round():
    assert verdicts("longer_component", "1,600 steps") == ["better", "worse", "better"]
    assert verdicts("longer_magnetic_tile", "1,600 steps") == ["worse", "undecided", "better"]
    behind = rows("longer_magnetic_tile", "image_auroc")["1,600 steps"].difference
    assert 100 * behind.high < -5


LEVEL_STUDIES = ("levels_component", "levels_magnetic_tile", "levels_metal")


def kind_ap(study: str, variant: str, kind: str) -> float:
    _, records = measured(study)
    return mean(r["defects"][kind]["pixel_ap"] for r in records if r["variant"] == variant)


def test_one_level_can_be_ahead_of_all_and_no_level_is_it_everywhere():
    assert verdicts("levels_component", "2") == ["better"] * 3
    assert verdicts("levels_magnetic_tile", "3") == ["better"] * 3
    aurocs = {name: row.mean for name, row in rows("levels_component", "image_auroc").items()}
    assert min(aurocs, key=aurocs.__getitem__) == "3"
    for level in ("1", "2", "3"):
        assert verdicts("levels_metal", level)[1:] == ["worse", "worse"]


def test_the_sum_is_ahead_in_pixel_ap_and_the_product_nowhere_ahead_of_all():
    for study in LEVEL_STUDIES:
        assert verdicts(study, "1, 2, 3: sum")[1] == "better"
        for figure in FIGURES:
            found = dict(rows(study, figure))
            product = found.pop("1, 2, 3: product").mean
            assert max(row.mean for row in found.values()) >= product


def test_which_level_outlines_a_kind_of_defect_best():
    best = {
        (study, kind): max(("1", "2", "3"), key=lambda level: kind_ap(study, level, kind))
        for study in LEVEL_STUDIES
        for kind in measured(study)[1][0]["defects"]
    }
    for kind in ("fray", "break", "uneven"):
        assert best["levels_magnetic_tile", kind] == "3"
    for kind in ("missing_leg", "misplaced_leg", "damaged_body"):
        assert best["levels_component", kind] == "2"
    assert best["levels_metal", "rust"] == "1"
    for study, kind, level in (
        ("levels_component", "missing_leg", "2"),
        ("levels_magnetic_tile", "fray", "3"),
    ):
        for rule in ("product", "sum"):
            assert kind_ap(study, f"1, 2, 3: {rule}", kind) < 0.75 * kind_ap(study, level, kind)
