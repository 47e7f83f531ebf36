"""The benchmarks of speed, run with small numbers, and the tables of their records."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, tiny_model

from destseg_lib.drawn.dataset import ImageCounts
from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.run import Run
from destseg_lib.training import target_features, with_steps

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tools" / "results")]

import export_cost  # noqa: E402
import how_fast  # noqa: E402
import ideas  # noqa: E402
import prediction  # noqa: E402
import steps  # noqa: E402
import streaming  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Run:
    """What the benchmark of prediction measures, instead of a model of a real size."""
    run = Run(tiny_model().eval(), TINY, "random", (0.1, 0.2))
    monkeypatch.setattr(prediction, "load", lambda model, size: run)
    return run


def run_main(module: Any, monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> Any:
    """The record that a benchmark writes, made in this process."""
    monkeypatch.setattr(module, "in_own_process", lambda f, *a: f(*a), raising=False)
    monkeypatch.setattr(sys, "argv", ["benchmark", *options, "--json", str(out)])
    module.main()
    return json.loads(out.read_text())


# Prediction


@pytest.mark.slow
def test_every_way_is_timed_in_every_case_and_told_in_a_table(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(prediction, "CASES", (prediction.Case("compact", 32, 2),))
    record = run_main(
        prediction, monkeypatch, tmp_path / "r.json", "--rounds", "2", "--photographs", "3"
    )
    first = record["cases"][0]
    exported = {f"ONNX Runtime, {weights} weights" for weights in ("fp32", "fp16", "int8")}
    assert set(first["images_a_second"]) >= {"torch, fp32", "OpenVINO, fp32"} | exported
    assert first["times_as_fast_as_torch_in_fp32"]["torch, fp32"] == 1
    assert all(len(times) == 2 for times in first["seconds_repeats"].values())
    assert record["provenance"]["commit"]
    for found in record["end_to_end"]["by_threads"].values():
        assert set(found["seconds"]) == {"decoding", "network", "writing", "whole"}
        assert found["images_a_second"] == pytest.approx(3 / found["seconds"]["whole"])
    table = "\n".join(how_fast.prediction(record))
    assert all(f"| {way} |" in table for way in exported)
    assert "compact, 32 x 2, 1 thread |" in table


def test_a_way_that_this_machine_lacks_is_left_out_and_said(tiny, monkeypatch):
    def none_but_onnxruntime(runtime: str, content: bytes, precision: str) -> Any:
        if runtime != "onnxruntime":
            raise DeSTSegError(f"{runtime} is not installed")
        return lambda pixels: []

    monkeypatch.setattr(prediction, "open_with", none_but_onnxruntime)
    monkeypatch.setattr(prediction, "resolve_precision", lambda *_: "fp32")
    ways, left_out = prediction.variants(tiny, {"fp32": b"", "int8": b""})
    assert list(ways) == [
        "torch, fp32", "ONNX Runtime, fp32 weights", "ONNX Runtime, int8 weights",
    ]  # fmt: skip
    assert left_out == {
        "bf16": "this processor only emulates it",
        "OpenVINO": "openvino is not installed",
    }
    assert "bf16: this" in how_fast.left_out("; ".join(f"{k}: {v}" for k, v in left_out.items()))


def test_works_are_timed_in_turn_after_one_to_warm_up():
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    spent = prediction.in_turn(works, rounds=2)
    assert calls == list("ababab")
    assert {name: len(times) for name, times in spent.items()} == {"a": 2, "b": 2}


def test_speeds_are_medians_and_ratios_are_to_torch_in_fp32():
    spent = {"torch, fp32": [4.0, 1.0, 2.0], "other": [0.5, 9.0, 0.5]}
    record = prediction.case_record(prediction.Case("compact", 128, 8), 1, spent)
    assert record["images_a_second"] == {"torch, fp32": 4, "other": 16}
    assert record["times_as_fast_as_torch_in_fp32"] == {"torch, fp32": 1, "other": 4}


def test_a_whole_as_long_as_its_parts_took_turns():
    def spent(**clock: float) -> dict[str, Any]:
        return {part: prediction.Spent(value, 2 * value) for part, value in clock.items()}

    in_turn = spent(decoding=1.0, network=2.0, writing=5.0, whole=8.0)
    at_once = spent(decoding=1.0, network=2.0, writing=5.0, whole=5.0)
    found = [prediction.end_to_end_record(40, [one] * 3) for one in (in_turn, at_once)]
    assert [one["whole_to_sum_of_parts"] for one in found] == [1, 5 / 8]
    assert [one["whole_to_longest_part"] for one in found] == [8 / 5, 1]
    assert [one["images_a_second"] for one in found] == [5, 8]
    assert found[0]["cores_busy"] == 2


# What exported weights cost


def test_the_cost_is_that_of_the_maps_and_the_largest_move_of_a_score():
    generator = np.random.default_rng(0)
    maps = generator.random((4, 256, 256), np.float32)
    masks = np.zeros((4, 256, 256), np.uint8)
    masks[2:, 100:140, 100:140] = 1
    maps[masks == 1] += 1
    exact = export_cost.Answers(maps, np.array([0.1, 0.2, 0.8, 0.9]))
    same = export_cost.cost(exact, exact, masks)
    assert same["image_auroc"] == same["pixel_ap"] == 1
    assert same["largest_change_of_a_score"] == same["largest_change_of_a_map"] == 0
    moved = export_cost.Answers(maps - 0.25 * maps[::-1], np.array([0.1, 0.5, 0.8, 0.7]))
    found = export_cost.cost(exact, moved, masks)
    assert found["largest_change_of_a_score"] == pytest.approx(0.3)
    assert found["largest_change_of_a_map"] == pytest.approx(0.25 * maps.max(), rel=1e-3)
    assert found["pixel_ap"] < 1


@pytest.mark.slow
def test_a_model_is_measured_in_every_way(monkeypatch, tmp_path):
    run = Run(tiny_model().eval(), TINY, "random", ())
    monkeypatch.setattr(export_cost, "load_pretrained", lambda name, device: run)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(photographs / "one.png")
    counts = ImageCounts(train=1, good=2, defective=1)
    record = export_cost.cost_of_model("metal", [photographs], counts)
    found = record["variants"]
    assert record["images"] == 7
    assert found["torch, fp32"]["largest_change_of_a_score"] == 0
    assert found["ONNX Runtime, fp32 weights"]["largest_change_of_a_score"] < 1e-3
    sizes = [found[f"ONNX Runtime, {weights} weights"]["bytes"] for weights in prediction.STORED]
    assert sizes == sorted(sizes, reverse=True)
    (on,) = record["fp32_on_photographs"].values()
    assert on["images"] == 1
    assert max(on["map"], on["score"]) < 1e-3


def test_the_committed_cost_is_of_every_shipped_model_and_fp32_is_exact():
    record = json.loads((ROOT / "results" / "benchmarks" / "export_cost.json").read_text())
    assert set(record["models"]) == set(export_cost.pretrained_names())
    for found in record["models"].values():
        exact, ways = found["variants"]["torch, fp32"], found["variants"]
        assert ways["ONNX Runtime, fp32 weights"]["largest_change_of_a_map"] < 1e-3
        assert all(
            max(on["map"], on["score"]) < 1e-3 for on in found["fp32_on_photographs"].values()
        )
        for way, points in (("fp16", 0.1), ("int8", 1.0)):
            cost = ways[f"ONNX Runtime, {way} weights"]
            for metric in ("image_auroc", "pixel_ap"):
                assert 100 * (exact[metric] - cost[metric]) < points, (way, metric)


# Steps


def test_a_small_grid_of_steps_is_measured_and_told(monkeypatch, tmp_path):
    monkeypatch.setattr(steps, "measure", fake_measure)
    options = ["--size", "32", "64", "--batch", "2", "4", "--images", "2", "5", "--steps", "1"]
    options += ["--width", "0.0625", "--threads", "1", "--matrix", "64"]
    record = run_main(steps, monkeypatch, tmp_path / "steps.json", *options)
    assert len(record["cases"]) == 8
    first = record["cases"][0]
    assert first["images_a_second"] == pytest.approx(first["batch"] / first["seconds_a_step"])
    assert first["flop_a_second"] == pytest.approx(first["flop_a_step"] / first["seconds_a_step"])
    assert [found["good_images"] for found in record["number_of_images"]] == [2, 5]
    assert all(found["seconds_a_step"] > 0 for found in record["number_of_images"])
    ratios = [found["ratio"] for found in record["plain_at_the_smallest_batch"].values()]
    assert ratios == pytest.approx([3] * 4)
    table = "\n".join(how_fast.steps(record))
    assert "| student, 32 pixels, 2 images | 0.20 |" in table
    assert table.count("| 3.0 |") == 4


@pytest.mark.slow
def test_each_idea_is_timed_in_both_phases_and_told(monkeypatch, tmp_path):
    monkeypatch.setitem(ideas.RECIPES, "tiny", lambda: replace(TINY, batch_size=2))
    options = ["--recipe", "tiny", "--rounds", "1", "--steps", "1", "--threads", "1"]
    record = run_main(ideas, monkeypatch, tmp_path / "ideas.json", *options, "--no-compile")
    for found in record["times_as_long"].values():
        assert set(found) == set(ideas.IDEAS) - {ideas.COMPILED}
        assert found[ideas.AS_IT_IS] == 1
        assert all(ratio > 0 for ratio in found.values())
    table = "\n".join(how_fast.ideas(record))
    assert table.count("(1.00)") >= 2
    assert ideas.FOLDED in table


def test_an_idea_is_taken_back_after_it_was_timed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        ideas.training, "target_features", lambda *a: asked.append(1) or target_features(*a)
    )
    config = with_steps(replace(TINY, batch_size=2), 5, 5)
    for idea, times in ((ideas.ASKED, 5), (ideas.AS_IT_IS, 1), (ideas.FOLDED, 1)):
        asked.clear()
        ideas.step_seconds(idea, "student", config)
        assert len(asked) == times, idea


def fake_measure(side: str, phase: str, config: Any, threads: int) -> dict[str, Any]:
    seconds = (
        0.1 * config.batch_size * (config.image_size / 32) ** 2 * (3 if side == "plain" else 1)
    )
    return {"precision": "fp32", "seconds_a_step": seconds, "peak_mib": 1024.0}


def test_time_that_grows_as_pixels_and_images_do_has_ratios_of_one():
    cases = [
        {"phase": "student", "size": size, "batch": batch, "seconds_a_step": size**2 * batch}
        for size in (32, 64)
        for batch in (2, 4)
    ]
    assert len(steps.growth(cases)) == 4
    assert set(steps.growth(cases).values()) == {1}
    assert steps.growth(cases[:1]) == {}
    cases[-1]["seconds_a_step"] *= 3
    assert steps.growth(cases)["student, 64 pixels: an image of 4 to one of 2"] == 3


def test_the_arithmetic_grows_with_pixels_and_the_segmentation_network_has_more():
    configs = [replace(TINY, image_size=size) for size in (32, 64)]
    small, large = (steps.flop_an_image("student", config) for config in configs)
    assert 3.5 < large / small < 4.5
    assert steps.flop_an_image("segmentation", configs[0]) > 1e5


# Streamed metrics


def test_simulated_images_are_the_same_each_time_and_partly_defective():
    one, other = ([*streaming.simulated(40, 24)] for _ in range(2))
    for (map_a, mask_a), (map_b, mask_b) in zip(one, other, strict=True):
        np.testing.assert_array_equal(map_a, map_b)
        np.testing.assert_array_equal(mask_a, mask_b)
    assert 20 < sum(mask.any() for _, mask in one) < 40


@pytest.mark.parametrize("times", [True, False])
def test_the_error_is_measured_at_every_count_and_told(monkeypatch, tmp_path, times):
    options = ["--images", "200", "50", "--size", "24", *["--without-times"] * (not times)]
    record = run_main(streaming, monkeypatch, tmp_path / "streaming.json", *options)
    assert [row["images"] for row in record["counts"]] == [50, 200]
    for row in record["counts"]:
        assert row["within_bound"]
        assert 0 < row["bound"]["pixel_ap"] < 1e-3
        assert ("ms_an_image" in row) is ("exact_seconds" in row) is times
    table = "\n".join(how_fast.streaming(record))
    assert ("ms per image" in table) is times
    assert "| yes |" in table


def test_an_error_beyond_its_bound_is_seen():
    names = streaming.METRIC_NAMES
    stream = {
        "images": 5, "mib": 1.0, "bound": dict.fromkeys(names, 0.01),
        "values": dict.fromkeys(names, 0.5),
    }  # fmt: skip
    plain = {"mib": 2.0, "values": {**dict.fromkeys(names, 0.5), "iap": 0.52}}
    row = streaming.compared(stream, plain, times=False)
    assert row["within_bound"] is False
    assert row["error"]["iap"] == pytest.approx(0.02)
    assert "**no**" in "\n".join(how_fast.streaming({"counts": [row], "what": "", **WHERE}))


WHERE = {"provenance": {"device": "cpu", "processor": "a processor", "commit": None}}


def test_the_committed_streamed_metrics_are_bounded_in_memory_and_error():
    counts = json.loads((ROOT / "results" / "benchmarks" / "streaming.json").read_text())["counts"]
    assert counts[-1]["images"] == 100_000
    assert all(row["within_bound"] for row in counts)
    assert counts[-1]["mib"] < 100
    assert counts[-1]["mib"] < counts[-1]["exact_mib"] / 10


def test_a_record_that_is_not_there_has_no_table(tmp_path):
    assert how_fast.benchmark_tables(tmp_path) == []
