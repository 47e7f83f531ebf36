"""What is held out of training: single photographs, stretches of neighbours, whole groups."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import TINY

from destseg_lib.cli.main import main
from destseg_lib.config import TrainingConfig, quick_recipe
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category
from destseg_lib.images.load import load_images
from destseg_lib.runs.holdout import (
    group_names,
    hold_out,
    hold_out_blocks,
    hold_out_groups,
    split_images,
)
from destseg_lib.runs.run import CALIBRATION, CONFIG, read_run
from destseg_lib.runs.train import TrainingJob, train_and_calibrate
from destseg_lib.studies.study import study_from_dict
from destseg_lib.studies.trial import training_images, trials
from destseg_lib.studies.workbench import Workbench

pytestmark = pytest.mark.usefixtures("one_thread")
JOB = TrainingJob(teacher="random", device="cpu", progress=False, threads=1)


def stretches(rows: NDArray[np.int64]) -> list[int]:
    """Lengths of the runs of consecutive numbers."""
    breaks = np.flatnonzero(np.diff(rows) > 1) + 1
    return [len(part) for part in np.split(rows, breaks)]


# ---- stretches of neighbours in file order


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.2, 0.35, 0.5, 0.9, 0.999])
def test_blocks_hold_out_as_many_as_single_photographs_in_three_stretches_at_most(share):
    for count in (*range(1, 80), 213, 320, 761):
        for seed in range(3):
            kept, held_out = hold_out_blocks(count, share, seed)
            assert sorted([*kept, *held_out]) == list(range(count))
            assert len(held_out) == len(hold_out(count, share, seed)[1])
            assert len(stretches(held_out)) <= 3
            assert not len(held_out) or len(stretches(held_out)) <= max(1, len(held_out) // 5)


def test_each_third_of_many_photographs_gives_a_stretch_and_a_seed_moves_it():
    found = [hold_out_blocks(300, 0.1, seed)[1] for seed in range(50)]
    for held_out in found:
        assert [int(((held_out // 100) == third).sum()) for third in range(3)] == [10, 10, 10]
    starts = {int(held_out[0]) for held_out in found}
    assert len(starts) > 20 and min(starts) < 20 and max(starts) > 70
    assert np.array_equal(found[3], hold_out_blocks(300, 0.1, 3)[1])


# ---- groups that the names tell


def test_the_first_group_of_a_pattern_names_the_group_and_without_one_the_whole_match():
    names = ["part12_a.png", "part12_b.png", "part7_a.png"]
    assert group_names(names, r"part(\d+)") == ("12", "12", "7")
    assert group_names(names, r"^part\d+") == ("part12", "part12", "part7")
    assert group_names(names, r"_(a|b)\.") == ("a", "b", "a")


@pytest.mark.parametrize("pattern", [r"(\d+)_", r"^(?:x|(\d+)_)"])
def test_a_name_without_a_group_is_named(pattern):
    with pytest.raises(DeSTSegError, match=r"does not match xyz\.png, .* matches every file name"):
        group_names(["12_a.png", "xyz.png", "13_a.png"], pattern)


def test_a_pattern_that_is_none_is_refused_before_images_are_read():
    with pytest.raises(DeSTSegError, match=r"group_by is '\(', which is not a regular expression"):
        group_names(["a.png"], "(")


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_trained_on_or_held_out_as_a_whole_and_their_number_is_near_the_share(
    share, seed
):
    random = np.random.default_rng(seed)
    groups = [f"part {number}" for number in random.integers(0, 40, 200)]
    kept, held_out = hold_out_groups(groups, share, seed)
    assert sorted([*kept, *held_out]) == list(range(200))
    assert not {groups[row] for row in kept} & {groups[row] for row in held_out}
    assert abs(len(held_out) - share * 200) <= max(Counter(groups).values()) / 2
    assert np.array_equal(held_out, hold_out_groups(groups, share, seed)[1])


def test_another_seed_holds_out_other_groups():
    groups = [str(number // 5) for number in range(200)]
    assert len({tuple(hold_out_groups(groups, 0.1, seed)[1]) for seed in range(6)}) > 3


def test_of_groups_larger_than_the_share_the_smallest_is_held_out():
    groups = [*"a" * 40, *"b" * 25, *"c" * 35]
    for seed in range(5):
        assert {groups[row] for row in hold_out_groups(groups, 0.05, seed)[1]} == {"b"}


@pytest.mark.parametrize("groups", ["a" * 20, "a"])
def test_one_group_cannot_be_held_out(groups):
    with pytest.raises(DeSTSegError, match=r"photographs into one group, .* tells smaller groups"):
        hold_out_groups(list(groups), 0.1, 0)


def test_without_a_share_no_group_is_held_out():
    assert [len(rows) for rows in hold_out_groups(["a"] * 4, 0.0, 0)] == [4, 0]


# ---- the configuration


@pytest.mark.parametrize(
    "changes",
    [
        {"group_by": "a", "holdout": 0.0},
        {"group_by": "a", "holdout": 0.1, "holdout_by": "blocks"},
    ],
)
def test_groups_without_a_share_or_with_blocks_are_refused(changes):
    with pytest.raises(DeSTSegError, match=r"give a holdout such as 0\.1, no blocks"):
        replace(TINY, **changes)


def test_an_unknown_way_is_refused():
    with pytest.raises(DeSTSegError, match="holdout_by is 'days'; choose one of photographs, bl"):
        replace(TINY, holdout_by="days")


def test_what_is_not_asked_for_is_as_it_was():
    names = [f"{number}.png" for number in range(120)]
    config = replace(quick_recipe(), seed=2)
    for found, before in zip(split_images(names, config), hold_out(120, 0.1, 2), strict=True):
        assert np.array_equal(found, before)


# ---- runs


def photographs(folder: Path, parts: int = 4, of_each: int = 3) -> Path:
    """Photographs of a few parts, each a few times, whose order is not that of the parts."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for shot in range(of_each):
        for part in range(parts):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{shot}_part{part}.png")
    return folder


