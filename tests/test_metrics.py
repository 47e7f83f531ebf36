from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, roc_auc_score

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.metrics import (
    anomaly_metrics,
    aupro,
    iap,
    iap_at,
    image_auroc,
    image_scores,
    pixel_ap,
    pixel_auroc,
    pro,
    roc,
    sort_pixels,
)


def random_set(seed: int, levels: int | None = None, dtype: type = np.float32):
    """Maps of up to 5 small images with random masks; ``levels`` makes ties."""
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(2, 6)), *generator.integers(5, 14, 2))
    masks = generator.random(shape) < generator.uniform(0.02, 0.4)
    masks[0] = False
    masks[1, 0, 0], masks[1, -1, -1] = True, False
    maps = generator.normal(size=shape) + generator.uniform(0, 2) * masks
    if levels is not None:
        maps = np.floor(maps * levels / 4)
    return maps.astype(dtype), masks.astype(np.uint8)


def regions_of(maps, masks):
    """Scores of each region's pixels, one image after the other."""
    found = []
    for one_map, mask in zip(maps, masks, strict=True):
        numbered, count = label(mask, np.ones((3, 3)))
        found += [one_map[numbered == i] for i in range(1, count + 1)]
    return found


def brute_aupro(maps, masks, limit):
    """Every threshold in turn, every region in turn."""
    normal, regions = maps[masks == 0], regions_of(maps, masks)
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((np.mean(normal >= threshold), overlap))
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        total += (end - x0) * (y0 + y_end) / 2
    return total / limit


