from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.streaming import StreamingMetrics
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.metrics import anomaly_metrics


def streamed(maps, masks, scores=None, **options):
    metrics = StreamingMetrics(**options)
    for i, (one_map, mask) in enumerate(zip(maps, masks, strict=True)):
        metrics.update(one_map, mask, None if scores is None else scores[i])
    return metrics.compute()


def random_masks(generator, shape):
    masks = generator.random(shape) < generator.uniform(0.02, 0.4)
    masks[0] = False
    masks[1, 0, 0], masks[1, -1, -1] = True, False
    return masks


def blobs(seed, count=20, size=96):
    """Maps as a network gives them: a sigmoid of smooth scores, higher in round defects."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centres, radii = generator.uniform(10, size - 10, (count, 2)), generator.uniform(3, 9, count)
    distance = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    masks = distance < radii[:, None, None]
    masks[: count // 3] = False
    logits = generator.normal(-4, 1.5, masks.shape) + 4 * masks
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks


def assert_within_bound(maps, masks, **options):
    found = streamed(maps, masks, **options)
    settings = {key: value for key, value in options.items() if key != "bits"}
    exact = anomaly_metrics(maps, masks, **settings)
    assert found["reasons"] == exact["reasons"] == {}
    assert found["regions"] == exact["regions"]
    assert set(found) == {*exact, "error_bound"}
    for name, bound in found["error_bound"].items():
        assert abs(found[name] - exact[name]) <= bound, name
    return found, exact


# The bound holds


@pytest.mark.parametrize("bits", [10, 12, 20])
@pytest.mark.parametrize("seed", range(8))
def test_distinct_and_tied_scores_stay_within_the_bound(seed, bits):
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(2, 6)), *generator.integers(5, 20, 2))
    masks = random_masks(generator, shape)
    maps = generator.normal(size=shape) * 10.0 ** generator.integers(-8, 8) + masks
    for dtype in (np.float32, np.float64):
        assert_within_bound(maps.astype(dtype), masks, bits=bits)
    tied = generator.integers(-6, 7, shape) / 7 + generator.integers(0, 2) * masks
    assert_within_bound(tied.astype(np.float32), masks, bits=bits)


def one_bin(masks, order):
    """Distinct float32 scores so close that all fall into one bin, in the order given."""
    scores = np.empty(masks.size, np.float32)
    scores[order] = np.float32(0.5) + np.arange(masks.size, dtype=np.float32) * np.float32(2**-24)
    return scores.reshape(masks.shape)


@pytest.mark.parametrize("best", [True, False])
def test_the_worst_and_the_best_order_in_one_bin_reach_the_bound_and_do_not_exceed_it(best):
    masks = random_masks(np.random.default_rng(0), (3, 20, 20))
    order = np.argsort(masks.ravel() == best, kind="stable")
    found, exact = assert_within_bound(one_bin(masks, order), masks)
    assert exact["pixel_auroc"] == float(best)
    for name in ("pixel_auroc", "aupro"):
        assert found[name] == pytest.approx(0.5)
        assert found["error_bound"][name] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("anomalous_first", [True, False])
@pytest.mark.parametrize("tied", ["none", "anomalous", "normal"])
def test_bins_ordered_by_an_adversary_stay_within_the_bound(seed, anomalous_first, tied):
    generator = np.random.default_rng(seed)
    masks = random_masks(generator, (4, 14, 14))
    coarse = generator.integers(8, 16, masks.shape) / 16  # each the lower end of a 12-bit bin
    inside = generator.random(masks.shape) * 2.0**-12
    inside[masks == (tied == "anomalous")] *= tied == "none"
    maps = coarse + inside + 2.0**-11 * (masks == anomalous_first)
    found, _ = assert_within_bound(maps.astype(np.float32), masks, bits=12)
    assert found["error_bound"]["pixel_auroc"] > 0.01  # there was something to exploit


@pytest.mark.parametrize("recall", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("limit", [0.01, 0.17, 1.0])
def test_the_bound_holds_for_any_limit_and_recall(limit, recall):
    maps, masks = blobs(1, size=40)
    assert_within_bound(maps, masks, bits=11, fpr_limit=limit, recall=recall)


def test_scores_beyond_the_range_of_float32_keep_their_order():
    masks = random_masks(np.random.default_rng(0), (3, 9, 9))
    maps = np.random.default_rng(1).normal(size=masks.shape) * 1e200 + masks * 1e-300
    assert_within_bound(maps, masks)
    found, exact = assert_within_bound(np.where(masks, 1e-310, 0.0), masks)
    assert exact["pixel_auroc"] == 1
    assert found["error_bound"]["pixel_auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["easy", "noisy", "hard"])
def test_the_authors_metrics_are_within_the_bound(shared, name):
    expected = json.loads((shared / "reference" / "expected.json").read_text())["metrics"][name]
    with np.load(shared / "reference" / f"metrics_{name}.npz") as inputs:
        found = streamed(inputs["pred"], inputs["mask"])
    for key in METRIC_NAMES[1:]:
        authors = expected["aupro_0.3" if key == "aupro" else key]
        # The authors' sums are in float32.
        assert abs(found[key] - authors) <= found["error_bound"][key] + 1e-7, key


# And is small


@pytest.mark.parametrize("seed", range(3))
def test_on_ordinary_maps_the_bound_is_small_and_each_further_bit_about_halves_it(seed):
    maps, masks = blobs(seed)
    found, _ = assert_within_bound(maps, masks)
    assert max(found["error_bound"].values()) < 1e-3
    coarse, fine = (streamed(maps, masks, bits=b)["error_bound"] for b in (14, 18))
    for name in ("pixel_auroc", "pixel_ap", "aupro"):
        assert coarse[name] / fine[name] == pytest.approx(16, rel=0.5), name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_of_half_precision_are_measured_exactly(dtype):
    maps, masks = blobs(2)
    maps = maps.astype(np.float16).astype(dtype)
    found, exact = assert_within_bound(maps, masks)
    assert max(found["error_bound"].values()) < 1e-9
    assert found["iap90"] == pytest.approx(exact["iap90"], abs=1e-12)


def test_zero_and_minus_zero_are_a_tie():
    masks = np.array([[[0, 0]], [[1, 0]]])
    found, _ = assert_within_bound(np.array([[[-0.0, 0.0]], [[0.0, -0.0]]]), masks)
    assert found["pixel_auroc"] == 0.5
    assert max(found["error_bound"].values()) < 1e-9


@pytest.mark.parametrize("top", [3, 100])
def test_the_image_metric_is_exact(top):
    maps, masks = blobs(3, size=40)
    maps = maps - 3 * masks.any(axis=(1, 2))[:, None, None] * np.linspace(0, 1, 20)[:, None, None]
    found = streamed(maps, masks, top=top)
    assert found["image_auroc"] == anomaly_metrics(maps, masks, top=top)["image_auroc"] < 1
    assert found["error_bound"]["image_auroc"] == 0
    scores = np.random.default_rng(0).normal(size=len(maps))
    given = anomaly_metrics(maps, masks, scores)["image_auroc"]
    assert streamed(maps, masks, scores)["image_auroc"] == given


def test_memory_does_not_grow_with_the_images():
    maps, masks = blobs(4, count=10, size=64)
    metrics = StreamingMetrics(bits=12)
    tracemalloc.start()
    try:
        for one_map, mask in zip(maps, masks, strict=True):
            metrics.update(one_map, mask)
        before = tracemalloc.get_traced_memory()[0]
        for i in range(90):
            metrics.update(maps[i % 10], masks[i % 10])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200 * 90  # bytes per image; one map has 16,384


# Order, shapes, and what is undefined


def test_images_of_different_sizes_and_in_any_order_give_one_answer():
    large, small = blobs(5, count=6, size=48), blobs(6, count=6, size=32)
    images = [*zip(*large, strict=True), *zip(*small, strict=True)]
    forward, backward = (streamed(*zip(*way, strict=True)) for way in (images, images[::-1]))
    for name in METRIC_NAMES:
        assert forward[name] == pytest.approx(backward[name], abs=1e-12)


def test_it_can_be_read_at_any_time_and_goes_on():
    maps, masks = blobs(7, size=40)
    metrics = StreamingMetrics()
    for i, (one_map, mask) in enumerate(zip(maps, masks, strict=True)):
        metrics.update(one_map[None], mask[None])
        if i == 12:
            assert metrics.compute() == streamed(maps[:13], masks[:13])
    assert metrics.compute() == streamed(maps, masks)


def test_one_image_without_a_mask_leaves_the_image_metric_only():
    maps, masks = blobs(8, size=40)
    metrics = StreamingMetrics()
    for i, (one_map, mask) in enumerate(zip(maps, masks, strict=True)):
        metrics.update(one_map, None if i in (9, 11) else mask, label=mask.any())
    found = metrics.compute()
    assert found["image_auroc"] == anomaly_metrics(maps, masks)["image_auroc"]
    assert found["reasons"] == dict.fromkeys(METRIC_NAMES[1:], "image 9 has no mask")
    assert found["regions"] == 0
    assert [found[key] for key in METRIC_NAMES[1:]] == [None] * 5
    assert [found["error_bound"][key] for key in METRIC_NAMES[1:]] == [None] * 5


@pytest.mark.parametrize(("value", "missing"), [(0, "anomalous"), (1, "normal")])
def test_a_set_of_one_class_gives_none_and_the_reason(value, missing):
    maps = np.random.default_rng(0).random((2, 5, 5))
    found, exact = (f(maps, np.full(maps.shape, value)) for f in (streamed, anomaly_metrics))
    assert found.pop("error_bound") == dict.fromkeys(METRIC_NAMES)
    assert found == exact
    assert f"no {missing} pixels" in found["reasons"]["aupro"]


# Mistakes

MAP, MASK = np.zeros((4, 4)), np.eye(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full((4, 4), np.nan), MASK), "Image 2, counted from 0: The anomaly map holds nan"),
        ((MAP, MASK * 255), "Image 2, counted from 0: The mask holds 255"),
        ((MAP, MASK[:2]), r"Image 2.* masks have shape \(1, 2, 4\) but the maps \(1, 4, 4\)"),
        ((np.zeros(16), MASK), r"Image 2.* anomaly maps must be \(N, H, W\)"),
        (([[1, 2], [3]], MASK), "Image 2.* anomaly map cannot be read"),
        ((MAP, None), "Image 2.* labels are needed"),
        ((MAP, MASK, np.inf), "Image 2.* score holds nan or infinity"),
        ((MAP, MASK, None, 0), "Image 2.* label says normal, but the mask shows a defect"),
        ((MAP, None, None, 3), "Image 2.* label holds 3; only 0"),
    ],
)
def test_a_refused_image_is_named_and_changes_nothing(arguments, message):
    metrics = StreamingMetrics(bits=12)
    metrics.update(np.random.default_rng(0).random((4, 4)), MASK)
    metrics.update(np.random.default_rng(1).random((4, 4)), MASK * 0)
    before = metrics.compute()
    with pytest.raises(DeSTSegError, match=message):
        metrics.update(*arguments)
    assert metrics.compute() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "bits must be between 10 and 24, not 9"),
        ({"fpr_limit": 1.5}, r"fpr_limit must be in \(0, 1\], not 1.5"),
        ({"recall": 0}, r"recall must be in \(0, 1\], not 0"),
        ({"top": 0}, "at least 1 value, but top is 0"),
    ],
)
def test_impossible_settings_and_an_empty_set_are_refused(options, message):
    with pytest.raises(DeSTSegError, match=message):
        StreamingMetrics(**options)
    with pytest.raises(DeSTSegError, match="No image was added"):
        StreamingMetrics().compute()