def trained(tmp_path: Path, config: TrainingConfig) -> Path:
    out = tmp_path / "run"
    train_and_calibrate(find_category(tmp_path / "mine"), out, config, JOB)
    return out


GROUPS = replace(TINY, holdout=0.25, group_by=r"part(\d)")
BLOCKS = replace(TINY, holdout=0.25, holdout_by="blocks")


@pytest.mark.parametrize(("config", "how"), [(GROUPS, "the groups that"), (BLOCKS, "stretches of")])
def test_a_run_says_and_keeps_what_it_held_out(tmp_path, capsys, config, how):
    photographs(tmp_path / "mine")
    out = trained(tmp_path, config)
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    held_out = read_run(out)["inputs"]["held_out"]
    assert held_out == split_images(names, config)[1].tolist() and len(held_out) == 3
    if config.group_by:
        assert len({names[place][-5] for place in held_out}) == 1
    else:
        assert held_out == list(range(held_out[0], held_out[0] + 3))
    said = f"12 good images, 3 of them held out for the threshold, in {how}"
    assert said in capsys.readouterr().out
    assert len(json.loads((out / CALIBRATION).read_text())["scores"]) == 3


def test_a_run_that_was_begun_is_calibrated_on_what_it_kept(tmp_path):
    photographs(tmp_path / "mine")
    out = trained(tmp_path, GROUPS)
    scores = (out / CALIBRATION).read_text()
    (out / CALIBRATION).unlink()
    trained(tmp_path, TINY)  # the run's own configuration counts
    assert (out / CALIBRATION).read_text() == scores
    described = json.loads((out / CONFIG).read_text())
    described["inputs"]["held_out"] = [0]  # as another version might have chosen
    (out / CONFIG).write_text(json.dumps(described))
    (out / CALIBRATION).unlink()
    trained(tmp_path, TINY)
    assert len(json.loads((out / CALIBRATION).read_text())["scores"]) == 1


def test_a_run_of_single_photographs_is_described_as_before(tmp_path):
    photographs(tmp_path / "mine")
    assert "held_out" not in read_run(trained(tmp_path, replace(TINY, holdout=0.25)))["inputs"]


