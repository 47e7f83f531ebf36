"""The command line is a contract: names, precedence, JSON keys, messages and exit statuses.

What `--help` lists is compared with the page book/commands.md in test_repository.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from destseg_lib import cli
from destseg_lib.cli.train import config_for
from destseg_lib.config import TrainingConfig, paper_recipe, quick_recipe, tiny_recipe
from destseg_lib.images.folders import find_category

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = {"image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap90"}
TINY = (
    *("--recipe", "tiny", "--teacher", "random"),
    *("--image-size", "64", "--batch-size", "4", "--width", "0.0625"),
    *("--student-steps", "2", "--segmentation-steps", "2", "--device", "cpu", "--quiet"),
)


def photograph(path: Path, generator: np.random.Generator, defect: bool = False) -> None:
    pixels = generator.integers(90, 110, (80, 96, 3), dtype=np.uint8)
    if defect:
        pixels[20:40, 30:60] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def category(root: Path, good: int = 6, masks: bool = True) -> Path:
    """A small category in the MVTec layout."""
    generator = np.random.default_rng(0)
    for n in range(good):
        photograph(root / "train" / "good" / f"{n}.png", generator)
    for n in range(3):
        photograph(root / "test" / "good" / f"{n}.png", generator)
        photograph(root / "test" / "scratch" / f"{n}.png", generator, defect=True)
        if masks:
            mask = np.zeros((80, 96), np.uint8)
            mask[20:40, 30:60] = 255
            path = root / "ground_truth" / "scratch" / f"{n}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return category(tmp_path_factory.mktemp("data") / "tile_like")


@pytest.fixture(scope="module")
def run(tile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(training(tile, out)) == 0
    return out


def training(data: Path, out: Path, *options: str) -> tuple[str, ...]:
    return ("train", "--data", str(data), "--out", str(out), *TINY, *options)


def evaluated(run: Path, data: Path, file: Path) -> dict[str, Any]:
    command = ["evaluate", "--run", str(run), "--data", str(data), "--json", str(file), "--quiet"]
    assert cli.main(command) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def predicted(run: Path, image: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    command = ["predict", str(image), "--run", str(run), "--out", str(out), "--quiet", *options]
    assert cli.main(command) == 0
    rows: list[dict[str, Any]] = json.loads((out / "scores.json").read_text())
    return rows


def two_categories(root: Path) -> Path:
    for name in ("bolt", "nut"):
        category(root / name)
    return root


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert cli.main(list(command)) == 2
    message = capsys.readouterr().err
    assert message.startswith("destseg: ") and "Traceback" not in message
    return message


@pytest.mark.slow
def test_commands_start_without_torchvision_whose_import_takes_seconds():
    script = "import sys, destseg_lib.cli; print([n for n in sys.modules if 'vision' in n])"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_a_mistake_ends_with_a_message_and_status_2_in_a_real_process(tmp_path):
    command = [sys.executable, "-m", "destseg_lib.cli", *training(tmp_path / "nowhere", tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "required: COMMAND"),
        ("paint", "invalid choice: 'paint'"),
        ("train", "required: --out"),
        ("train --data d --out o --levels abc", "--levels: 'abc' is not a list of numbers"),
        ("train --data d --out o --width wide", "--width: invalid float value: 'wide'"),
        ("train --data d --category metal --out o", "not allowed with argument --data"),
        ("train --data d --out o --recipe slow", "invalid choice: 'slow'"),
        ("predict --run r --out o", "required: IMAGE_OR_DIR"),
        ("download imagenet", "invalid choice: 'imagenet'"),
    ],
)
def test_a_command_that_cannot_be_understood_ends_with_status_2(command, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--image-size 100", "multiple of 32"),
        ("--batch-size 1", "batch size is 1; batch norm needs at least 2"),
        ("--width 1e9", "choose a value from 1/64 to 4"),
        ("--levels 3,2", "ascending, non-empty subset"),
        ("--opacity 1,0.5", "two ascending values"),
        ("--opacity 0.5", "expected two numbers"),
        ("--levels 2.5", "expected a whole number"),
        ("--holdout 1", "holdout is 1.0; give a share"),
        ("--seed 99999999999999999999", "give zero or more, at most 2^63 - 1"),
        ("--seed -1", "seed is -1"),
        ("--checkpoint-every 0", "0 steps; give one step or more"),
        ("--time-budget nan", "nan minutes; give a positive number"),
        ("--time-budget 0", "0 minutes; give a positive number"),
        ("--time-budget 0.0000001", "too short to train"),
        ("--teacher absent.safetensors", "absent.safetensors is not a file; give 'imagenet'"),
        ("--textures nowhere", "nowhere cannot be opened"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_a_run_is_started(
    options, message, tile, tmp_path, capsys
):
    out = tmp_path / "run"
    assert message in refused(capsys, *training(tile, out, *options.split()))
    assert not out.exists()


def fail(*_: Any, **__: Any) -> None:
    pytest.fail("the work was begun")


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_before_there_is_anything_to_save_ends_with_status_130(
    tile, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("destseg_lib.cli.train.train_and_calibrate", interrupt)
    assert cli.main(training(tile, tmp_path / "run")) == 130
    assert capsys.readouterr().err == "destseg: stopped\n"


def test_what_the_system_refuses_is_told_without_a_traceback(run, tile, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    for name in ("model.safetensors", "calibration.json", "log.jsonl"):
        (out / name).unlink()
    (out / "log.jsonl").mkdir()
    message = refused(capsys, *training(tile, out, "--resume"))
    assert "log.jsonl" in message and "directory" in message


def parsed(*options: str, category: str = "tile_like", drawn: bool = True) -> TrainingConfig:
    arguments = cli.build_parser().parse_args(["train", "--data", "d", "--out", "o", *options])
    return config_for(category, arguments, drawn=drawn)


def test_without_options_the_mode_chooses_the_recipe(monkeypatch):
    monkeypatch.delenv("DESTSEG_MODE", raising=False)
    assert parsed("--device", "cpu") == tiny_recipe()
    assert parsed("--device", "cpu", drawn=False) == quick_recipe()
    monkeypatch.setenv("DESTSEG_MODE", "full")
    assert parsed("--device", "cpu") == paper_recipe()
    assert parsed("--recipe", "quick") == quick_recipe()


def test_every_command_says_which_mode_it_runs_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DESTSEG_MODE", "full")
    for command in ("train --out o", "evaluate --run r", "predict i --run r --out o"):
        cli.main([*command.split(), "--device", "cpu"])
        assert capsys.readouterr().out.startswith("mode: full")
    monkeypatch.setenv("DESTSEG_MODE", "medium")
    assert "set it to tiny or full" in refused(capsys, "make-data", "--out", str(tmp_path / "w"))


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_without_images_train_says_how_to_get_some(mode, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DESTSEG_MODE", mode)
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "train", "--out", "run")
    assert "--data DIR for your own images, or --category NAME" in message and "metal" in message
    assert "destseg download mvtec-ad" in message
    assert "'spoon'" in refused(capsys, "train", "--category", "spoon", "--out", "run")


@pytest.mark.parametrize("option", ["--category", "--product"])
def test_images_that_were_drawn_differently_are_not_trained_on(
    option, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    drawn = ["--size", "64", "--train", "6", "--good", "2", "--defective", "1", "--quiet"]
    assert cli.main(["make-data", "metal", *drawn]) == 0
    made = find_category(Path("data/world/metal"))
    assert (len(made.train), made.has_masks) == (6, True)
    message = refused(capsys, "train", option, "metal", "--out", "run")
    assert "size 64 instead of 256" in message


def test_an_explicit_option_wins_over_the_recipe():
    config = parsed(
        *("--recipe", "paper", "--image-size", "128", "--batch-size", "8", "--student-steps", "5"),
        *("--segmentation-steps", "7", "--width", "0.5", "--rotation", "full", "--seed", "3"),
        *("--levels", "2,3", "--no-denoising", "--no-l1", "--opacity", "0.15,1"),
    )
    assert (config.image_size, config.batch_size, config.seed) == (128, 8, 3)
    assert (config.student.steps, config.segmentation.steps) == (5, 7)
    assert (config.model.width, config.model.levels) == (0.5, (2, 3))
    assert (config.denoising, config.l1, config.rotation) == (False, False, "full")
    assert config.corruption.opacity == (0.15, 1)
    assert config.student.lr == paper_recipe().student.lr
    quick = parsed("--recipe", "quick", "--width", "0.125").model  # its recipe has two widths
    assert (quick.width, quick.segmentation_width) == (0.125, None)


def test_a_category_of_mvtec_ad_is_turned_as_the_authors_turn_it():
    assert (parsed(category="screw").rotation, parsed(category="pill").rotation) == ("full", "none")
    assert parsed("--rotation", "slight", category="screw").rotation == "slight"


def test_evaluate_gives_the_six_metrics_of_both_maps(run, tile, tmp_path, capsys):
    found = evaluated(run, tile, tmp_path / "metrics.json")
    assert set(found) >= KEYS and set(found["cosine_product"]) == KEYS
    assert all(isinstance(found[key], float) for key in KEYS)
    assert (found["metric_size"], found["top_pixels"], found["regions_lost"]) == (256, 100, 0)
    assert found["provenance"]["packages"]["torch"]
    assert "image AUROC" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["nowhere/metrics.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_evaluation(
    place, run, tile, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("destseg_lib.evaluation.evaluate.evaluate_category", fail)
    command = ("evaluate", "--run", str(run), "--data", str(tile), "--json", str(tmp_path / place))
    assert "name a file in a folder that exists" in refused(capsys, *command)


def test_a_set_without_masks_has_null_metrics_and_the_table_says_why(run, tmp_path, capsys):
    found = evaluated(run, category(tmp_path / "bare", masks=False), tmp_path / "metrics.json")
    assert found["image_auroc"] is not None
    assert all(found[key] is None for key in KEYS - {"image_auroc"})
    assert "mask" in capsys.readouterr().out


def test_a_test_set_of_good_images_alone_has_no_image_auroc_and_says_why(run, tmp_path):
    data = category(tmp_path / "good_only")
    shutil.rmtree(data / "test" / "scratch")
    shutil.rmtree(data / "ground_truth")
    found = evaluated(run, data, tmp_path / "metrics.json")
    assert found["image_auroc"] is None
    assert found["reasons"]["image_auroc"]


def test_several_categories_train_side_by_side_and_are_averaged(tmp_path):
    root, out = two_categories(tmp_path / "root"), tmp_path / "runs"
    assert cli.main(training(root, out)) == 0
    found = evaluated(out, root, tmp_path / "metrics.json")
    assert set(found["categories"]) == {"bolt", "nut"}
    assert set(found["mean"]) >= KEYS and set(found["mean"]["cosine_product"]) == KEYS
    both = [found["categories"][name]["pixel_ap"] for name in ("bolt", "nut")]
    assert found["mean"]["pixel_ap"] == pytest.approx(np.mean(both))


def test_what_is_wrong_with_the_last_category_is_told_before_the_first_is_trained(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("destseg_lib.cli.train.train_and_calibrate", fail)
    out = tmp_path / "runs"
    command = training(two_categories(tmp_path / "root"), out)
    shutil.copytree(run, out / "nut")
    assert f"{out / 'nut'} already holds a run" in refused(capsys, *command)
    message = refused(capsys, *command, "--resume", "--width", "0.5")
    assert f"the run in {out / 'nut'} was started with width 0.0625, not 0.5" in message


def test_several_categories_do_not_go_into_the_run_of_one(run, tmp_path, capsys):
    command = training(two_categories(tmp_path), run, "--resume")
    assert "holds a run of one category" in refused(capsys, *command)


def test_predict_writes_scores_and_overlays(run, tile, tmp_path, capsys):
    out = tmp_path / "found"
    rows = predicted(run, tile / "test" / "scratch", out)
    assert [set(row) for row in rows] == [{"path", "score", "threshold", "anomalous"}] * 3
    assert all(row["anomalous"] == (row["score"] > row["threshold"]) for row in rows)
    assert len(list(out.glob("*.png"))) == 3
    # Six good images hold out one; without --fpr the rate is what one image can resolve.
    printed = capsys.readouterr().out
    assert "50.00%" in printed
    assert f"3 images, {sum(row['anomalous'] for row in rows)} anomalous: {out}" in printed


def test_a_rate_too_small_for_the_held_out_images_is_refused_with_the_number_needed(
    run, tile, tmp_path, capsys
):
    folder = str(tile / "test" / "scratch")
    command = ("predict", "--run", str(run), folder, "--out", str(tmp_path / "p"))
    message = refused(capsys, *command, "--fpr", "0.01", "--quiet")
    assert "at least 99 good images" in message and "--good" in message


def test_fewer_images_than_a_batch_and_a_plain_folder_train(tmp_path):
    generator = np.random.default_rng(0)
    for n in range(2):
        photograph(tmp_path / "good" / f"{n}.jpg", generator)
    out = tmp_path / "run"
    assert cli.main(training(tmp_path / "good", out)) == 0
    assert (out / "model.safetensors").is_file()


def test_the_paper_recipe_holds_nothing_out_and_says_what_that_means(tile, tmp_path, capsys):
    out, found = tmp_path / "run", tmp_path / "found"
    assert cli.main(training(tile, out, "--recipe", "paper")) == 0
    assert "no image is held out, as in the paper" in capsys.readouterr().out
    image = tile / "test" / "scratch" / "0.png"
    (row,) = predicted(out, image, found)
    assert row["threshold"] is None and row["anomalous"] is None
    assert "1 image, scored but not judged" in capsys.readouterr().out
    good = ("--good", str(tile / "test" / "good"), "--fpr", "0.25")
    (row,) = predicted(out, image, found, *good)
    assert isinstance(row["threshold"], float) and isinstance(row["anomalous"], bool)


def test_a_time_budget_says_what_it_chose_and_never_adds_steps(tile, tmp_path, capsys):
    assert cli.main(training(tile, tmp_path / "run", "--time-budget", "60")) == 0
    assert "time budget 60 min: 2 of 2 student steps" in capsys.readouterr().out


def test_unreadable_images_are_an_error_unless_skipping_is_asked_for(tmp_path, capsys):
    data = category(tmp_path / "data")
    (data / "train" / "good" / "broken.png").write_bytes(b"not an image")
    command = training(data, tmp_path / "run")
    assert "broken.png" in refused(capsys, *command)
    assert cli.main([*command, "--skip-unreadable"]) == 0
    assert "skipped" in (printed := capsys.readouterr().out) and "broken.png" in printed
    described = (tmp_path / "run" / "config.json").read_text()
    (skipped,) = json.loads(described)["inputs"]["skipped"]
    assert skipped["file"] == "broken.png" and skipped["reason"]
    assert str(tmp_path) not in described  # a run can be given away


def test_textures_are_drawn_unless_a_folder_of_them_is_given(tile, run, tmp_path, capsys):
    inputs = json.loads((run / "config.json").read_text())["inputs"]
    assert (inputs["textures"], inputs["texture_images"]) == ("procedural", 512)
    folder, out = tmp_path / "fabrics", tmp_path / "run"
    for place in ("a.png", "deeper/b.jpg"):
        photograph(folder / place, np.random.default_rng(1))
    assert cli.main(training(tile, out, "--textures", str(folder))) == 0
    assert "textures      fabrics (2)" in capsys.readouterr().out
    inputs = json.loads((out / "config.json").read_text())["inputs"]
    assert (inputs["textures"], inputs["texture_images"]) == ("fabrics", 2)


def test_a_run_that_lacks_only_its_calibration_gets_the_same_again(run, tile, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "calibration.json").unlink()
    command = training(tile, out, "--resume")
    assert cli.main(command) == 0
    for name in ("calibration.json", "model.safetensors"):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    assert cli.main(command) == 0
    assert "is complete" in capsys.readouterr().out
