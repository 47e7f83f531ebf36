"""What the elements show is what independent code finds; the page is compared in tests/browser."""

from __future__ import annotations

from dataclasses import replace

import elements
import numpy as np
import pytest
import torch
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from destseg_lib.corruption import perlin_noise, rotate
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.compare import compare
from destseg_lib.widgets import (
    AblationExplorer,
    CorruptionLab,
    FusionByHand,
    SimilarityProbe,
    ThresholdExplorer,
    TrainingFilm,
)
from destseg_lib.widgets.element import fixed, painted, runs


@pytest.mark.parametrize("name", elements.ALL)
def test_five_settings_travel_with_an_element_and_differ(name):
    element = elements.ALL[name]()
    shown = [tuple(check["values"].items()) for check in element.checks]
    assert len(shown) >= 5
    assert len(set(shown)) >= 4, "settings that show the same prove nothing"
    for check in element.checks:
        assert set(check["settings"]) <= set(element.traits(sync=True))
        assert element.displayed(**check["settings"]) == check["values"]


@pytest.mark.parametrize("name", elements.ALL)
def test_a_kernel_sees_what_the_reader_changes(name):
    element = elements.ALL[name]()
    seen = []
    setting, value = next(
        (s, v)
        for check in element.checks
        for s, v in check["settings"].items()
        if v != getattr(element, s)
    )
    element.observe(lambda change: seen.append((change["name"], change["new"])), [setting])
    element.set_state({setting: value})
    assert seen == [(setting, value)]


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(0.0625, 3, "0.063"), (0.125, 2, "0.13"), (-0.125, 2, "-0.13"), (2, 0, "2"), (0.0, 3, "0.000"),
     (1.005, 2, "1.00"), (float("nan"), 3, "undefined")],
)  # fmt: skip
def test_numbers_are_written_as_javascript_writes_them(value, digits, written):
    assert fixed(value, digits) == written


def test_few_colours_stay_what_they_are_and_many_come_near():
    rng = np.random.default_rng(8)
    own = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    images = own[rng.integers(0, 200, (2, 20, 30))]
    colours, painting = painted(images)
    assert colours.shape == (256, 3)
    np.testing.assert_array_equal(colours[painting], images)
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (1, 40, 256, 3))
    many = np.stack(np.broadcast_arrays(*np.indices((40, 256)), 128), axis=2)[None].astype(np.uint8)
    for stack in (ramp.copy(), many):
        colours, painting = painted(stack)
        assert np.abs(colours[painting].astype(int) - stack).mean() < 4


def test_a_rare_colour_is_kept():
    rng = np.random.default_rng(4)
    grey = np.clip(rng.normal(130, 25, (4, 64, 64, 1)), 0, 255)
    images = np.clip(grey + rng.normal(0, 3, (4, 64, 64, 3)), 0, 255).astype(np.uint8)
    images[2, 10:14, 20:26] = 150, 80, 40  # rust
    colours, painting = painted(images)
    difference = np.abs(colours[painting].astype(int) - images)
    assert difference[2, 10:14, 20:26].max() <= 4
    assert difference.max() <= 12


@pytest.mark.parametrize("numbers", [[0, 0, 3, 3, 1, 0, 2], [5, 5], [0, 0], [1, 0, 0]])
def test_runs_say_where_an_array_is_not_0(numbers):
    filled = np.zeros(len(numbers), int)
    for start, length, number in runs(np.array(numbers)):
        assert number
        filled[start : start + length] = number
    assert filled.tolist() == numbers


# Threshold explorer


@pytest.fixture
def scored():
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (2, 12, 10, 3), dtype=np.uint8)
    masks = np.zeros((2, 12, 10), np.uint8)
    masks[0, 2:5, 1:6] = masks[1, 6:9, 3:9] = masks[1, 0, 0] = 1
    # Whole numbers from 0 to 255 are their own levels, so nothing is rounded here.
    maps = rng.integers(0, 256, masks.shape).astype(float)
    maps[0, 11, 9], maps[0, 11, 8] = 0, 255
    return images, maps, masks


@pytest.mark.parametrize("threshold", [0, 1, 77, 200, 255])
def test_counts_and_figures_are_those_of_a_confusion_matrix(scored, threshold):
    images, maps, masks = scored
    shown = ThresholdExplorer(images, maps, masks).values_at(threshold)
    flagged = maps >= threshold
    tn, fp, fn, tp = confusion_matrix(masks.ravel(), flagged.ravel()).ravel()
    assert [shown[k] for k in ("tn", "fp", "fn", "tp")] == [str(v) for v in (tn, fp, fn, tp)]
    assert shown["recall"] == fixed(tp / (tp + fn), 3)
    assert shown["precision"] == fixed(tp / (tp + fp), 3)
    shares = []
    for mask, hit in zip(masks, flagged, strict=True):
        regions, count = label(mask, np.ones((3, 3)))
        shares += [hit[regions == r].mean() for r in range(1, count + 1)]
    assert float(shown["overlap"]) == pytest.approx(np.mean(shares), abs=6e-4)