def test_a_configuration_without_the_new_settings_holds_single_photographs_out(tmp_path):
    photographs(tmp_path / "mine")
    out = trained(tmp_path, replace(TINY, holdout=0.25))
    scores = (out / CALIBRATION).read_text()
    described = json.loads((out / CONFIG).read_text())
    del described["config"]["holdout_by"], described["config"]["group_by"]  # as 0.2.0 wrote it
    (out / CONFIG).write_text(json.dumps(described))
    (out / CALIBRATION).unlink()
    trained(tmp_path, TINY)
    assert (out / CALIBRATION).read_text() == scores


TRAIN = ("--teacher", "random", "--recipe", "tiny", "--width", "0.125", "--image-size", "32",
         "--batch-size", "2", "--student-steps", "2", "--segmentation-steps", "2",
         "--holdout", "0.25", "--quiet", "--threads", "1")  # fmt: skip


def train(tmp_path: Path, *options: str) -> int:
    data, out = (str(tmp_path / name) for name in ("mine", "run"))
    return main(["train", "--data", data, "--out", out, *TRAIN, *options])


def test_the_command_keeps_a_pattern_and_refuses_another(tmp_path, capsys):
    photographs(tmp_path / "mine")
    assert train(tmp_path, "--group-by", r"part(\d)") == 0
    assert read_run(tmp_path / "run")["config"].group_by == r"part(\d)"
    assert train(tmp_path, "--resume") == 0
    assert train(tmp_path, "--resume", "--group-by", "part") == 2
    assert r"was started with group by part(\d), not part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group-by", r"part[0-2]"], "does not match 0_part3.png, so its group is unknown"),
        (["--group-by", "part"], "puts 12 photographs into one group"),
        (["--group-by", "a", "--holdout", "0"], "give a holdout such as 0.1"),
        (["--group-by", "a", "--holdout-by", "blocks"], "no blocks"),
    ],
)
def test_a_pattern_that_cannot_be_used_starts_no_run(tmp_path, capsys, options, message):
    photographs(tmp_path / "mine")
    assert train(tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_pattern_that_is_no_regular_expression_is_refused_by_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, "--group-by", "part(")
    assert stop.value.code == 2
    assert "'part(' is not a regular expression" in capsys.readouterr().err


def test_a_page_takes_the_photographs_that_the_run_held_out_whatever_their_names(
    tmp_path, monkeypatch
):
    data = photographs(tmp_path / "mine")
    assert train(tmp_path, "--group-by", r"part(\d)") == 0
    held_out = read_run(tmp_path / "run")["inputs"]["held_out"]
    expected = load_images(sorted(data.iterdir()), 32, progress=False).pixels[held_out]
    for number, path in enumerate(sorted(data.iterdir())):
        path.rename(data / f"{number:02d}.png")
    given = []

    def packed(run, name, good, *_, **__):
        given.append(good)
        raise DeSTSegError("enough was seen")

    monkeypatch.setattr("destseg_lib.cli.page.packed_run", packed)
    monkeypatch.setattr("destseg_lib.cli.page.web_runtime", lambda _: {})
    command = ("page", "--run", tmp_path / "run", "--good", data, "--out", tmp_path / "page")
    assert main([*map(str, command), "--quiet"]) == 2
    np.testing.assert_array_equal(given[0], expected)


# ---- studies


def test_a_study_compares_ways_of_holding_out_with_a_student_of_its_own_each(tmp_path):
    data = photographs(tmp_path / "mine")
    single, blocks, groups = trials(
        study_from_dict(
            {
                "name": "ways", "recipe": "tiny", "categories": [str(data)], "seeds": [0],
                "settings": {"holdout": 0.25, "image_size": 32}, "reference": "photographs",
                "variants": {
                    "photographs": {}, "blocks": {"holdout_by": "blocks"},
                    "groups": {"group_by": r"part(\d)"},
                },
            }
        )
    )  # fmt: skip
    assert len({trial.student for trial in (single, blocks, groups)}) == 3
    bench = Workbench(tmp_path / "s", tmp_path / "w", "cpu", progress=False)
    names = sorted(path.name for path in data.iterdir())
    for trial in (single, blocks, groups):
        rows = training_images(trial, bench).good.rows
        assert np.array_equal(rows, split_images(names, trial.config)[0])
