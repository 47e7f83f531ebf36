"""Studies: what may be declared, what is shared, and that nothing is lost or repeated."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_study import SMALL, table

from destseg_lib import cli
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.files import append_json_line
from destseg_lib.studies import run as engine
from destseg_lib.studies.records import (
    RECORDS,
    STUDY,
    claimed_folder,
    missing_trials,
    read_folder,
    read_records,
    with_one_number_of_threads,
)
from destseg_lib.studies.run import run_study
from destseg_lib.studies.study import STUDIES, Study, read_study
from destseg_lib.studies.trial import run_trial, training_images, trials
from destseg_lib.studies.workbench import Workbench

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    return write_category("metal", folder, 64, ImageCounts(6, 3, 1), progress=False)


@pytest.fixture
def study(category: Path, tmp_path: Path) -> Study:
    file = tmp_path / "small.toml"
    file.write_text(table(category, **SMALL, teacher="random"))
    return read_study(file)


def run(study: Study, out: Path, **options: object) -> list[dict]:
    return run_study(study, out, out / "world", CPU, progress=False, **options)


def figures(record: dict) -> dict:
    return {key: record[key] for key in (*METRIC_NAMES, "cosine_product", "defects", "student")}


# Declaring


def test_a_file_says_it_all(study):
    assert (study.name, study.reference, study.seeds) == ("small", "whole", (0, 1))
    every = trials(study)
    assert len(every) == 2 * 1 * 3
    assert [t.seed for t in every] == [0, 0, 0, 1, 1, 1]
    by_variant = {t.variant: t for t in every if t.seed == 0}
    assert by_variant["whole"].config.l1 and not by_variant["without L1"].config.l1
    assert not by_variant["without segmentation"].config.model.segmentation
    assert by_variant["whole"].config.rotation == "slight"  # metal's own
    assert by_variant["whole"].config.student.steps == 2


def test_trials_that_differ_only_after_the_student_share_it(study):
    whole, l1, alone = trials(study)[:3]
    assert whole.student == l1.student == alone.student
    assert whole.student != trials(study)[3].student  # another seed
    other = replace(study, variants={"whole": {}, "plain": {"denoising": False}}, paper={})
    first, second = trials(other)[:2]
    assert first.student != second.student
    opacity = {"whole": {}, "faint": {"corruption.opacity": [0.1, 0.3]}}
    first, second = trials(replace(study, variants=opacity, paper={}))[:2]
    assert first.student != second.student


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("l1 = false", "l2 = false", "variant 'without L1': 'l2' is not a setting; give a field"),
        ("l1 = false", "seed = 3", "'seed' is not a setting of a variant"),
        ("l1 = false", "model = 3", "'model' is not a setting"),
        ("l1 = false", "l1 = 1", "l1 is 1; expected true or false"),
        ("l1 = false", '"model.levels" = [3, 2]', "ascending, non-empty subset"),
        ("l1 = false", "teacher = 3", "teacher is 3; expected a text in quotes"),
        ("l1 = false", "textures = [1]", r"textures is \[1\]; expected a text in quotes"),
        ("l1 = false", 'good_images = "5"', "good_images is '5'; expected a whole number"),
        ("l1 = false", "good_images = true", "good_images is True; expected a whole number"),
        ('reference = "whole"', 'reference = "best"', "reference is 'best', which is not a var"),
        ('reference = "whole"', "reference = 0", "reference is 0; expected a text in quotes"),
        ('categories = ["metal"]', 'categories = "metal"', "is 'metal'; expected a list of texts"),
        ('categories = ["metal"]', "categories = [1]", r"categories is \[1\]; expected a list"),
        ('categories = ["metal"]', "categories = []", "give one or more, each once"),
        ("seeds = [0, 1]", "seeds = [0, 0]", r"seeds is \[0, 0\]; give one or more, each once"),
        ("seeds = [0, 1]", "seeds = 3", "seeds is 3; expected a list of whole numbers"),
        ("seeds = [0, 1]", "seeds = [0.5]", r"seeds is \[0.5\]; expected a list of whole"),
        ("seeds = [0, 1]", 'seeds = ["0"]', r"seeds is \['0'\]; expected a list of whole"),
        ("seeds = [0, 1]", "seeds = [true]", r"seeds is \[True\]; expected a list of whole"),
        ("seeds = [0, 1]", "seeds = [0, -1]", "seed is -1; give zero or more"),
        ("seeds = [0, 1]", "", "'seeds' is missing"),
        ("seeds = [0, 1]", "seeds = [0]\nbudget = 3", "'budget' is unknown"),
        ("[paper.whole]", "[paper.wole]", "paper has 'wole', which is not a variant"),
        ("image_auroc = 98.6", 'image_auroc = "a"', "paper.whole.image_auroc is 'a'; expected a n"),
        ("seeds = [0, 1]", "seeds = [0", "is not TOML"),
        ('name = "small"', "name = 5", "name is 5; expected a text in quotes"),
        ('name = "small"', 'name = "s"\nrecipe = "slow"', "recipe is 'slow'; choose one of"),
        ("[settings]", "[variants]\nfirst = 3", "expected a table for each variant"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_anything_is(tmp_path, old, new, message):
    file, text = tmp_path / "study.toml", table("metal")
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(DeSTSegError, match=rf"(?s)study\.toml.*{message}"):
        read_study(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DeSTSegError, match=r"nowhere\.toml cannot be opened"):
        read_study(tmp_path / "nowhere.toml")


# Running


@pytest.mark.usefixtures("one_thread")  # else the commands may choose another number
def test_a_trial_gives_what_the_commands_give(study, category, tmp_path):
    """The commands are the oracle: the same configuration trained and evaluated by them."""
    trial = trials(study)[0]
    record = run_trial(trial, Workbench(tmp_path / "students", tmp_path, CPU, progress=False))
    out, file = tmp_path / "run", tmp_path / "figures.json"
    options = (
        "--teacher random --recipe tiny --image-size 32 --batch-size 2 --width 0.0625 "
        "--segmentation-width 0.0625 --student-steps 2 --segmentation-steps 2 --precision fp32 "
        "--device cpu --quiet"
    )
    assert cli.main(["train", "--data", str(category), "--out", str(out), *options.split()]) == 0
    command = ["evaluate", "--run", str(out), "--data", str(category), "--json", str(file)]
    assert cli.main([*command, "--device", "cpu", "--quiet"]) == 0
    expected = json.loads(file.read_text())
    assert {key: record[key] for key in METRIC_NAMES} == {
        key: expected[key] for key in METRIC_NAMES
    }
    assert json.loads(json.dumps(record["config"])) == expected["config"]


def test_a_study_trains_each_student_once_and_records_every_trial(study, tmp_path):
    records = run(study, tmp_path / "out")
    assert [r["status"] for r in records] == ["done"] * 6
    assert len(list((tmp_path / "out/students").glob("*.safetensors"))) == 2
    trained = [r["seconds"]["student"] > 0 for r in records]
    assert trained == [True, False, False, True, False, False]
    # A student that was loaded is the one that was trained.
    alone = replace(study, variants={"without L1": {"l1": False}}, reference="without L1", paper={})
    again = run(alone, tmp_path / "alone")
    shared = [r for r in records if r["variant"] == "without L1"]
    assert [figures(r) for r in again] == [figures(r) for r in shared]
    product = [r for r in records if r["variant"] == "without segmentation"]
    assert all(r["image_auroc"] == r["cosine_product"]["image_auroc"] for r in product)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_killed_study_goes_on_with_only_what_is_missing(study, tmp_path, monkeypatch, after):
    whole = run(study, tmp_path / "whole")
    real, calls = engine.run_trial, []

    def until_killed(trial, bench):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(trial.key)
        return real(trial, bench)

    monkeypatch.setattr(engine, "run_trial", until_killed)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "out")
    with (tmp_path / "out" / RECORDS).open("a") as file:
        file.write('{"variant": "who')  # as a power cut would leave it
    assert len(missing_trials(study, tmp_path / "elsewhere")) == 6
    monkeypatch.setattr(engine, "run_trial", lambda t, b: calls.append(t.key) or real(t, b))
    resumed = run(study, tmp_path / "out")
    assert len(calls) == len(set(calls)) == 6
    assert [figures(r) for r in resumed] == [figures(r) for r in whole]


def test_a_trial_that_fails_is_tried_again_then_recorded_and_the_rest_goes_on(
    study, tmp_path, monkeypatch
):
    real, tries = engine.run_trial, []

    def sometimes(trial, bench):
        if trial.variant == "without L1":
            tries.append(trial.seed)
            if trial.seed == 1 or len(tries) == 1:
                raise RuntimeError("out of memory")
        return real(trial, bench)

    monkeypatch.setattr(engine, "run_trial", sometimes)
    records = run(study, tmp_path / "out", retries=1)
    assert tries == [0, 0, 1, 1]
    assert [r["status"] for r in records] == ["done"] * 4 + ["failed", "done"]
    assert records[4]["error"] == "RuntimeError: out of memory"
    assert records[4]["tries"] == 2
    # It stays recorded, until it is asked for.
    monkeypatch.setattr(engine, "run_trial", real)
    assert [r["status"] for r in run(study, tmp_path / "out")].count("failed") == 1
    repaired = run(study, tmp_path / "out", retry_failed=True)
    assert [r["status"] for r in repaired] == ["done"] * 6


@pytest.mark.parametrize("older", [False, True])
def test_a_study_keeps_its_precision_on_another_processor(
    study, tmp_path, monkeypatch, capsys, older
):
    settings = {**study.settings, "precision": "auto"}
    variants = {"whole": {}, "exact": {"precision": "fp32"}}
    automatic = replace(study, settings=settings, variants=variants, paper={})
    here = ["bf16"]
    monkeypatch.setattr(engine, "resolve_precision", lambda *_: here[0])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "missing_trials", lambda s, out, **_: trials(s)[:1])
        run(automatic, tmp_path / "out")
    assert "would be faster" not in capsys.readouterr().err
    file = tmp_path / "out" / STUDY
    assert json.loads(file.read_text())["precision"] == "bf16"
    if older:  # which did not write it there: the records decide
        described = json.loads(file.read_text())
        del described["precision"]
        file.write_text(json.dumps(described))
    here[0] = "fp32"
    records = run(automatic, tmp_path / "out")
    assert "computed in bf16" in capsys.readouterr().err
    assert [r["config"]["precision"] for r in records] == ["bf16", "fp32"] * 2
    assert len(list((tmp_path / "out/students").glob("*-bf16.safetensors"))) == 2
    assert read_folder(tmp_path / "out")[0] == automatic


@pytest.mark.parametrize("older", [False, True])
def test_a_study_keeps_its_threads(study, tmp_path, monkeypatch, capsys, older):
    out = tmp_path / "out"
    monkeypatch.setattr(engine, "choose_threads", lambda *_: (1, None))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "missing_trials", lambda s, out, **_: trials(s)[:1])
        run(study, out, threads="auto")
    assert json.loads((out / STUDY).read_text())["threads"] == 1
    if older:  # which did not write it there: the records decide
        described = json.loads((out / STUDY).read_text())
        del described["threads"]
        (out / STUDY).write_text(json.dumps(described))
    # Another machine, on which two would be faster.
    monkeypatch.setattr(engine, "choose_threads", lambda *_: pytest.fail("timed again"))
    seen = []
    monkeypatch.setattr(engine, "torch_threads", lambda n: seen.append(n) or nullcontext())
    records = run(study, out, threads="auto")
    assert seen == [1]
    assert {record["status"] for record in records} == {"done"}
    assert read_folder(out)[0] == study
    run(study, out, threads=2, retry_failed=True)
    assert "the runs so far had 1" not in capsys.readouterr().err, "nothing was left to run"


def test_another_number_of_threads_can_be_asked_for_and_is_said(study, tmp_path, capsys):
    out = tmp_path / "out"
    with claimed_folder(study, out):
        assert with_one_number_of_threads(study, out, 64, lambda: pytest.fail("chosen")) == 64
        # Nothing has been done with it: a slip does not hold for ever.
        assert with_one_number_of_threads(study, out, 1, lambda: pytest.fail("chosen")) == 1
        assert json.loads((out / STUDY).read_text())["threads"] == 1
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "missing_trials", lambda s, out, **_: trials(s)[:1])
        run(study, out)
    with claimed_folder(study, out):
        assert with_one_number_of_threads(study, out, 2, lambda: pytest.fail("chosen")) == 2
        assert "threads 2, as asked for; the runs so far had 1" in capsys.readouterr().err
        assert with_one_number_of_threads(study, out, None, lambda: pytest.fail("chosen")) == 1


def test_a_run_that_diverges_while_it_is_timed_does_not_stop_the_study(study, tmp_path):
    wild = {"wild": {"student.lr": 1e30}, **study.variants}
    broken = replace(study, variants=wild, paper={})
    records = run(broken, tmp_path / "out", threads="auto", retries=0)
    by_variant = {record["variant"]: record["status"] for record in records}
    assert by_variant.pop("wild") == "failed"
    assert set(by_variant.values()) == {"done"}


def test_a_run_that_cannot_begin_does_not_choose_the_threads(study, tmp_path, monkeypatch):
    broken = replace(
        study, settings={**study.settings, "teacher": str(tmp_path / "none")}, paper={}
    )
    monkeypatch.setattr(engine, "choose_threads", lambda *_: pytest.fail("timed"))
    records = run(broken, tmp_path / "out", threads="auto", retries=0)
    assert {record["status"] for record in records} == {"failed"}
    assert "is not a file" in records[0]["error"]


def test_the_mode_chooses_the_teacher_and_the_folder_keeps_it(study, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(table(study.categories[0], **SMALL))
    command = ["study", "run", str(file), "--out", str(out), "--seeds", "0", "--quiet"]
    assert cli.main(command) == 0
    described = json.loads((out / STUDY).read_text())
    assert described["settings"].pop("teacher") == "builtin"
    monkeypatch.setenv("DESTSEG_MODE", "full")
    (out / STUDY).write_text(json.dumps(described))  # as an older version wrote it
    assert read_folder(out)[0].settings == SMALL
    for _ in range(2):  # the second time the folder says it itself
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert "'teacher': 'builtin'" in error and "'teacher': 'imagenet'" in error
    monkeypatch.delenv("DESTSEG_MODE")
    assert cli.main(command) == 0


def test_categories_of_one_name_in_two_folders_are_kept_apart(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n, line in enumerate(("lineA", "lineB")):
        write_category("metal", tmp_path / line, 64, ImageCounts(6, 3, 1), seed=n, progress=False)
    both = replace(study, categories=("lineA/metal", "lineB/metal"), seeds=(0,))
    records = run(both, tmp_path / "out")
    assert [r["category"] for r in records] == ["lineA/metal"] * 3 + ["lineB/metal"] * 3
    assert len({r["student"] for r in records}) == 2
    assert records[0]["pixel_ap"] != records[3]["pixel_ap"]
    assert missing_trials(both, tmp_path / "out") == ()
    # Older records have the last part, which is enough where it is the only one.
    one = replace(both, categories=("lineB/metal",))
    older = [r | {"category": "metal"} for r in records[3:]]
    file = tmp_path / "out" / RECORDS
    file.write_text("".join(json.dumps(record) + "\n" for record in older))
    assert read_records(one, tmp_path / "out") == records[3:]
    assert missing_trials(one, tmp_path / "out") == ()
    assert len(missing_trials(both, tmp_path / "out")) == 6  # of which of the two, nobody knows


def test_threads_are_set_for_the_study_and_put_back(study, tmp_path):
    before = torch.get_num_threads()
    other = 1 if before > 1 else 2
    alone = replace(study, seeds=(0,), variants={"whole": {}}, paper={})
    records = run(alone, tmp_path / "out", threads=other)
    assert [r["provenance"]["threads"] for r in records] == [other]
    assert torch.get_num_threads() == before
    with pytest.raises(DeSTSegError, match="0 threads cannot compute"):
        run(study, tmp_path / "out0", threads=0)


def test_images_and_textures_kept_in_files_are_the_same_and_made_once(study, tmp_path, monkeypatch):
    one, other = trials(study)[0], next(t for t in trials(study) if t.seed == 1)
    alone = Workbench(tmp_path, tmp_path, CPU, progress=False)
    first, second = (
        Workbench(tmp_path, tmp_path, CPU, decoded=tmp_path / "decoded", progress=False)
        for _ in range(2)
    )
    made = [[training_images(t, bench) for t in (one, other)] for bench in (alone, first)]
    for own, kept in zip(*made, strict=True):
        rows = np.arange(len(own.good))
        assert (own.good[rows] == kept.good[rows]).all() and (own.textures == kept.textures).all()
    assert len(list((tmp_path / "decoded").glob("*.npy"))) == 3
    assert (made[0][0].textures != made[0][1].textures).any()
    # The second to come makes nothing.
    monkeypatch.setattr("destseg_lib.studies.workbench.draw_textures", None)
    for trial, kept in zip((one, other), made[1], strict=True):
        assert (training_images(trial, second).textures == kept.textures).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--workers 2", "--workers needs --engine ray"),
        ("--gpus-per-run 0.5", "--gpus-per-run needs --engine ray"),
        ("--retries -1", "--retries is -1; give 0 or more"),
        ("--engine ray --workers 0", "0 workers cannot run anything"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, capsys, options, message):
    command = ["study", "run", "table5", "--out", str(tmp_path / "out"), *options.split()]
    assert cli.main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_images_than_there_are_is_a_failure_that_says_so(study, tmp_path):
    many = replace(study, variants={"many": {"good_images": 50}}, reference="many", paper={})
    records = run(many, tmp_path / "out", retries=0)
    assert "good_images is 50, and " in records[0]["error"]
    few = replace(study, variants={"few": {"good_images": 3}}, reference="few", paper={})
    assert run(few, tmp_path / "few")[0]["images"]["train"] == 3


def test_a_folder_of_another_study_is_refused(study, tmp_path):
    run(replace(study, seeds=(0,)), tmp_path / "out")
    with pytest.raises(DeSTSegError, match="or this one before it was changed: seeds was"):
        run(study, tmp_path / "out")


def test_a_folder_in_use_is_refused(study, tmp_path):
    with (
        claimed_folder(study, tmp_path / "out"),
        pytest.raises(DeSTSegError, match="is in use by another"),
    ):
        run(study, tmp_path / "out")


def test_a_damaged_record_is_named_and_not_passed_over(study, tmp_path):
    (tmp_path / RECORDS).write_text("not json\n")
    with pytest.raises(DeSTSegError, match=r"records\.jsonl, line 1 is not a record"):
        read_records(study, tmp_path)
    (tmp_path / RECORDS).unlink()
    (tmp_path / RECORDS).mkdir()
    with pytest.raises(DeSTSegError, match="could not be written"):
        append_json_line(tmp_path / RECORDS, {})


# The studies that ship, and the command


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_ships_can_be_run(name):
    found = read_study(Path(name))
    assert len(trials(found)) == len(found.variants) * 2 * 3
    assert len(found.variants) >= 2


def test_table_4_has_the_papers_eight_variants_and_trains_four_students():
    found = read_study(Path("table4"))
    assert len(found.variants) == len(found.paper) == 8
    kinds = {
        (t.config.denoising, t.config.model.encoder_decoder, t.config.model.segmentation)
        for t in trials(found)
    }
    assert len(kinds) == 8
    one = [t for t in trials(found) if (t.category, t.seed) == ("metal", 0)]
    assert len({t.student for t in one}) == 4


def test_the_command_runs_reports_and_tells_failure_by_its_status(
    study, tmp_path, monkeypatch, capsys
):
    file, out = tmp_path / "small.toml", tmp_path / "out"
    command = ["study", "run", str(file), "--out", str(out), "--seeds", "0", "--device", "cpu"]
    assert cli.main([*command, "--quiet"]) == 0
    assert "3 of 3 runs done" in capsys.readouterr().out
    assert cli.main(["study", "report", str(out)]) == 0
    assert (out / "report" / "report.md").read_text().startswith("# small")
    monkeypatch.setattr(engine, "run_trial", lambda *_: 1 / 0)
    other = ["study", "run", str(file), "--out", str(tmp_path / "other"), "--seeds", "0", "--quiet"]
    assert cli.main(other) == 1
    assert "failed: whole, metal, seed 0: ZeroDivisionError" in capsys.readouterr().err
    assert cli.main(["study", "report", str(tmp_path / "nowhere")]) == 2
    assert "holds no study" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_saved_by_windows_is_read_or_refused_by_name(tmp_path: Path, encoding: str) -> None:
    study = next((Path(__file__).parents[1] / "results" / "studies").glob("*.toml"))
    path = tmp_path / "s.toml"
    path.write_text(study.read_text("utf-8"), encoding)
    if encoding == "utf-8-sig":
        assert read_study(path).variants
    else:
        with pytest.raises(DeSTSegError, match=r"s\.toml is not TOML in UTF-8"):
            read_study(path)


def photographs(folder: Path, seed: int = 0) -> Path:
    """A category of BMP files: other pixels, the same names and sizes."""
    rng = np.random.default_rng(seed)
    for place, count in (("train/good", 4), ("test/good", 2), ("test/dent", 2)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{number}.bmp")
    return folder


@pytest.mark.parametrize("part", ["train/good", "test/dent"])
def test_a_study_continued_on_other_photographs_says_so_and_mixes_nothing(
    tmp_path: Path, part: str
) -> None:
    data = photographs(tmp_path / "mine")
    (file := tmp_path / "small.toml").write_text(table(data, **SMALL, teacher="random"))
    study = read_study(file)
    done = run_study(study, tmp_path / "out", tmp_path / "world", CPU, progress=False)
    assert {record["status"] for record in done} == {"done"}
    assert {*done[0]["inputs"]} == {"good images", "test images", "teacher"}
    records = tmp_path / "out" / RECORDS
    first, *_ = records.read_text().splitlines(keepends=True)
    records.write_text(first)  # as if it had been stopped
    other = photographs(tmp_path / "other", seed=1)
    for path in (other / part).iterdir():
        (data / part / path.name).write_bytes(path.read_bytes())
    again = run_study(study, tmp_path / "out", tmp_path / "world", CPU, progress=False)
    assert [record["status"] for record in again].count("done") == 1
    what = "good images" if part.startswith("train") else "test images"
    failed = [record for record in again if record["status"] == "failed"]
    assert failed and all(f"the {what}, " in record["error"] for record in failed)
