"""Elements show the values that independent code finds; tests/browser compares the pages."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import elements
import numpy as np
import pytest
import torch
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from tiny import TINY, noise, tiny_model

from destseg_lib import widgets
from destseg_lib.config import ModelConfig
from destseg_lib.corruption import perlin_noise, rotate
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import predict_maps, to_tensor
from destseg_lib.studies.compare import compare
from destseg_lib.teacher import normalise
from destseg_lib.training import train, with_steps
from destseg_lib.widgets.diagram import ARROWS, PARTS, PHASES, method_picture
from destseg_lib.widgets.element import fixed, painted, runs
from destseg_lib.widgets.recording import film as film_of
from destseg_lib.widgets.recording import record_training, shipped_recording

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (2, 12, 10, 3), dtype=np.uint8)
MASKS = np.zeros((2, 12, 10), np.uint8)
MASKS[0, 2:5, 1:6] = MASKS[1, 6:9, 3:9] = MASKS[1, 0, 0] = 1
# Whole numbers from 0 to 255 are their own levels, so nothing is rounded here.
MAPS = RNG.integers(0, 256, MASKS.shape).astype(float)
MAPS[0, 11, 9], MAPS[0, 11, 8] = 0, 255
SMALL, PICTURE, EYE = IMAGES[0, :8, :8], np.zeros((16, 16, 3), np.uint8), np.eye(4)[None]
FRAMES = np.zeros((6, 8, 8, 3), np.uint8)
WITHOUT = ModelConfig(width=1 / 16, segmentation=False)
STUDY, RECORDS = elements.study()


def explore(images=IMAGES, maps=MAPS, masks=MASKS, names=None):
    return widgets.ThresholdExplorer(images, maps, masks, names)


def laboratory(image, texture):
    return widgets.CorruptionLab(image, {"a": texture}, np.random.default_rng(0))


def fuse(side=4, levels=3, masks=EYE):
    return widgets.FusionByHand(np.zeros((1, side, side, 3), np.uint8), [EYE] * levels, masks)


def film(panel=FRAMES, steps=6, columns=None):
    return widgets.TrainingFilm(range(steps), {"map": FRAMES[:steps], "features": panel}, columns)


def method(image, photograph=None, segmentation=True):
    model = tiny_model(TINY if segmentation else replace(TINY, model=WITHOUT))
    new = image if photograph is None else photograph
    return widgets.MethodPicture.of_model(model, image, image, image[..., 0] > 99, new, 0.5)


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
    settings = [pair for check in element.checks for pair in check["settings"].items()]
    setting, value = next((s, v) for s, v in settings if v != getattr(element, s))
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


@pytest.mark.parametrize("threshold", [0, 1, 77, 200, 255])
def test_counts_and_metrics_are_those_of_a_confusion_matrix(threshold):
    shown, flagged = explore().values_at(threshold), threshold <= MAPS
    tn, fp, fn, tp = confusion_matrix(MASKS.ravel(), flagged.ravel()).ravel()
    assert [shown[k] for k in ("tn", "fp", "fn", "tp")] == [str(v) for v in (tn, fp, fn, tp)]
    assert shown["recall"] == fixed(tp / (tp + fn), 3)
    assert shown["precision"] == fixed(tp / (tp + fp), 3)
    shares = []
    for mask, hit in zip(MASKS, flagged, strict=True):
        regions, count = label(mask, np.ones((3, 3)))
        shares += [hit[regions == r].mean() for r in range(1, count + 1)]
    assert float(shown["overlap"]) == pytest.approx(np.mean(shares), abs=6e-4)


def test_above_all_scores_nothing_is_flagged():
    shown = explore().displayed(256)
    assert (shown["tp"], shown["fp"], shown["precision"]) == ("0", "0", "undefined")
    assert shown["threshold"] == "above all"


def test_pictures_are_called_by_words_not_by_the_names_of_folders():
    assert explore(names=["good", "bent_leg"]).data["names"] == ["good", "bent leg"]
    assert explore().data["names"] == ["image 1", "image 2"]


# Corruption laboratory


@pytest.mark.parametrize("rotation", [0, 30, -90])
def test_the_noise_is_the_library_s(rotation):
    lab = elements.laboratory()
    angles = torch.from_numpy(lab._angles).float()[None]
    noise = perlin_noise(torch.tensor([[4, 16]]), angles, 48)
    turned = rotate(noise[:, None], torch.tensor([float(rotation)]))[0, 0]
    np.testing.assert_allclose(lab.noise(2, 4, rotation), turned.numpy(), atol=2e-5)


def test_a_turned_gradient_changes_the_four_cells_around_it_alone():
    lab = elements.laboratory()
    angles = torch.from_numpy(lab._angles).float()[None]
    angles[0, 2, 8] += np.pi / 2  # the middle of 4 x 16 cells
    noise = perlin_noise(torch.tensor([[4, 16]]), angles, 48)[0].numpy()
    turned = lab.noise(2, 4, 0, 90)
    np.testing.assert_allclose(turned, noise, atol=2e-5)
    rows, columns = np.nonzero(turned != lab.noise(2, 4, 0))
    assert rows.min() > 12 and rows.max() < 36  # lines 1 and 3 of 4, where noise is 0
    assert columns.min() > 21 and columns.max() < 27  # columns 7 and 9 of 16


def test_full_opacity_changes_the_mask_into_texture():
    lab = elements.laboratory()
    inside = lab.noise(3, 3, 0) > 0.2
    shown = lab.displayed(3, 3, 0, 20, 100, "dots")
    change = np.abs(lab._textures["dots"] - lab._image)[inside].sum() / lab._image.size
    assert shown["pixels"] == str(inside.sum())
    assert float(shown["change"]) == pytest.approx(change, abs=6e-3)
    assert lab.displayed(3, 3, 0, 20, 0, "dots")["change"] == "0.00"


# Similarity probe


def test_similarities_are_the_cosines():
    rng = np.random.default_rng(8)
    level = rng.standard_normal((24, 4, 4))
    (found,) = widgets.SimilarityProbe(PICTURE, [level]).similarities(5, 14)
    flat = level.reshape(24, -1).T
    expected = cosine_similarity(flat[1 * 4 + 3][None], flat).reshape(4, 4)
    np.testing.assert_allclose(found, expected, atol=0.02)  # features travel as 8 bits
    assert found[1, 3] == pytest.approx(1)


# Fusion by hand


@pytest.mark.parametrize(
    ("rule", "weights"),
    [("sum", (1, 2, 3)), ("product", (1, 0, 1)), ("product", (0, 0, 0)), ("learned", (0, 0, 0))],
)
def test_the_metrics_of_fused_maps_are_scikit_learn_s(rule, weights):
    fusion = elements.fusion()
    parts = np.stack(fusion._levels).astype(float)
    score = {
        "sum": np.tensordot(weights, parts, 1),
        "product": np.prod(parts ** np.sign(weights).reshape(3, 1, 1, 1), axis=0),
        "learned": fusion._learned,
    }[rule].ravel()
    truth, shown = fusion._truth.ravel(), fusion.displayed(rule, *weights)
    assert float(shown["auroc"]) == pytest.approx(roc_auc_score(truth, score), abs=6e-4)
    assert float(shown["ap"]) == pytest.approx(average_precision_score(truth, score), abs=6e-4)


def test_fusion_of_a_model_shows_its_distances_and_its_final_map():
    model = tiny_model()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 8:18, 8:14] = True  # two and a half by one and a half places of the map
    element = widgets.FusionByHand.of_model(model, images, masks)
    truth = np.zeros((2, 16, 16), bool)
    truth[0, 2:5, 2:4], truth[0, 4, 3] = True, False  # of the last, a quarter is faulty
    np.testing.assert_array_equal(element._truth, truth)
    with torch.no_grad():
        inputs = normalise(to_tensor(images))
        final = model(inputs).final
        first, *_ = zip(model.teacher(inputs), model.student(inputs), strict=True)
    distance = 1 - torch.cosine_similarity(*first)  # at the maps' size, 16 x 16
    for setting, exact in ((("learned", 1, 1, 1), final), (("sum", 1, 0, 0), distance)):
        auroc = roc_auc_score(truth.ravel(), exact.numpy().ravel())
        assert float(element.displayed(*setting)["auroc"]) == pytest.approx(auroc, abs=0.02)


def test_fusion_takes_photographs_finer_than_its_maps_by_a_whole_number():
    element = fuse(12)
    assert (element.data["fine"], element.data["width"]) == (3, 4)


# Training film


def test_a_picture_that_never_changes_travels_once():
    still = film(FRAMES[:1] + 7)
    assert [frame[1] is None for frame in still.data["frames"]] == [False] + [True] * 5
    assert still.displayed(5)["brightness"] == "7.0"


def test_a_film_takes_coarse_panels():
    coarse = film(FRAMES[:, :2, :2] + 9)
    assert list(coarse.data["sizes"]) == [(8, 8), (2, 2)]
    assert coarse.displayed(0)["brightness"] == "9.0"


def test_a_film_shows_the_step_and_its_numbers():
    shown = elements.film().displayed(4)
    assert (shown["step"], shown["loss"]) == ("80", "0.313")


def test_a_recording_has_the_weights_losses_and_maps_of_the_training(tmp_path):
    photograph, mask = noise().good[0], np.zeros((32, 32), bool)
    mask[4:12, 8:20] = True
    config = with_steps(TINY, 20, 10)
    model, same = tiny_model(), tiny_model()
    made = record_training(model, noise(), config, photograph, mask, every=10, progress=False)
    logs = train(same, noise(), config, progress=False)
    assert made.steps.tolist() == [10, 20, 30]
    assert made.losses.tolist() == [log.loss for log in logs]
    maps = next(predict_maps(same, photograph[None], precision="fp32", size=32, progress=False))
    ap = average_precision_score(mask.ravel(), maps.final.ravel())
    assert made.final_map_ap[-1] == pytest.approx(ap)
    assert made.distance_product.shape == made.final_map.shape == (3, 8, 8)
    assert made.distance_product[-1].max() == 255
    made.save(tmp_path / "film.npz")
    with np.load(tmp_path / "film.npz") as arrays:
        np.testing.assert_equal(dict(arrays), asdict(made))


def test_the_film_that_ships_is_of_a_training_that_found_the_defect():
    recording = shipped_recording()
    element = film_of(recording)
    assert element.data["steps"] == list(range(20, 901, 20))
    assert recording.losses[24] < recording.losses[0] / 5, "the student did not learn"
    assert recording.final_map_ap[-1] > recording.distance_product_ap[-1] > 0.6
    assert recording.distance_product_ap[24] == recording.distance_product_ap[-1], "not frozen"
    inside = recording.final_map[-1].repeat(4, 0).repeat(4, 1)[recording.mask].mean()
    assert inside > 5 * recording.final_map[-1].mean()


# Ablation explorer


def test_the_ablation_explorer_shows_the_values_of_the_report():
    explorer = elements.ablation()
    study, records = elements.study()
    metal = [record for record in records if record["category"] == "metal"]
    for row in compare(replace(study, categories=("metal",)), metal, "iap"):
        shown = explorer.displayed("metal", "iap", row.variant)
        assert row.mean is not None and row.spread is not None
        assert shown["mean"] == fixed(100 * row.mean, 1)
        assert shown["spread"] == fixed(100 * row.spread, 1)
        if row.difference is not None:
            assert shown["verdict"] == row.difference.verdict
            assert shown["difference"].startswith(f"{100 * row.difference.mean:+.1f} [")
    assert explorer.displayed("tile", "iap", "cosine")["mean"] == "not run yet"


def test_the_ablation_explorer_shows_the_papers_value_where_there_is_one():
    explorer = elements.ablation()
    shown = {v: explorer.displayed("tile", "iap", v)["paper"] for v in elements.study()[0].variants}
    assert shown == {"whole": "76.4 (+0.0)", "without L1": "74.4 (-2.0)", "cosine": "no figure"}
    assert explorer.displayed("tile", "aupro", "whole")["paper"] == "no figure"


# The picture of the method


@pytest.mark.parametrize("phase", PHASES)
def test_the_picture_marks_what_learns_and_fades_what_a_phase_does_not_use(phase):
    drawn = ElementTree.fromstring(method_picture(["teacher"], phase=phase))
    boxes = {box.get("data-part"): set(box.get("class").split()) for box in drawn.iter("g")}
    learns = {name for name, marks in boxes.items() if "learns" in marks}
    assert learns == ({phase} if phase != "test" else set())
    assert {name for name, marks in boxes.items() if "here" in marks} == {"teacher"}
    used = {name for name, marks in boxes.items() if "faint" not in marks}
    assert used == {name for name, part in PARTS.items() if phase in part.says}
    # An arrow that is not faint joins two parts that the phase uses.
    assert all({start, end} <= used for start, end, phases in ARROWS if phase in phases)


def test_in_the_book_each_part_leads_to_the_chapter_that_builds_it():
    drawn = ElementTree.fromstring(method_picture(["score"], address="{chapter}.html"))
    links = {link.get("href"): link.get("aria-current") for link in drawn.iter("a")}
    assert links.pop("02_measuring.html") == "page"
    assert set(links.values()) == {None}
    chapters = {f"{path.stem}.html" for path in (ROOT / "book").glob("*.ipynb")}
    assert {part.chapter + ".html" for part in PARTS.values()} == {"02_measuring.html", *links}
    assert {*links} <= chapters


def test_the_tensors_of_the_method_are_the_model_s():
    model = tiny_model()
    rng = np.random.default_rng(1)
    good, corrupted, new = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[4:9] = 1
    element = widgets.MethodPicture.of_model(model, good, corrupted, mask, new, threshold=0.0)
    with torch.no_grad():
        clean, damaged, tested = (normalise(to_tensor(i[None])) for i in (good, corrupted, new))
        teacher, student = model.teacher(clean), model.student(damaged)
        maps = model(tested)
    first = 1 - torch.cosine_similarity(teacher[0], student[0])[0].numpy()
    shown = {
        phase: {
            name: [element.data["pictures"][n] for n in numbers] for name, numbers in part.items()
        }
        for phase, part in element.data["shown"].items()
    }

    def ends(picture):
        return [float(end) for end in picture["range"].split(" to ")]

    found = ends(shown["student"]["distances"][0])
    assert found == pytest.approx([first.min(), first.max()], abs=0.006)
    found = ends(shown["test"]["segmentation"][0])
    assert found == pytest.approx([float(maps.final.min()), float(maps.final.max())], abs=0.006)
    assert [p["name"] for p in shown["segmentation"]["corruption"]] == ["corrupted Iₐ", "mask M"]
    assert element.displayed("student", "student")["state"] == "learns"
    assert element.displayed("segmentation", "product")["gives"] == "nothing"
    assert element.displayed("test", "features")["gives"].startswith("64 × 16 × 16, 128 × 8 × 8")
    assert "above 0.000" in element.displayed("test", "score")["gives"]


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: explore(images=IMAGES / 255), r"give \(N, H, W, 3\) of uint8"),
        (lambda: explore(maps=MAPS[:, :5], masks=MASKS[:, :5]), "must be of the same size"),
        (lambda: explore(masks=0 * MASKS), "The masks show 0 regions"),
        (lambda: explore(names=["good"]), "There are 2 images and 1 names"),
        (lambda: laboratory(SMALL[:4], SMALL[:4]), "give a square image and at least one texture"),
        (lambda: laboratory(SMALL, SMALL[:4]), "'a' is .* cut or scale it to the image's size"),
        (lambda: widgets.SimilarityProbe(PICTURE, [np.zeros((1, 8, 4, 4))]),
         "Level 1 of the features is .* without the batch"),
        (lambda: widgets.SimilarityProbe(PICTURE, [np.full((8, 4, 4), np.inf)]),
         "give finite values"),
        (lambda: fuse(levels=2), "There are 2 levels"),
        (lambda: fuse(masks=0 * EYE), "all of one kind"),
        (lambda: fuse().displayed("learned", 1, 1, 1), "choose sum or product"),
        *((lambda side=side: fuse(side), "of the masks' size") for side in (3, 6, 11)),
        (lambda: film(FRAMES[:, :3, :3]), "a whole fraction"),
        (lambda: film(FRAMES[:, :4, :2]), "a whole fraction"),
        (lambda: film(FRAMES[:2], steps=2), "five steps or more"),
        (lambda: film(FRAMES[:5]), "a frame in every panel"),
        (lambda: film(columns={"loss": [1, 2, 3, 4, 5, np.nan]}), "must be finite"),
        (lambda: widgets.MethodPicture({}, {}), "nothing to show of photograph in student"),
        (lambda: method(SMALL, photograph=SMALL[:4]), "give one size"),
        (lambda: method(SMALL, segmentation=False), "no segmentation network"),
        (lambda: widgets.AblationExplorer([(STUDY, [])]), "No run has finished"),
        (lambda: widgets.AblationExplorer([(STUDY, RECORDS)], ["auc"]), "no metric 'auc'"),
        (lambda: widgets.AblationExplorer(
            [(STUDY, RECORDS), (replace(STUDY, variants={"whole": {}}, paper={}), RECORDS)]),
         "different variants"),
    ],
)  # fmt: skip
def test_impossible_elements_are_refused(make, message):
    with pytest.raises(DeSTSegError, match=message):
        make()


@pytest.mark.parametrize(("angle", "length"), [(0, 10), (30, 5), (90, 20), (144, 13), (180, 1)])
def test_the_cosine_distance_follows_the_angle_and_no_length(angle, length):
    teacher = np.array([[1.0, 0.0]])
    turned = np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))]])
    student = length / 10 * turned
    shown = widgets.TwoVectors().displayed(angle, length)
    expected = 1 - cosine_similarity(teacher, student)[0, 0]
    assert float(shown["cosine"]) == pytest.approx(expected, abs=6e-4)
    assert float(shown["plain"]) == pytest.approx(((teacher - student) ** 2).sum(), abs=6e-4)
    assert float(shown["normalised"]) == pytest.approx(((teacher - turned) ** 2).sum(), abs=6e-4)


@pytest.mark.parametrize("dilation", [1, 6, 12, 18])
@pytest.mark.parametrize("side", [8, 32, 64])
def test_taps_are_inside_where_a_dilated_convolution_sees_the_map(dilation, side):
    kernel = torch.ones(1, 1, 3, 3)
    image = torch.ones(1, 1, side, side)
    count = torch.nn.functional.conv2d(image, kernel, padding=dilation, dilation=dilation)[0, 0]
    for across, down in ((50, 50), (0, 100), (12, 77)):
        shown = widgets.DilatedTaps().displayed(dilation, str(side), across, down)
        row, column = (min(side * part // 100, side - 1) for part in (down, across))
        assert shown["inside"] == f"{count[row, column].int()} of 9"
        assert shown["whole"] == f"{fixed(100 * float((count == 9).float().mean()), 1)} %"