def test_above_all_scores_nothing_is_flagged(scored):
    shown = ThresholdExplorer(*scored).displayed(256)
    assert (shown["tp"], shown["fp"], shown["precision"]) == ("0", "0", "undefined")
    assert shown["threshold"] == "above all"


def test_the_explorer_refuses_what_it_cannot_show(scored):
    images, maps, masks = scored
    with pytest.raises(DeSTSegError, match=r"give \(N, H, W, 3\) of uint8"):
        ThresholdExplorer(images / 255, maps, masks)
    with pytest.raises(DeSTSegError, match="must be of the same size"):
        ThresholdExplorer(images, maps[:, :5], masks[:, :5])
    with pytest.raises(DeSTSegError, match="The masks show 0 regions"):
        ThresholdExplorer(images, maps, 0 * masks)
    with pytest.raises(DeSTSegError, match="There are 2 images and 1 names"):
        ThresholdExplorer(images, maps, masks, ["good"])


def test_pictures_are_called_by_words_not_by_the_names_of_folders(scored):
    assert ThresholdExplorer(*scored, ["good", "bent_leg"]).data["names"] == ["good", "bent leg"]
    assert ThresholdExplorer(*scored).data["names"] == ["image 1", "image 2"]


# Corruption laboratory


@pytest.mark.parametrize("rotation", [0, 30, -90])
def test_the_noise_is_the_library_s(rotation):
    lab = elements.laboratory()
    angles = torch.from_numpy(lab._angles).float()[None]
    noise = perlin_noise(torch.tensor([[4, 16]]), angles, 48)
    turned = rotate(noise[:, None], torch.tensor([float(rotation)]))[0, 0]
    np.testing.assert_allclose(lab.noise(2, 4, rotation), turned.numpy(), atol=2e-5)


def test_full_opacity_changes_the_mask_into_texture():
    lab = elements.laboratory()
    inside = lab.noise(3, 3, 0) > 0.2
    shown = lab.displayed(3, 3, 0, 20, 100, "dots")
    change = np.abs(lab._textures["dots"] - lab._image)[inside].sum() / lab._image.size
    assert shown["pixels"] == str(inside.sum())
    assert float(shown["change"]) == pytest.approx(change, abs=6e-3)
    assert lab.displayed(3, 3, 0, 20, 0, "dots")["change"] == "0.00"


def test_the_laboratory_refuses_what_does_not_fit():
    image = np.zeros((8, 8, 3), np.uint8)
    rng = np.random.default_rng(0)
    with pytest.raises(DeSTSegError, match="give a square image and at least one texture"):
        CorruptionLab(image[:4], {"a": image[:4]}, rng)
    with pytest.raises(DeSTSegError, match=r"'a' is .* cut or scale it to the image's size"):
        CorruptionLab(image, {"a": image[:4]}, rng)


# Similarity probe


def test_similarities_are_the_cosines():
    rng = np.random.default_rng(8)
    image = np.zeros((16, 16, 3), np.uint8)
    level = rng.standard_normal((24, 4, 4))
    (found,) = SimilarityProbe(image, [level]).similarities(5, 14)
    flat = level.reshape(24, -1).T
    expected = cosine_similarity(flat[1 * 4 + 3][None], flat).reshape(4, 4)
    np.testing.assert_allclose(found, expected, atol=0.02)  # features travel as 8 bits
    assert found[1, 3] == pytest.approx(1)


def test_the_probe_refuses_a_batch_and_infinities():
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(DeSTSegError, match=r"Level 1 of the features is .* without the batch"):
        SimilarityProbe(image, [np.zeros((1, 8, 4, 4))])
    with pytest.raises(DeSTSegError, match="give finite values"):
        SimilarityProbe(image, [np.full((8, 4, 4), np.inf)])


# Fusion by hand


@pytest.mark.parametrize(
    ("rule", "weights"),
    [("sum", (1, 2, 3)), ("product", (1, 0, 1)), ("product", (0, 0, 0)), ("learned", (0, 0, 0))],
)
def test_fused_figures_are_scikit_learn_s(rule, weights):
    fusion = elements.fusion()
    parts = [level.astype(float) for level in fusion._levels]
    if rule == "sum":
        score = sum(w * p for w, p in zip(weights, parts, strict=True))
    elif rule == "product":
        score = np.prod([p for w, p in zip(weights, parts, strict=True) if w] or [0 * parts[0] + 1],
                        axis=0)  # fmt: skip
    else:
        score = fusion._learned.astype(float)
    truth = fusion._truth.ravel()
    shown = fusion.displayed(rule, *weights)
    assert float(shown["auroc"]) == pytest.approx(roc_auc_score(truth, score.ravel()), abs=6e-4)
    assert float(shown["ap"]) == pytest.approx(
        average_precision_score(truth, score.ravel()), abs=6e-4
    )


