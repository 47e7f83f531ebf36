"""A run as one ONNX file: it answers as torch does, and predicts and measures like the run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from destseg_lib import cli
from destseg_lib.config import ModelConfig
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.metrics import image_scores
from destseg_lib.runs import export
from destseg_lib.runs.export import ExportedGraph, export_run
from destseg_lib.runs.exported import KEY, OUTPUTS, load_exported
from destseg_lib.runs.quantise import points_lost
from destseg_lib.runs.run import Run
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.threshold import threshold_at
from tests.tiny import TINY, tiny_model

CPU = torch.device("cpu")
SCORES = (0.1, 0.2, 0.3)


def tiny_run(model: ModelConfig = TINY.model) -> Run:
    config = replace(TINY, model=model, image_size=64)
    return Run(tiny_model(config).eval(), config, "random", SCORES)


@pytest.fixture(scope="module")
def run() -> Run:
    return tiny_run()


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_run(run, path)
    return path


@pytest.fixture(scope="module")
def images():
    return draw_category("wood", 64, ImageCounts(1, good=12, defective=6), progress=False).test


@pytest.mark.parametrize("number", [1, 2, 18])
def test_maps_are_those_of_the_run_for_any_number_of_images(run, file, images, number):
    there = list(load_exported(file).maps(images[:number]))
    here = list(run.maps(images[:number]))
    assert sum(len(maps.final) for maps in there) == number
    for name in ("final", "student"):
        expected = np.concatenate([getattr(maps, name) for maps in here])
        found = np.concatenate([getattr(maps, name) for maps in there])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_score_and_the_levels_are_those_of_the_library(run, file, images):
    outputs = onnx_outputs(file, images[:3])
    (maps,) = run.maps(images[:3])
    np.testing.assert_allclose(outputs["score"], image_scores(maps.final, 100), atol=1e-5)
    # The distance product at a quarter of the size is the product of the levels.
    with torch.inference_mode():
        *_, levels, _ = ExportedGraph(run.model)(torch.from_numpy(images[:3]))
    np.testing.assert_allclose(outputs["level_maps"], levels.numpy(), atol=1e-4)
    assert outputs["level_maps"].shape == (3, 3, 16, 16)


def onnx_outputs(file, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(OUTPUTS, {"pixels": images}), strict=True))


def test_the_file_knows_its_configuration_threshold_and_origin(run, file):
    exported = load_exported(file)
    assert exported.config == run.config
    assert exported.calibration_scores == SCORES
    assert exported.teacher_name == "random"
    (entry,) = (p for p in onnx.load(file).metadata_props if p.key == KEY)
    assert '"provenance"' in entry.value and '"differences"' in entry.value


@pytest.mark.slow
def test_a_model_without_segmentation_and_with_one_level(tmp_path, images):
    run = tiny_run(ModelConfig(width=1 / 16, segmentation=False, levels=(2,)))
    differences = export_run(run, tmp_path / "model.onnx")
    assert max(differences.values()) < 1e-4
    (maps,) = load_exported(tmp_path / "model.onnx").maps(images[:2])
    np.testing.assert_array_equal(maps.final, maps.student)


@pytest.mark.slow
def test_openvino_answers_as_onnxruntime_does(file, images):
    pytest.importorskip("openvino")
    (one,) = load_exported(file, "openvino").maps(images[:2])
    (other,) = load_exported(file).maps(images[:2])
    np.testing.assert_allclose(one.final, other.final, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "share", "moved"), [("fp16", 0.55, 0.01), ("int8", 0.3, 0.15)])
def test_smaller_weights_make_a_smaller_file_and_move_little(tmp_path, weights, share, moved):
    run = load_pretrained("metal", CPU)
    whole = sum(tensor.numel() for tensor in run.model.state_dict().values()) * 4
    differences = export_run(run, path := tmp_path / "metal.onnx", weights=weights)
    assert path.stat().st_size < share * whole
    assert 0 < differences["final_map"] < moved


@pytest.mark.slow
def test_weights_in_int8_bring_no_threshold_but_that_of_new_good_images(run, tmp_path, images):
    export_run(run, path := tmp_path / "model.onnx", weights="int8")
    assert load_exported(path).calibration_scores == ()
    export_run(run, path, weights="int8", good=images[:5])
    exported = load_exported(path)
    (maps,) = exported.maps(images[:5])
    np.testing.assert_allclose(exported.calibration_scores, image_scores(maps.final, 100))
    assert threshold_at(exported.calibration_scores, 0.25) is not None


@pytest.mark.slow
def test_another_size_has_no_threshold_and_takes_images_of_that_size(run, tmp_path):
    export_run(run, path := tmp_path / "model.onnx", size=96)
    exported = load_exported(path)
    assert exported.config.image_size == 96 and exported.calibration_scores == ()
    (maps,) = exported.maps(np.zeros((1, 96, 96, 3), np.uint8))
    assert maps.final.shape == (1, 256, 256)


@pytest.mark.slow
def test_arithmetic_in_int8_says_what_it_costs_and_is_refused_if_that_is_too_much(
    run, tmp_path, images, monkeypatch
):
    path = tmp_path / "model.onnx"
    with pytest.raises(DeSTSegError, match="0 good images are too few"):
        export_run(run, path, arithmetic="int8")
    monkeypatch.setattr(export, "MOST_LOST", {"image_auroc": 101.0, "pixel_ap": 101.0})
    export_run(run, path, arithmetic="int8", good=images[:12])
    (entry,) = (p for p in onnx.load(path).metadata_props if p.key == KEY)
    assert set(json.loads(entry.value)["points_lost"]) == {"image_auroc", "pixel_ap"}
    assert len(load_exported(path).calibration_scores) == 12
    path.unlink()
    monkeypatch.setattr(export, "MOST_LOST", {"image_auroc": -101.0, "pixel_ap": 2.0})
    with pytest.raises(DeSTSegError, match=r"arithmetic in int8 loses .* points of image_auroc"):
        export_run(run, path, arithmetic="int8", good=images[:12])
    assert not path.exists()


def test_points_lost_of_a_run_against_itself_are_none(run, images):
    assert points_lost(run, run, images[:8]) == {"image_auroc": 0.0, "pixel_ap": 0.0}


def test_a_graph_that_differs_is_not_written(run, tmp_path, monkeypatch):
    def broken(*arguments: object) -> onnx.ModelProto:
        content = to_onnx(*arguments)
        kernel = max(content.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        values = -onnx.numpy_helper.to_array(kernel)
        kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
        return content

    to_onnx = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", broken)
    with pytest.raises(DeSTSegError, match="differs from torch by"):
        export_run(run, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07"])
def test_a_file_that_was_not_exported_is_refused(tmp_path, content):
    (path := tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DeSTSegError, match="is not a model that 'destseg export' wrote"):
        load_exported(path)
    with pytest.raises(DeSTSegError, match=r"gone\.onnx cannot be read"):
        load_exported(tmp_path / "gone.onnx")


def test_another_suffix_is_refused_before_the_work(run, tmp_path):
    with pytest.raises(DeSTSegError, match=r"does not end in \.onnx"):
        export_run(run, tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("missing", "extra"), [("onnxruntime", "export"), ("openvino", "openvino")]
)
def test_a_missing_runtime_names_its_extra(monkeypatch, file, missing, extra):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DeSTSegError, match=rf"{missing} is not installed.*destseg_lib\[{extra}\]"):
        load_exported(file, missing)


@pytest.mark.slow
def test_commands_export_predict_and_evaluate(tmp_path, capsys):
    file, photographs = tmp_path / "metal.onnx", tmp_path / "photographs"
    assert cli.main(["export", "--run", "pretrained:metal", "--out", str(file)]) == 0
    assert "largest differences from torch" in capsys.readouterr().out
    photographs.mkdir()
    drawn = draw_category("metal", 128, ImageCounts(1, good=2, defective=2), progress=False)
    for number, pixels in enumerate(drawn.test):
        Image.fromarray(pixels).save(photographs / f"{number}.png")
    found = {}
    for run in (str(file), "pretrained:metal"):
        out = tmp_path / run.replace("/", "_").replace(":", "_")
        code = cli.main(["predict", str(photographs), "--run", run, "--out", str(out), "--quiet"])
        assert code == 0
        found[run] = (out / "scores.json").read_text()
    one, other = (json.loads(text) for text in found.values())
    for row, same in zip(one, other, strict=True):
        assert row["score"] == pytest.approx(same["score"], abs=0.02)  # bf16 where it is native
        assert row["threshold"] == same["threshold"]


def test_a_photograph_is_never_written_over(tmp_path, images, capsys):
    Image.fromarray(images[0]).save(tmp_path / "photograph.onnx", format="PNG")
    before = (tmp_path / "photograph.onnx").read_bytes()
    export_it = ["export", "--run", "pretrained:metal", "--out", str(tmp_path / "photograph.onnx")]
    assert cli.main([*export_it, "--good", str(tmp_path)]) == 2
    assert "destseg: " in capsys.readouterr().err
    assert (tmp_path / "photograph.onnx").read_bytes() == before
