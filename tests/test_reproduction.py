"""The paper's tables as one study: its runs, its data, how long it takes, and its reports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_study import SMALL

from destseg_lib import cli
from destseg_lib.cli import reproduce
from destseg_lib.config import ModelConfig, TrainingConfig, config_to_dict
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.paper_tables import (
    find_data,
    find_textures,
    paper_study,
    table_records,
)
from destseg_lib.studies.records import RECORDS, STUDENTS
from destseg_lib.studies.study import Study
from destseg_lib.studies.timing import Timing, estimate_runs, measure_timing, read_timing
from destseg_lib.studies.trial import trials

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import simulate_reproduction as simulated  # noqa: E402


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories in MVTec AD's layout, each with 3 good test images and one of each defect."""
    folder = tmp_path_factory.mktemp("mvtec")
    for name in ("metal", "wood"):
        write_category(name, folder, 64, ImageCounts(6, 3, 1), progress=False)
    return folder


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


# How long it takes


@pytest.fixture
def study(root: Path) -> Study:
    """Four variants: three share a student, one of them has no segmentation network."""
    variants: dict[str, Any] = {
        "whole": {},
        "without L1": {"l1": False},
        "plain": {"model.encoder_decoder": False},
        "alone": {"model.segmentation": False},
    }
    settings = SMALL | {"student.steps": 10, "segmentation.steps": 20}
    return Study("small", "tiny", (str(root / "metal"),), (0,), variants, "whole", settings)


def record(config: TrainingConfig, student: float, segmentation: float) -> dict:
    return {
        "status": "done",
        "config": json.loads(json.dumps(config_to_dict(config))),
        "seconds": {
            "setup": 3.0, "student": student, "segmentation": segmentation, "evaluation": 8.0,
        },
        "images": {"train": 9, "good": 10, "defective": 30},
        "provenance": {"device": "a device"},
    }  # fmt: skip


@pytest.fixture
def timed(study: Study, tmp_path: Path) -> Path:
    """Records of finished runs: steps of 2 s (plain 1 s) and 6 s (plain 4 s), images of 0.2 s."""
    whole, without, plain, alone = (t.config for t in trials(study))
    records = [
        record(whole, 20.0, 100.0),
        record(without, 0.0, 140.0),  # its student was the first one's
        record(plain, 10.0, 80.0),
        record(alone, 20.0, 0.0),
        {"status": "failed"},
    ]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_a_run_takes_steps_times_seconds_and_a_student_is_trained_once(study, timed):
    timing = read_timing(timed)
    assert timing.source == "4 finished runs on a device"
    every = trials(study)
    images = 0.2 * (3 + 5)
    whole, without, plain, alone = estimate_runs(every, timing)
    assert whole == pytest.approx(3 + images + 10 * 2 + 20 * 6)
    assert without == pytest.approx(3 + images + 20 * 6)
    assert plain == pytest.approx(3 + images + 10 * 1 + 20 * 4)
    assert alone == pytest.approx(3 + images)
    trained = estimate_runs(every, timing, {every[0].student})
    assert trained == pytest.approx([whole - 20, without, plain, alone])


@pytest.mark.parametrize(
    "changes",
    [
        {"model.width": 0.5},
        {"model.segmentation_input": "cosine"},
        {"model.levels": [1]},
        {"image_size": 64},
        {"batch_size": 4},
    ],
)
def test_a_step_that_was_not_timed_is_not_guessed(study, timed, changes):
    other = replace(study, variants={"other": changes}, reference="other")
    with pytest.raises(DeSTSegError, match=r"no '(student|segmentation) step") as refused:
        estimate_runs(trials(other), read_timing(timed))
    assert "without --timing" in str(refused.value)


def test_timing_is_read_from_records_from_this_version_and_from_an_older_one(
    study, timed, tmp_path
):
    timing = read_timing(timed)
    (tmp_path / "timing.json").write_text(json.dumps(asdict(timing)))
    assert read_timing(tmp_path / "timing.json") == timing
    older = {
        "student": {"encoder-decoder": 2.0, "plain": 1.0},
        "segmentation": {"encoder-decoder, product": 6.0, "plain, product": 4.0},
        "evaluation": 0.2, "setup": 3.0, "pixels": 2 * 32**2, "image_size": 32,
        "widths": [0.0625, 0.0625], "source": "a device",
    }  # fmt: skip
    (tmp_path / "timing.json").write_text(json.dumps(older))
    found = read_timing(tmp_path / "timing.json")
    assert estimate_runs(trials(study), found) == pytest.approx(
        estimate_runs(trials(study), timing)
    )
    for name, text in (
        ("a.json", "{}"), ("b.json", "no"), ("c.jsonl", '{"status": "done"}'),
        ("d.jsonl", '{"status": "failed"}'),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(DeSTSegError, match=f"{name} holds no timing"):
            read_timing(tmp_path / name)
    with pytest.raises(DeSTSegError, match="holds no timing"):
        read_timing(tmp_path / "nowhere.json")


def test_a_few_steps_of_each_kind_are_timed(study, one_thread):
    every = trials(study)
    configs = [t.config for t in every]
    timing = measure_timing(configs, torch.device("cpu"), steps=1, progress=False)
    assert len(timing.seconds) == 2 + 2 + 1 + 1  # steps, a test image, the setup
    assert all(0 <= seconds < 60 for seconds in timing.seconds.values())
    assert all(seconds > 0 for seconds in estimate_runs(every, timing))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (119, "119 s"), (150, "2.5 min"), (7200, "2.0 h"), (1e6, "11.6 days")],
)
def test_durations_read_well(seconds, text):
    assert reproduce.duration(seconds) == text


