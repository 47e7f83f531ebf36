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
import torch
from PIL import Image

import destseg_lib
from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.images.folders import find_category
from destseg_lib.images.read import read_image, read_mask

pytestmark = pytest.mark.usefixtures("one_thread")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SMALL = [
    "--device", "cpu", "--size", "32", "--batch", "4", "--width", "0.125", "--check-steps", "2",
    "--precisions", "fp32", "--precision", "fp32", "--textures", "procedural",
    "--teacher", "random",
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
import gpu, gpu_device
gpu_device.TIMED = 1
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
        "--minutes", "60", "--data", str(category), "--out", str(out), "--seeds", "3",
        "--steps", "2", "2",
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
        assert {"--data", "screw", "--seeds", "3"} <= set(record["arguments"])
        assert str(tmp_path.parent) not in json.dumps(record)
    assert "0 checks and runs failed" in printed


def test_every_check_has_values_bounds_and_a_verdict(whole):
    agreement, resumed = record_of(whole[0], "checks")["results"]
    for check in (agreement, resumed):
        assert check["status"] == "passed"
        assert check["bounds"].keys() == check["values"].keys()
        assert not any(check["values"].values())  # the device is the CPU itself
    assert len(agreement["values"]) == 5
    assert agreement["bounds"]["metrics in fp32"] == 1e-3
    assert resumed["name"] == "stopped and resumed in fp32"


def test_half_precision_learns_and_an_overflow_changes_nothing_but_the_scale(gpu, device, tmp_path):
    options = gpu.parse([*SMALL, "--check-steps", "5", "--batch", "2", "--out", str(tmp_path)])
    check = device.loss_scaling(gpu.prepare(options, torch.device("cpu")))
    assert check["status"] == "passed"
    assert check["values"]["student, share of the loss left"] < 0.95
    assert check["values"]["student, weights moved by an overflow"] == 0
    assert check["values"]["segmentation, scale after an overflow"] == 0.5


def test_a_run_that_forgets_its_weights_does_not_pass(gpu, device, tmp_path, monkeypatch):
    bench = gpu.prepare(gpu.parse([*SMALL, "--out", str(tmp_path)]), torch.device("cpu"))
    monkeypatch.setattr("destseg_lib.runs.checkpoint.load_trained_weights", lambda *_: None)
    assert device.resuming(bench, bench.config)["status"] == "failed"


def test_every_step_is_timed(whole):
    steps = record_of(whole[0], "speed")["results"]
    assert [step["name"] for step in steps] == ["student, fp32", "segmentation, fp32"]
    assert steps[1]["flop_per_step"] > steps[0]["flop_per_step"] > 1e6
    for step in steps:
        share = step["flop_per_step"] / step["seconds_per_step"]
        share /= step["bf16_product_flop_per_second"]
        assert step["share_of_bf16_product"] == pytest.approx(share)
        assert step["images_per_second"] == pytest.approx(4 / step["seconds_per_step"])


def test_what_cannot_be_timed_says_why(gpu, device, tmp_path, monkeypatch):
    def broken(*arguments: object) -> None:
        raise RuntimeError("out of memory: of 8 GiB\nfour are left")

    monkeypatch.setattr(device, "time_steps", broken)
    assert gpu.main([*SMALL, "--parts", "b", "--out", str(tmp_path)]) == 0
    results = record_of(tmp_path, "speed")["results"]
    assert [step["reason"] for step in results] == ["RuntimeError: out of memory: of 8 GiB"] * 2


def test_every_seed_is_trained_and_both_maps_are_measured(whole):
    record = record_of(whole[0], "recipe")
    (run,) = record["results"]
    assert (run["category"], run["seed"], run["status"]) == ("screw", 3, "done")
    assert all(0 <= run[key] <= 1 and 0 <= run["cosine_product"][key] <= 1 for key in METRIC_NAMES)
    assert run["config"]["rotation"] == "full"  # by the category's name
    assert run["config"]["student"]["lr"] == 0.4
    assert run["config"]["recipe"] == "paper"
    assert set(run["seconds"]) == {"setup", "student", "segmentation", "evaluation"}
    assert run["estimated_seconds"] > 10
    assert run["texture_images"] == 512


def test_a_seed_that_cannot_be_finished_is_not_started(gpu, category, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "estimate", lambda trial, work: 3600.0)
    arguments = ["--parts", "c", "--seeds", "0", "1", "--data", str(category)]
    assert gpu.main([*SMALL, *arguments, "--out", str(tmp_path)]) == 0
    runs = record_of(tmp_path, "recipe")["results"]
    assert [run["name"] for run in runs] == ["screw, seed 0", "screw, seed 1"]
    assert {run["status"] for run in runs} == {"not started"}
    assert "it needs some 3600 s, and 5" in runs[0]["reason"]


def test_a_run_that_diverges_is_recorded_as_failed(gpu, category, tmp_path, monkeypatch):
    def diverge(*arguments: object) -> None:
        raise DeSTSegError("the loss is nan")

    monkeypatch.setattr(gpu, "estimate", lambda trial, work: 1.0)
    monkeypatch.setattr(gpu, "run_trial", diverge)
    arguments = ["--parts", "c", "--data", str(category), "--out", str(tmp_path), "--seeds", "0"]
    assert gpu.main([*SMALL, *arguments]) == 1
    (run,) = record_of(tmp_path, "recipe")["results"]
    assert (run["status"], run["reason"]) == ("failed", "DeSTSegError: the loss is nan")


def test_no_part_outlasts_the_time_there_is(gpu, category, tmp_path):
    arguments = ["--minutes", "0.05", "--data", str(category), "--out", str(tmp_path)]
    assert gpu.main([*SMALL, *arguments]) == 0
    for name in ("checks", "speed", "recipe"):
        record = record_of(tmp_path, name)
        assert (record["status"], record["reason"]) == ("stopped", "its time was up")


def test_a_failed_check_fails_the_script(gpu, device, tmp_path, monkeypatch, capsys):
    def broken(*arguments: object) -> None:
        raise RuntimeError("broke\noff")

    found = {"right": (1.0, 1.0), "no number": (float("nan"), 1.0)}
    monkeypatch.setattr(device, "agreement", lambda bench: device.verdict(found))
    monkeypatch.setattr(device, "resuming", broken)
    assert gpu.main([*SMALL, "--parts", "a", "--out", str(tmp_path)]) == 1
    one, other = record_of(tmp_path, "checks")["results"]
    assert (one["status"], one["values"]) == ("failed", {"right": 1.0, "no number": "nan"})
    assert (other["status"], other["reason"]) == ("failed", "RuntimeError: broke")
    assert "2 checks and runs failed" in capsys.readouterr().out
    assert device.verdict({"right": (1.0, 1.0)})["status"] == "passed"
    assert device.verdict({"too far": (2.0, 1.0)})["status"] == "failed"


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
        (["--bundle", "nut"], "--bundle needs"),
        (["--bundle", "../nut", "--data", "{data}"], "--bundle needs the name"),
    ],
)
def test_what_cannot_be_begun_is_refused_at_once(gpu, category, tmp_path, capsys, arguments, said):
    (tmp_path / "speed.json").touch()
    filled = [a.format(data=category, out=tmp_path) for a in arguments]
    assert gpu.main([*SMALL, "--out", str(tmp_path / "new"), *filled]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("import sys; sys.modules['torch'] = None", "torch"),
        (
            "import sys, types; sys.modules['torch'] = types.SimpleNamespace(__version__='2.5.1')",
            "torch is 2.5.1",
        ),
    ],
)
def test_what_this_python_lacks_is_named_before_any_work(spoil, said):
    ran = subprocess.run(
        [sys.executable, "-c", f"{spoil}; import gpu"],
        cwd=BENCHMARKS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert said in ran.stderr.partition(";")[0]
    assert "torch 2.6 or newer, numpy, scipy, pillow" in ran.stderr


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
    assert "MiB" in capsys.readouterr().out
    kept, source = find_category(bundle / "transistor"), find_category(category)
    for one, other in zip(kept.train, source.train, strict=True):
        assert one.suffix == ".webp"
        np.testing.assert_array_equal(read_image(one, 64), read_image(other, 64))
    for one, other in zip(kept.test, source.test, strict=True):
        if other.mask:
            np.testing.assert_array_equal(
                *(read_mask(m, 64).pixels for m in (one.mask, other.mask))
            )
    chosen = sorted(p.relative_to(bundle / "common") for p in bundle.glob("common/textures/*/*"))
    assert [str(path) for path in chosen] == [
        f"textures/{name}.png" for name in ("a/0", "a/2", "a/4", "b/1", "b/3")
    ]
    options = gpu.parse([])
    assert options.data == [str(bundle / "transistor")]
    assert options.teacher == str(bundle / "common" / "random.safetensors")
    monkeypatch.setattr(bundling, "LARGEST", 2**20)
    assert gpu.main(["--bundle", "transistor", *sources]) == 2
    assert "smaller than 1 MiB" in capsys.readouterr().err
    sources[1] = str(bundle / "transistor")
    assert gpu.main(["--bundle", "screw", *sources]) == 2
    assert "from outside" in capsys.readouterr().err
    assert kept.train[0].exists()


def test_without_data_and_bundle_part_c_says_what_it_lacks(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "BUNDLE", tmp_path / "bundle")
    assert gpu.main([*SMALL, "--parts", "c", "--out", str(tmp_path)]) == 0
    (result,) = record_of(tmp_path, "recipe")["results"]
    assert (result["status"], result["name"]) == ("not started", "neither --data nor a bundle")