def brute_instance_precision(maps, masks):
    """The definition of section 4.1, region by region; (recall, precision) by rising recall."""
    middles = [np.sort(r)[::-1][len(r) // 2] for r in regions_of(maps, masks)]
    raw = []
    for found, threshold in enumerate(sorted(middles, reverse=True), start=1):
        flagged = maps >= threshold
        raw.append((found / len(middles), (flagged & (masks == 1)).sum() / flagged.sum()))
    return [(recall, max(p for r, p in raw if r >= recall)) for recall, _ in raw]


def check_against_oracles(maps, masks, limit=0.3, recall=0.9):
    instances = brute_instance_precision(maps, masks)
    tops = [np.sort(one.ravel().astype(np.float64))[-100:].mean() for one in maps]
    expected = {
        "image_auroc": roc_auc_score(masks.any(axis=(1, 2)), tops),
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
        "aupro": brute_aupro(maps, masks, limit),
        "iap": np.mean([p for _, p in instances]),
        f"iap{100 * recall:g}": next(p for r, p in instances if r >= recall - 1e-12),
    }
    found = anomaly_metrics(maps, masks, fpr_limit=limit, recall=recall)
    assert (found.pop("regions"), found.pop("reasons")) == (len(instances), {})
    assert found == pytest.approx(expected, abs=1e-9)


# Agreement with the authors, scikit-learn and brute force


@pytest.mark.parametrize("name", ["easy", "noisy", "hard"])
def test_the_authors_implementation_gives_the_same_metrics(shared, name):
    expected = json.loads((shared / "reference" / "expected.json").read_text())["metrics"][name]
    with np.load(shared / "reference" / f"metrics_{name}.npz") as inputs:
        found = anomaly_metrics(inputs["pred"], inputs["mask"])
    assert found["image_auroc"] == expected["image_auroc_top100"]
    assert found["aupro"] == pytest.approx(expected["aupro_0.3"], abs=1e-6)
    assert found["regions"] == expected["regions"]
    for key, error in {"pixel_auroc": 1e-9, "pixel_ap": 1e-9, "iap": 1e-6, "iap90": 1e-6}.items():
        assert found[key] == pytest.approx(expected[key], abs=error), key


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [None, 2, 8])
def test_distinct_and_tied_scores_agree_with_the_oracles(seed, levels):
    check_against_oracles(*random_set(seed, levels))


@pytest.mark.parametrize(("limit", "recall"), [(0.05, 0.5), (1.0, 1.0), (0.3, 0.28), (0.01, 0.01)])
def test_limit_and_recall_can_be_chosen(limit, recall):
    for seed in range(4):
        check_against_oracles(*random_set(seed, levels=6), limit=limit, recall=recall)


def test_float64_scores_that_float32_cannot_tell_apart_are_told_apart():
    maps, masks = random_set(3, dtype=np.float64)
    maps = 1 + maps * 1e-12
    assert np.unique(maps.astype(np.float32)).size == 1
    check_against_oracles(maps, masks)


def test_negative_integer_and_signed_zero_scores_are_ranked_by_value():
    maps, masks = random_set(1, levels=4)
    check_against_oracles(maps.astype(np.int64), masks)
    maps[maps == 0] = -0.0
    maps[0, 0] = 0.0
    check_against_oracles(maps, masks)


def test_a_constant_map_is_one_tie():
    masks = np.zeros((2, 4, 4), bool)
    masks[1, :2] = True
    found = anomaly_metrics(np.ones((2, 4, 4)), masks)
    assert found["image_auroc"] == found["pixel_auroc"] == 0.5
    assert found["pixel_ap"] == found["iap"] == found["iap90"] == 0.25
    assert found["aupro"] == pytest.approx(0.15)  # the diagonal, up to 0.3


def test_a_perfect_map_scores_one_and_a_reversed_one_nothing():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[1, 2:5, 2:5] = 1
    perfect = anomaly_metrics(masks.astype(np.float32), masks)
    assert [perfect[key] for key in METRIC_NAMES] == [1.0] * 6
    reversed_ = anomaly_metrics(1 - masks.astype(np.float32), masks)
    assert reversed_["pixel_auroc"] == reversed_["aupro"] == reversed_["image_auroc"] == 0.0
    assert reversed_["pixel_ap"] == reversed_["iap"] == pytest.approx(9 / 128)


# Regions and the curve


def test_pixels_that_touch_at_a_corner_are_one_region_but_not_across_images():
    diagonal = np.eye(2)[None].repeat(3, 0)
    assert sort_pixels(np.zeros((3, 2, 2)), diagonal).region_scores.size == 3


def test_a_regions_score_is_its_pixel_at_half_its_size_from_the_top():
    maps = np.array([[[9, 8, 7, 0, 5, 0, 3, 2, 1, 0]]])
    masks = np.array([[[1, 1, 1, 0, 1, 0, 1, 1, 1, 1]]])  # of 3, 1 and 4 pixels
    np.testing.assert_array_equal(sort_pixels(maps, masks).region_scores, [8, 5, 1])


def test_the_counts_are_made_at_each_distinct_score_of_an_anomalous_pixel():
    maps = np.array([[[9, 9, 9, 7, 6, 4, 4, 4, 3]]])
    masks = np.array([[[0, 1, 1, 0, 0, 1, 0, 0, 0]]])
    curve = sort_pixels(maps, masks)
    np.testing.assert_array_equal(curve.thresholds, [9, 4])
    np.testing.assert_array_equal(curve.true_positives, [2, 3])
    np.testing.assert_array_equal(curve.false_positives, [1, 5])
    np.testing.assert_array_equal(curve.false_positives_above, [0, 3])
    np.testing.assert_allclose(curve.overlap, [0.5, 1])
    assert (curve.positives, curve.negatives) == (3, 6)


@pytest.mark.parametrize("seed", range(4))
def test_the_curves_run_from_corner_to_corner_and_never_fall(seed):
    curve = sort_pixels(*random_set(seed, levels=8))
    for x, y in (roc(curve), pro(curve)):
        assert (x[0], y[0], x[-1]) == (0, 0, 1)
        assert y[-1] == pytest.approx(1)
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()


def test_each_metric_can_be_read_from_the_one_curve():
    maps, masks = random_set(5)
    curve, found = sort_pixels(maps, masks), anomaly_metrics(maps, masks)
    read = [metric(curve) for metric in (pixel_auroc, pixel_ap, aupro, iap, iap_at)]
    assert read == [found[name] for name in METRIC_NAMES[1:]]


# Images


def test_an_image_score_is_the_mean_of_its_largest_values():
    maps = np.random.default_rng(0).normal(size=(3, 20, 30)).astype(np.float32)
    expected = [np.sort(one.ravel())[::-1][:7].astype(np.float64).mean() for one in maps]
    np.testing.assert_allclose(image_scores(maps, top=7), expected, rtol=1e-12)
    whole = maps.astype(np.float64).mean(axis=(1, 2))
    np.testing.assert_allclose(image_scores(maps, top=10**6), whole, rtol=1e-12)


def test_given_image_scores_and_labels_replace_the_derived_ones():
    maps, masks = random_set(2)
    scores, labels = np.arange(len(maps)), np.arange(len(maps)) != 0
    masks[2:] = 0  # anomalous all the same: a defect may be too small for its mask
    found = anomaly_metrics(maps, masks, scores, labels=labels)
    assert found["image_auroc"] == 1.0
    assert found["pixel_auroc"] == anomaly_metrics(maps, masks)["pixel_auroc"]


@pytest.mark.parametrize("seed", range(5))
def test_image_auroc_agrees_with_scikit_learn_on_ties(seed):
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 5, 40), generator.integers(0, 2, 40)
    assert image_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_a_channel_axis_and_tensors_are_accepted():
    maps, masks = random_set(4)
    tensors = torch.from_numpy(maps)[:, None], torch.from_numpy(masks)[:, None]
    assert anomaly_metrics(*tensors) == anomaly_metrics(maps, masks)