# The simulation


def test_the_committed_simulation_is_that_of_this_engine_and_these_tables():
    kept = json.loads((ROOT / "results" / "simulation" / "reproduction.json").read_text())
    assert (kept["runs"], kept["students"], kept["segmentation_networks"]) == (600, 300, 300)
    runs = simulated.table_4()["order of reproduce"]
    assert (len(runs), len({t.student for t in runs})) == (600, 300)
    step = kept["seconds_a_step_at_batch_32"]
    for devices, outcome in kept["orders"]["order of reproduce"].items():
        found = simulated.outcome(runs, int(devices), step["student"], step["segmentation"])
        assert found.pop("makespan") == outcome.pop("makespan")
        assert found == pytest.approx(outcome, abs=1e-6)
    gpu = kept["on_a_gpu"]
    of_gpu = json.loads((ROOT / simulated.MEASURED_ON_A_GPU).read_text())["results"]
    step = {one["name"]: one.get("seconds_per_step") for one in of_gpu}
    found = simulated.outcome(runs, 8, step["student, bf16"], step["segmentation, bf16"])
    assert found.pop("makespan") == gpu["8"].pop("makespan")
    assert found == pytest.approx(gpu["8"], abs=1e-6)
    alone = simulated.simulate(runs, 1, 1.0, 4.0)
    assert alone.makespan == alone.work == 300 * 1000 * 1.0 + 300 * 4000 * 4.0


def test_a_schedule_worked_out_by_hand():
    """a: 0-1-3 on one device; the other waits for the student until 1, and ends at 3."""
    config = trials(paper_study(["metal"], [0]))[0].config
    phase = replace(config.student, steps=1)
    config = replace(config, student=phase, segmentation=phase)
    one = replace(trials(paper_study(["metal"], [0]))[0], config=config)
    a, b = replace(one, student="a"), replace(one, student="b")
    assert simulated.simulate([a, a], 2, 1, 2) == (3, 5, 1)
    # The second device takes b first and finds a's student ready.
    assert simulated.simulate([a, a, b], 2, 1, 2) == (5, 8, 0)


# The command


@pytest.mark.slow
def test_the_command_estimates_runs_resumes_and_reports(root, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = [
        *("reproduce", "--data", str(root), "--categories", "metal", "--seeds", "0"),
        *("--out", str(out), "--textures", "procedural", "--teacher", "random"),
        *("--device", "cpu", "--threads", "1", "--quiet"),
    ]

    def small(*arguments: Any, settings: dict, **options: Any) -> Study:
        return paper_study(*arguments, settings=settings | SMALL, **options)

    monkeypatch.setattr(reproduce, "paper_study", small)
    assert cli.main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "11 of 11 runs are left: 11 variants, 1 categories, 1 seeds; 4 students" in printed
    assert "estimate: " in printed
    assert not out.exists()

    def stopped(study: Any, options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "run_on_engine", stopped)
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
    monkeypatch.setattr(reproduce, "measure_timing", lambda *_, **__: 1 / 0)
    assert cli.main(command) == 0


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        ((), 2),
        (("--workers", "2"), 3),
        (("--workers", "12"), 1),
        (("--workers", "1", "--threads", "4"), 4),
    ],
)
def test_runs_on_ray_are_timed_with_the_threads_that_each_will_have(
    root, tmp_path, monkeypatch, options, threads
):
    had = []

    def measured(*_: Any, **__: Any) -> Timing:
        had.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "measure_timing", measured)
    monkeypatch.setattr(reproduce.os, "cpu_count", lambda: 6)
    before = torch.get_num_threads()
    command = [
        *("reproduce", "--data", str(root), "--categories", "metal", "--dry-run"),
        *("--out", str(tmp_path / "out"), "--textures", "procedural", "--device", "cpu"),
        *("--engine", "ray", *options),
    ]
    assert cli.main(command) == 130
    assert had == [threads]
    assert torch.get_num_threads() == before


def test_the_command_refuses_what_it_cannot_do(root, tmp_path, capsys):
    command = ["reproduce", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "destseg download mvtec-ad" in capsys.readouterr().err
    file = tmp_path / "timing.json"
    file.write_text(json.dumps(asdict(Timing({"setup": 1.0}, "a device"))))
    here = [
        *("reproduce", "--data", str(root), "--categories", "metal", "--dry-run"),
        *("--textures", "procedural", "--timing", str(file)),
    ]
    assert cli.main(here) == 2
    assert "without --timing" in capsys.readouterr().err
    kinds, inputs = ("encoder-decoder", "plain"), ("product", "concatenation", "cosine")
    older = {
        "student": dict.fromkeys(kinds, 1.0),
        "segmentation": {f"{kind}, {name}": 4.0 for kind in kinds for name in inputs},
        "evaluation": 0.1, "setup": 5.0, "pixels": 32 * 256**2, "image_size": 256,
        "widths": [1.0, 1.0], "source": "a device",
    }  # fmt: skip
    file.write_text(json.dumps(older))
    assert cli.main(here) == 0
    assert "55 of 55 runs are left" in capsys.readouterr().out
