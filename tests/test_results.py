"""The README's figures are those of the committed records, and a stale one is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "tools" / "results.py", "--check"],
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


def over_seeds(teacher: str, *keys: str) -> list[float]:
    """A figure of each record of a teacher, in per cent."""
    values = []
    for file in sorted((ROOT / "results" / "teachers").glob(f"{teacher}-seed*.json")):
        value = json.loads(file.read_text(encoding="utf-8"))["report"]
        for key in keys:
            value = value[key]
        values.append(100 * value)
    assert len(values) >= 3
    return values


@pytest.mark.parametrize("figure", ["image_auroc", "pixel_ap"])
@pytest.mark.parametrize("where", [(), ("cosine_product",)])
def test_the_built_in_teacher_is_near_the_real_one_and_a_random_one_is_not(figure, where):
    real, ours, none = (over_seeds(t, *where, figure) for t in ("imagenet", "builtin", "random"))
    apart = abs(mean(real) - mean(ours))
    assert apart < 2
    assert apart < max(1, stdev(real), stdev(ours))
    if figure == "pixel_ap":
        assert mean(none) < 0.6 * mean(ours)
    elif where:
        assert 45 < mean(none) < 55


def leads(
    product: str, level: str, rules: tuple[str, ...], figure: str = "pixel_auroc", *path: str
):
    """By how many points a level is ahead of all of these rules, seed by seed."""
    found = []
    for file in sorted((ROOT / "results" / "world").glob(f"{product}-builtin-seed*.json")):
        student = json.loads(file.read_text(encoding="utf-8"))["student"]

        def value(name: str, part: dict = student) -> float:
            whole = part[name]
            for key in path:
                whole = whole[key]
            return 100 * whole[figure]

        found.append(value(level) - max(value(rule) for rule in rules))
    assert len(found) == 3
    return found


LEVELS, BOTH = ("level1", "level2", "level3"), ("product", "sum")
PRODUCTS = ("component", "connector", "fabric", "metal", "nut", "tablet", "terrazzo", "wood")


def test_which_level_alone_is_ahead_of_all_together():
    ahead = {
        (product, level)
        for product in PRODUCTS
        for level in LEVELS
        if min(leads(product, level, ("product",))) > 0
    }
    twos = {(product, "level2") for product in ("fabric", "wood", "component", "metal")}
    assert ahead >= twos | {("connector", "level1"), ("terrazzo", "level3")}
    assert {product for product, level in ahead if level == "level3"} == {"terrazzo"}
    assert {product for product, _ in ahead} == set(PRODUCTS) - {"nut", "tablet"}
    assert all(0.3 < lead < 0.8 for lead in leads("terrazzo", "level3", BOTH))
    clear = {p for p, level in ahead if min(leads(p, level, BOTH)) > 1}
    assert clear == {"fabric", "wood"}


def test_missing_legs_are_outlined_by_one_level_and_misplaced_parts_by_all():
    legs = ("defects", "missing_leg")
    assert min(leads("component", "level2", BOTH, "pixel_ap", *legs)) > 5
    for level in LEVELS:
        askew = leads("component", level, BOTH, "pixel_auroc", "defects", "misplaced")
        assert all(-4 < lead < 0 for lead in askew)