# What is undefined


def test_without_masks_only_the_image_metric_is_defined():
    maps, masks = random_set(6)
    labels = masks.any(axis=(1, 2))
    found = anomaly_metrics(maps, None, labels=labels)
    assert found["image_auroc"] == anomaly_metrics(maps, masks)["image_auroc"]
    assert [found[key] for key in METRIC_NAMES[1:]] == [None] * 5
    assert found["reasons"] == dict.fromkeys(METRIC_NAMES[1:], "the set has no masks")
    assert found["regions"] == 0


@pytest.mark.parametrize(("value", "missing"), [(0, "anomalous"), (1, "normal")])
def test_a_set_of_one_class_gives_none_and_the_reason(value, missing):
    maps = np.random.default_rng(0).random((3, 6, 6))
    found = anomaly_metrics(maps, np.full(maps.shape, value))
    assert [found[key] for key in METRIC_NAMES] == [None] * 6
    assert set(found["reasons"]) == set(METRIC_NAMES)
    assert found["reasons"]["image_auroc"].startswith(f"there are no {missing} images")
    assert found["reasons"]["iap"].startswith(f"there are no {missing} pixels")
    assert found["regions"] == 3 * value


def test_images_may_be_of_one_class_where_pixels_are_not():
    maps, masks = random_set(7)
    found = anomaly_metrics(maps[1:2], masks[1:2])
    assert found["image_auroc"] is None
    assert set(found["reasons"]) == {"image_auroc"}
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks[1].ravel(), maps[1].ravel()))


@pytest.mark.parametrize("metric", [pixel_auroc, pixel_ap, aupro, iap, iap_at, roc, pro])
def test_reading_a_metric_from_a_one_class_curve_is_an_error(metric):
    curve = sort_pixels(np.ones((1, 3, 3)), np.zeros((1, 3, 3)))
    with pytest.raises(DeSTSegError, match="undefined: there are no anomalous pixels"):
        metric(curve)
    with pytest.raises(DeSTSegError, match="undefined: there are no normal images"):
        image_auroc([1, 2], [1, 1])


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_a_limit_or_recall_that_is_not_a_share_is_an_error(share):
    curve = sort_pixels(*random_set(0))
    with pytest.raises(DeSTSegError, match=r"limit must be in \(0, 1\]"):
        aupro(curve, share)
    with pytest.raises(DeSTSegError, match=r"recall must be in \(0, 1\]"):
        iap_at(curve, share)


