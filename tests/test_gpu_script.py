"""The script that measures a GPU, run on a CPU with small numbers: records, time, refusals."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import destseg_lib
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.images.read import read_image

pytestmark = pytest.mark.usefixtures("one_thread")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SMALL = [
    "--device", "cpu", "--size", "32", "--batch", "4", "--width", "0.125", "--check-steps", "4",
    "--timed-steps", "1", "--no-compile", "--precisions", "fp32", "--textures", "procedural",
    "--teacher", "random", "--precision", "fp32", "--part-seconds", "300",
]  # fmt: skip
# Everything that the library offers is imported where pooch cannot be; then the script is run.
WITHOUT_POOCH = """
import importlib, pkgutil, sys
sys.modules["pooch"] = None
import destseg_lib
for found in pkgutil.walk_packages(destseg_lib.__path__, "destseg_lib."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
sys.path.insert(0, sys.argv.pop(1))
import gpu
sys.exit(gpu.main())
"""


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    """The script as a module; ``gpu_device`` and ``gpu_bundle`` are its parts."""
    before = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("gpu")
    sys.path[:] = before


@pytest.fixture
def device(gpu: ModuleType) -> ModuleType:
    return sys.modules["gpu_device"]


@pytest.fixture
def bundling(gpu: ModuleType) -> ModuleType:
    return sys.modules["gpu_bundle"]


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawn images under the name of one of MVTec AD's categories."""
    counts = ImageCounts(train=2, good=1, defective=1)
    drawn = write_category("nut", tmp_path_factory.mktemp("drawn"), 64, counts, progress=False)
    return drawn.rename(drawn.with_name("screw"))


def record_of(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def whole(category: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All three parts in a process of their own, without pooch: its records and its output."""
    out = tmp_path_factory.mktemp("records")
    arguments = [
        "--minutes", "15", "--data", str(category), "--out", str(out), "--seeds", "3",
        "--student-steps", "2", "--segmentation-steps", "2",
    ]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_POOCH, str(BENCHMARKS), *SMALL, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return out, ran.stdout


def test_every_part_writes_a_record_with_its_provenance_and_no_place_of_this_machine(
    whole, tmp_path
):
    out, printed = whole
    assert sorted(path.name for path in out.iterdir()) == [
        "checks.json", "recipe.json", "speed.json",
    ]  # fmt: skip
    for name in ("checks", "recipe", "speed"):
        record = record_of(out, name)
        assert record["status"] == "complete"
        assert record["provenance"]["destseg_lib"] == destseg_lib.__version__
        assert record["settings"]["data"] == ["screw"]
        assert record["settings"]["seeds"] == [3]
        assert str(tmp_path.parent) not in json.dumps(record)
    assert "0 failed" in printed


def test_every_check_has_a_value_a_bound_and_a_verdict(whole):
    made = {check["name"]: check for check in record_of(whole[0], "checks")["checks"]}
    for check in made.values():
        assert check["passed"] is True
        assert check["value"] <= check["bound"]
    assert len(made) == 16
    assert made["shipped model, metrics in fp32"]["value"] == 0  # the device is the CPU itself
    assert made["resumed weights in fp32"]["value"] == 0
    assert made["resumed weights in fp32"]["unbroken_twice"] == 0
    learned = made["fp16, student loss, share left after 4 steps"]
    assert learned["value"] == learned["after"] / learned["before"]
    assert made["fp16, student, weights moved by an overflow"]["value"] == 0
    assert made["fp16, segmentation, scale after an overflow"]["value"] == 0.5


def test_every_step_is_timed(whole):
    record = record_of(whole[0], "speed")
    assert record["bf16_product_flop_per_second"] > 0
    assert record["flop_a_step"]["segmentation"] > record["flop_a_step"]["student"] > 1e6
    assert [step["phase"] for step in record["steps"]] == ["student", "segmentation"]
    for step in record["steps"]:
        share = record["flop_a_step"][step["phase"]] / step["seconds_a_step"]
        share /= record["bf16_product_flop_per_second"]
        assert step["share_of_bf16_product"] == pytest.approx(share)
        assert step["images_per_second"] == pytest.approx(4 / step["seconds_a_step"])


def test_what_cannot_be_timed_says_why(gpu, device, tmp_path, monkeypatch):
    def broken(*arguments: object) -> None:
        raise RuntimeError("out of memory: of 8 GiB\nfour are left")

    monkeypatch.setattr(device, "timed", broken)
    monkeypatch.setattr(device, "flop_a_step", lambda bench, phase: 1)
    monkeypatch.setattr(device, "COMPILING", 1e6)
    arguments = [argument for argument in SMALL if argument != "--no-compile"]
    assert gpu.main([*arguments, "--parts", "b", "--out", str(tmp_path)]) == 0
    eager, compiled = record_of(tmp_path, "speed")["steps"][::2]
    assert eager["skipped"] == "RuntimeError: out of memory: of 8 GiB"
    assert "too few to compile" in compiled["skipped"]


def test_every_seed_is_trained_and_both_maps_are_measured(whole):
    record = record_of(whole[0], "recipe")
    (run,) = record["runs"]
    assert (run["category"], run["seed"], run["status"]) == ("screw", 3, "done")
    assert all(0 <= run[key] <= 1 and 0 <= run["cosine_product"][key] <= 1 for key in METRIC_NAMES)
    assert run["config"]["rotation"] == "full"  # by the category's name
    assert run["config"]["student"]["lr"] == 0.4
    assert run["config"]["recipe"] == "paper"
    assert set(run["seconds"]) == {"setup", "student", "segmentation", "evaluation"}
    assert run["provenance"]["commit"] == record["provenance"]["commit"]
    assert record["estimates"]["screw"]["whole"] > sum(run["seconds"].values()) / 10


def test_a_seed_that_cannot_be_finished_is_not_started(gpu, category, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "estimate", lambda trial, work: {"whole": 3600.0})
    arguments = ["--parts", "c", "--seeds", "0", "1", "--data", str(category)]
    assert gpu.main([*SMALL, *arguments, "--out", str(tmp_path)]) == 0
    runs = record_of(tmp_path, "recipe")["runs"]
    assert [run["seed"] for run in runs if run["status"] == "not started"] == [0, 1]
    assert "it needs some 3600 s, and 5" in runs[0]["reason"]


def test_a_run_that_diverges_is_recorded_as_failed(gpu, category, tmp_path, monkeypatch):
    def diverge(*arguments: object) -> None:
        raise DeSTSegError("the loss is nan")

    monkeypatch.setattr(gpu, "estimate", lambda trial, work: {"whole": 1.0})
    monkeypatch.setattr(gpu, "run_trial", diverge)
    arguments = ["--parts", "c", "--data", str(category), "--out", str(tmp_path), "--seeds", "0"]
    assert gpu.main([*SMALL, *arguments]) == 1
    (run,) = record_of(tmp_path, "recipe")["runs"]
    assert (run["status"], run["reason"]) == ("failed", "the loss is nan")


def test_no_part_outlasts_the_time_there_is(gpu, category, tmp_path):
    arguments = ["--minutes", "0.05", "--data", str(category), "--out", str(tmp_path)]
    assert gpu.main([*SMALL, *arguments]) == 0
    for name in ("checks", "speed", "recipe"):
        record = record_of(tmp_path, name)
        assert (record["status"], record["reason"]) == ("stopped", "its 0 s were up")


def test_a_failed_check_fails_the_script(gpu, device, tmp_path, monkeypatch, capsys):
    def wrong(bench: object) -> Any:
        yield device.check("too far", 2.0, 1.0)
        yield device.check("no number", float("nan"), 1.0)
        raise RuntimeError("broke\noff")

    monkeypatch.setattr(device, "agreement", wrong)
    monkeypatch.setattr(device, "resuming", lambda bench: [device.check("right", 1.0, 1.0)])
    monkeypatch.setattr(device, "loss_scaling", lambda bench: [])
    arguments = ["--parts", "a", "--out", str(tmp_path)]
    assert gpu.main([*SMALL, *arguments]) == 1
    made = record_of(tmp_path, "checks")["checks"]
    assert [check["passed"] for check in made] == [False, False, False, True]
    assert made[1]["value"] == "nan"
    assert made[2]["error"] == "RuntimeError: broke"
    assert "3 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "{data}", "--teacher", "nowhere.pt"], "nowhere.pt is not a file"),
        (["--data", "{data}", "--textures", "nowhere"], "nowhere cannot be opened"),
        (["--data", "{data}/train/good"], "no test images"),
        (["--data", "{data}", "{data}"], "each once"),
        (["--size", "33"], "choose a multiple of 32"),
        (["--out", "{out}"], "holds records already"),
        (["--bundle", "nut"], "--bundle needs the name"),
        (["--bundle", "../nut", "--data", "{data}"], "--bundle needs the name"),
    ],
)
def test_what_cannot_be_begun_is_refused_at_once(gpu, category, tmp_path, capsys, arguments, said):
    (tmp_path / "speed.json").touch()
    filled = [a.format(data=category, out=tmp_path) for a in arguments]
    assert gpu.main([*SMALL, "--out", str(tmp_path / "new"), *filled]) == 2
    assert said in capsys.readouterr().err


def test_what_this_python_lacks_is_named_before_any_work():
    program = "import sys; sys.modules |= {'scipy': None, 'PIL': None}; import gpu"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr == "error: this Python lacks scipy, pillow\n"


def test_a_torch_that_is_too_old_is_refused(gpu, monkeypatch):
    assert gpu.lacking() == []
    monkeypatch.setattr(gpu.metadata, "version", lambda name: "2.5.1+cu121")
    assert gpu.lacking() == ["torch 2.6 or newer (it has 2.5.1+cu121)"]


# The bundle


def test_a_bundle_holds_the_same_pixels_and_is_found_without_being_named(
    gpu, bundling, category, tmp_path, monkeypatch, capsys
):
    bundle, textures = tmp_path / "bundle", tmp_path / "textures"
    monkeypatch.setattr(bundling, "BUNDLE", bundle)
    monkeypatch.setattr(gpu, "BUNDLE", bundle)
    monkeypatch.setattr(bundling, "TEXTURES", 5)
    monkeypatch.setattr(bundling, "SIZE", 64)
    for name in ("a", "b"):
        (textures / name).mkdir(parents=True)
        for n in range(6):
            Image.new("RGB", (8, 8), (n, n, n)).save(textures / name / f"{n}.png")
    sources = ["--data", str(category), "--textures", str(textures), "--teacher", "random"]
    assert gpu.main(["--bundle", "transistor", *sources]) == 0
    assert "together" in capsys.readouterr().out
    kept = gpu.find_category(bundle / "transistor")
    for one, other in zip(kept.train, gpu.find_category(category).train, strict=True):
        assert one.suffix == ".webp"
        np.testing.assert_array_equal(read_image(one, 64), read_image(other, 64))
    assert kept.has_masks
    chosen = sorted(p.relative_to(bundle / "common") for p in bundle.glob("common/textures/*/*"))
    assert [str(path) for path in chosen] == [
        f"textures/{name}.png" for name in ("a/0", "a/3", "b/0", "b/2", "b/4")
    ]
    options = gpu.parse([])
    assert options.data == [str(bundle / "transistor")]
    assert options.teacher == str(bundle / "common" / "random.safetensors")
    monkeypatch.setattr(bundling, "LARGEST", 2**20)
    assert gpu.main(["--bundle", "transistor", *sources]) == 2
    assert "below 1 MiB" in capsys.readouterr().err
    sources[1] = str(bundle / "transistor")
    assert gpu.main(["--bundle", "screw", *sources]) == 2
    assert "cannot come from there" in capsys.readouterr().err
    assert kept.train[0].exists()


def test_without_data_and_bundle_part_c_is_skipped_and_says_why(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "BUNDLE", tmp_path / "bundle")
    assert gpu.main([*SMALL, "--parts", "c", "--out", str(tmp_path)]) == 0
    record = record_of(tmp_path, "recipe")
    assert (record["status"], record["runs"]) == ("skipped", [])
    assert "--data" in record["reason"]


def test_few_files_are_taken_once(bundling):
    paths = tuple(Path(f"{name}/{n}") for name in "ab" for n in range(2))
    assert bundling.evenly(paths, 10) == list(paths)
    with pytest.raises(DeSTSegError):
        bundling.make_bundle("common", ["somewhere"], "", "random")
