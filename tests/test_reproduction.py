"""The paper's tables as one study: what is run, what it needs, what it takes, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from destseg_lib import cli
from destseg_lib.cli import study as study_commands
from destseg_lib.config import ModelConfig
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.costs import Costs
from destseg_lib.studies.paper_tables import (
    CATEGORIES,
    duration,
    find_data,
    find_textures,
    paper_study,
    table_records,
    work,
)
from destseg_lib.studies.run import RECORDS, STUDENTS
from destseg_lib.studies.schedule import simulate
from destseg_lib.studies.study import trials

SMALL = {
    "image_size": 32,
    "batch_size": 2,
    "model.width": 0.0625,
    "model.segmentation_width": 0.0625,
    "student.steps": 1,
    "segmentation.steps": 1,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories in MVTec AD's layout."""
    folder = tmp_path_factory.mktemp("mvtec")
    for name in ("metal", "wood"):
        write_category(name, folder, 64, ImageCounts(6, 3, 1), progress=False)
    return folder


def costs_of(recipe: Any) -> Costs:
    kinds = ("encoder-decoder", "plain")
    return Costs(
        dict.fromkeys(kinds, 1.0),
        {f"{k}, {i}": 4.0 for k in kinds for i in ("product", "concatenation", "cosine")},
        0.1, 5.0, 32 * 256**2, 256, (1.0, 1.0), "a made-up device",
    )  # fmt: skip


def test_every_variant_of_the_three_tables_is_run_once_longest_first():
    study = paper_study(["bottle"])
    assert len(study.variants) == 8 + 1 + 2
    assert len(trials(study)) == 11 * 5
    kinds = [t.config.model.segmentation for t in trials(study)[:11]]
    assert kinds == [True] * 7 + [False] * 4
    assert len({t.student for t in trials(study)}) == 4 * 5
    paper = trials(study)[0].config
    assert (paper.recipe, paper.student.steps, paper.segmentation.steps) == ("paper", 1000, 4000)
    assert paper.model == ModelConfig(encoder_decoder=False)
    assert paper.rotation == "full"  # as suits bottles
    assert {t.teacher for t in trials(study)} == {"imagenet"}


def test_the_whole_of_table_4_on_mvtec_ad_is_six_hundred_runs_of_three_hundred_students():
    table4 = [
        t
        for t in trials(paper_study(CATEGORIES))
        if t.config.l1 and t.config.model.segmentation_input == "product"
    ]
    assert len(table4) == 15 * 8 * 5
    jobs = costs_of(None).jobs(table4, dict.fromkeys(CATEGORIES, 0))
    assert len({job.student for job in jobs}) == 300
    alone = simulate(jobs, 1)
    assert alone.work == 300 * 1000 * 1.0 + 300 * 4000 * 4.0 + 600 * 5.0


def test_each_table_gets_its_own_records_under_its_own_names():
    study = paper_study(["metal"], [0])
    records = [
        {"variant": variant, "category": "metal", "seed": 0, "status": "done"}
        for variant in study.variants
    ]
    tables = table_records(study, records)
    for name, (table, own) in tables.items():
        assert {r["variant"] for r in own} == set(table.variants), name
        assert len(own) == len(table.variants)
        assert (table.categories, table.seeds) == (("metal",), (0,))
    shared = [r for r in tables["table6"][1] if r["variant"] == "product"]
    assert len(shared) == 1


def test_what_is_done_is_not_counted_again(root):
    waiting = trials(paper_study(find_data(root, ["metal"]), [0]))
    costs = costs_of(None)
    whole = simulate(work(waiting, costs), 1).work
    trained = {waiting[0].student}
    assert simulate(work(waiting, costs, trained), 1).work == whole - 1000.0


def test_missing_data_names_the_command_that_fetches_it(root, tmp_path):
    with pytest.raises(DeSTSegError, match=r"lacks bottle, .*'destseg download mvtec-ad'"):
        find_data(root)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.png").write_bytes((root / "metal/train/good/000.png").read_bytes())
    with pytest.raises(DeSTSegError, match="plain has no test images"):
        find_data(tmp_path, ["plain"])
    with pytest.raises(DeSTSegError, match="'destseg download dtd'"):
        find_textures(tmp_path / "nowhere")
    assert find_textures(Path("procedural")) == "procedural"
    assert find_textures(root) == str(root)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (119, "119 s"), (150, "2.5 min"), (7200, "2.0 h"), (1e6, "11.6 days")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_the_command_estimates_runs_resumes_and_reports(root, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = [
        *("reproduce", "--data", str(root), "--categories", "metal", "--seeds", "0"),
        *("--out", str(out), "--textures", "procedural", "--teacher", "random"),
        *("--device", "cpu", "--threads", "1", "--quiet"),
    ]
    real = study_commands.paper_study
    monkeypatch.setattr(
        study_commands, "paper_study", lambda *a, **k: real(*a, **k, settings=SMALL)
    )
    assert cli.main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "11 of 11 runs are left: 11 variants, 1 categories, 1 seeds; 4 students" in printed
    assert "estimate: " in printed
    assert not out.exists()

    def stopped(study: Any, options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study_commands, "run", stopped)
        assert cli.main(command) == 130
    assert (out / "timing.json").exists()

    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "11 of 11 runs done" in printed
    assert len((out / RECORDS).read_text().splitlines()) == 11
    assert len(list((out / STUDENTS).glob("*.safetensors"))) == 4
    for table, variants in (("table4", 8), ("table5", 2), ("table6", 3)):
        rows = (out / table / "report.csv").read_text().splitlines()
        assert sum(row.startswith("image_auroc,") for row in rows) == variants
    # All is there: neither timed nor run again.
    monkeypatch.setattr(study_commands, "measure_costs", lambda *_, **__: 1 / 0)
    assert cli.main(command) == 0


def test_the_command_refuses_what_it_cannot_do(root, tmp_path, capsys):
    command = ["reproduce", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "destseg download mvtec-ad" in capsys.readouterr().err
    narrow = tmp_path / "timing.json"
    timed = {**vars(costs_of(None)), "widths": (0.5, 0.5)}
    narrow.write_text(json.dumps(timed))
    here = [
        *("reproduce", "--data", str(root), "--categories", "metal", "--dry-run"),
        *("--textures", "procedural", "--timing", str(narrow)),
    ]
    assert cli.main(here) == 2
    assert "without --timing" in capsys.readouterr().err
    narrow.write_text(json.dumps({**timed, "widths": (1.0, 1.0)}))
    assert cli.main(here) == 0
    assert "55 of 55 runs are left" in capsys.readouterr().out