# Mistakes


def changed(array, place, value):
    array = array.astype(np.float64)
    array[place] = value
    return array


MAPS, MASKS = random_set(0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((changed(MAPS, (1, 2, 3), np.nan), MASKS), {}, "anomaly map of image 1 holds nan"),
        ((changed(MAPS, (0, 0, 0), -np.inf), MASKS), {}, "anomaly map of image 0 holds nan"),
        ((MAPS, changed(MASKS, (1, 2, 3), 255)), {}, "mask of image 1 holds 255; only 0"),
        ((MAPS, changed(MASKS, (1, 2, 3), 0.5)), {}, "mask of image 1 holds 0.5; only 0"),
        ((MAPS, changed(MASKS, (1, 2, 3), np.nan)), {}, "mask of image 1 holds nan; only 0"),
        ((MAPS, MASKS[:1]), {}, r"The masks have shape \(1, .* but the maps \("),
        ((MAPS[0], MASKS[0]), {}, r"anomaly maps must be \(N, H, W\) or \(N, 1, H, W\)"),
        ((np.zeros((2, 3, 4, 4)), MASKS), {}, r"not \(2, 3, 4, 4\)"),
        ((MAPS[:0], MASKS[:0]), {}, "not empty"),
        (([[[1, 2]], [[1]]], MASKS), {}, "anomaly maps cannot be read as one array"),
        ((MAPS.astype(str), MASKS), {}, "anomaly maps must hold real numbers"),
        ((MAPS * 1j, MASKS), {}, "real numbers, not complex"),
        ((MAPS, None), {}, "Without masks, labels are needed"),
        ((MAPS, MASKS, [1.0]), {}, r"image scores have shape \(1,\)"),
        ((MAPS, MASKS, [np.nan] * len(MAPS)), {}, "score of image 0 holds nan"),
        ((MAPS, MASKS), {"labels": [0]}, r"labels have shape \(1,\)"),
        ((MAPS, None), {"labels": [2] * len(MAPS)}, "label of image 0 holds 2; only 0"),
        ((MAPS, MASKS), {"labels": [0] * len(MAPS)}, "label of image 1 says normal, but the mask"),
        ((MAPS, MASKS), {"fpr_limit": 0}, r"fpr_limit must be in \(0, 1\], not 0"),
        ((MAPS, MASKS), {"fpr_limit": float("nan")}, "fpr_limit must be in"),
        ((MAPS, MASKS), {"recall": 90}, r"recall must be in \(0, 1\], not 90"),
        ((MAPS, MASKS), {"top": 0}, "at least 1 value, but top is 0"),
    ],
)
def test_mistakes_are_named(arguments, options, message):
    with pytest.raises(DeSTSegError, match=message):
        anomaly_metrics(*arguments, **options)


@pytest.mark.parametrize("wrong", [10.0, "10", True, None, 0])
def test_a_top_that_is_no_count_is_refused(wrong: object) -> None:
    maps, masks = np.zeros((2, 4, 4)), np.eye(2)[:, :1, None] * np.ones((2, 4, 4))
    with pytest.raises(DeSTSegError, match="a mean of at least 1 value, but top is"):
        anomaly_metrics(maps, masks, top=wrong)


@pytest.mark.parametrize("name", ["recall", "fpr_limit"])
@pytest.mark.parametrize("wrong", ["0.9", True, None, 0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(name: str, wrong: object) -> None:
    maps, masks = np.zeros((2, 4, 4)), np.eye(2)[:, :1, None] * np.ones((2, 4, 4))
    with pytest.raises(DeSTSegError, match=rf"{name} must be in \(0, 1\]"):
        anomaly_metrics(maps, masks, **{name: wrong})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_are_taken_with_or_without_gradients(dtype: torch.dtype) -> None:
    scores = torch.tensor([0.25, 0.75, 0.5, 1.0], dtype=dtype, requires_grad=True)
    assert image_auroc(scores, torch.tensor([0, 1, 0, 1])) == 1.0