def test_fusion_refuses_two_levels_and_a_learned_map_that_is_not_there():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    mask = np.eye(4)[None]
    with pytest.raises(DeSTSegError, match="There are 2 levels"):
        FusionByHand(images, [mask, mask], mask)
    with pytest.raises(DeSTSegError, match="all of one kind"):
        FusionByHand(images, [mask, mask, mask], 0 * mask)
    with pytest.raises(DeSTSegError, match="choose sum or product"):
        FusionByHand(images, [mask, mask, mask], mask).displayed("learned", 1, 1, 1)


def test_fusion_takes_photographs_finer_than_its_maps_by_a_whole_number():
    mask = np.eye(4)[None]
    element = FusionByHand(np.zeros((1, 12, 12, 3), np.uint8), [mask, mask, mask], mask)
    assert (element.data["fine"], element.data["width"]) == (3, 4)
    for side in (3, 6, 11):
        with pytest.raises(DeSTSegError, match="of the masks' size"):
            FusionByHand(np.zeros((1, side, side, 3), np.uint8), [mask, mask, mask], mask)


# Training film


def test_a_picture_that_stands_still_travels_once():
    moving, still = np.zeros((6, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 7, np.uint8)
    film = TrainingFilm(range(6), {"map": moving, "photograph": still})
    assert [frame[1] is None for frame in film.data["frames"]] == [False] + [True] * 5
    assert film.displayed(5)["brightness"] == "7.0"


def test_a_film_takes_coarse_panels_and_refuses_those_that_do_not_fit():
    fine = np.zeros((6, 8, 8, 3), np.uint8)
    film = TrainingFilm(range(6), {"map": fine, "features": fine[:, :2, :2] + 9})
    assert list(film.data["sizes"]) == [(8, 8), (2, 2)]
    assert film.displayed(0)["brightness"] == "9.0"
    for odd in (fine[:, :3, :3], fine[:, :4, :2]):
        with pytest.raises(DeSTSegError, match="a whole fraction"):
            TrainingFilm(range(6), {"map": fine, "features": odd})


def test_a_film_shows_its_figures_and_refuses_gaps():
    film = elements.film()
    assert film.displayed(4)["step"] == "80"
    assert film.displayed(4)["loss"] == "0.313"
    frames = np.zeros((6, 4, 4, 3), np.uint8)
    with pytest.raises(DeSTSegError, match="five steps or more"):
        TrainingFilm([0, 1], {"map": frames[:2]})
    with pytest.raises(DeSTSegError, match="a frame in every panel"):
        TrainingFilm(range(6), {"map": frames, "student": frames[:5]})
    with pytest.raises(DeSTSegError, match="must be finite"):
        TrainingFilm(range(6), {"map": frames}, {"loss": [1, 2, 3, 4, 5, np.nan]})


# Ablation explorer


def test_the_ablation_explorer_shows_what_the_report_says():
    explorer = elements.ablation()
    (study, records), category = elements.study(), "metal"
    rows = compare(replace(study, categories=(category,)), elements.of(records, category), "iap")
    for row in rows:
        shown = explorer.displayed(category, "iap", row.variant)
        assert row.mean is not None and row.spread is not None
        assert shown["mean"] == fixed(100 * row.mean, 1)
        assert shown["spread"] == fixed(100 * row.spread, 1)
        if row.difference is not None:
            assert shown["verdict"] == row.difference.verdict
            assert shown["difference"].startswith(f"{100 * row.difference.mean:+.1f} [")
    assert explorer.displayed("tile", "iap", "cosine")["mean"] == "not run yet"


def test_the_ablation_explorer_has_the_papers_figure_beside_where_there_is_one():
    explorer = elements.ablation()
    shown = {v: explorer.displayed("tile", "iap", v)["paper"] for v in elements.study()[0].variants}
    assert shown == {"whole": "76.4 (+0.0)", "without L1": "74.4 (-2.0)", "cosine": "no figure"}
    assert explorer.displayed("tile", "aupro", "whole")["paper"] == "no figure"


def test_the_ablation_explorer_refuses_what_it_cannot_compare():
    study, records = elements.study()
    with pytest.raises(DeSTSegError, match="No run has finished"):
        AblationExplorer([(study, [])])
    with pytest.raises(DeSTSegError, match="no figure 'auc'"):
        AblationExplorer([(study, records)], figures=["auc"])
    other = replace(study, variants={"whole": {}}, paper={})
    with pytest.raises(DeSTSegError, match="different variants"):
        AblationExplorer([(study, records), (other, records)])
