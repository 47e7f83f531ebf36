"""The drawn categories: their common contract, the looks of each defect, and the data sets."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from destseg_lib.drawn import AVAILABLE, CATEGORIES, component, connector, dataset, gravel, tablet
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.dataset import (
    ImageCounts,
    draw_category,
    drawn_settings,
    find_drawn,
    write_category,
)
from destseg_lib.drawn.photograph import DefectivePhotograph, photograph, photograph_defect
from destseg_lib.drawn.surface import Frame
from destseg_lib.errors import DeSTSegError
from destseg_lib.files.outputs import LIST
from destseg_lib.images.folders import find_category
from destseg_lib.images.read import read_mask

SIZE = 128
NAMES = [category.name for category in AVAILABLE]
CASES = [(category.name, defect) for category in AVAILABLE for defect in category.defects]


@cache
def shots(name: str, defect: str, size: int = SIZE) -> list[DefectivePhotograph]:
    return [photograph_defect(find_drawn(name), defect, size, (n, 5)) for n in range(8)]


@cache
def good(name: str, size: int) -> list[np.ndarray]:
    return [photograph(find_drawn(name), size, (n, 5)) for n in range(6)]


# The contract of every category


def test_there_are_textures_and_objects_enough_each_with_its_defects():
    kinds = [category.kind for category in CATEGORIES]
    assert kinds.count("texture") >= 4
    assert kinds.count("object") >= 4
    assert all(len(set(category.defects)) >= 4 for category in CATEGORIES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(("name", "defect"), CASES)
def test_a_mask_is_small_and_exactly_where_the_defect_differs_from_its_twin(name, defect):
    largest = {"misplaced": 0.4}.get(defect, 0.05 if name in ("connector", "component") else 0.25)
    for n, shot in enumerate(shots(name, defect)):
        differs = (shot.image != shot.twin).any(axis=2)
        assert not differs[~shot.mask].any()
        assert differs[shot.mask].mean() > 0.5
        assert 0 < shot.mask.mean() < largest
        regions, count = ndimage.label(shot.mask, np.ones((3, 3)))
        assert all(ndimage.maximum(differs, regions, range(1, count + 1)))
        # It can be told from the grain around it.
        assert np.abs(shot.image.astype(int) - shot.twin)[shot.mask].max() >= 8
        if n < 6:
            np.testing.assert_array_equal(shot.twin, good(name, SIZE)[n])


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_an_image_and_another_seed_gives_another(name):
    np.testing.assert_array_equal(photograph(find_drawn(name), 96, (0, 5)), good(name, 96)[0])
    assert (good(name, 96)[0] != good(name, 96)[1]).mean() > 0.2
    assert np.abs(good(name, 96)[0].astype(int) - good(name, 96)[1]).mean() > 3


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_is_drawn_in_single_precision_and_within_0_and_1(name):
    category = find_drawn(name)
    for defect in (None, *category.defects):
        scene, fault = np.random.default_rng(1), np.random.default_rng(2)
        picture = category.draw(48, scene, defect, fault)
        assert (picture.shape, picture.dtype) == ((48, 48, 3), np.float32)
        assert picture.min() >= 0
        assert picture.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_any_size_shows_the_same_scene(name):
    def brightness(image: np.ndarray, side: int) -> np.ndarray:
        grey = Image.fromarray(image).convert("L")
        return np.asarray(grey.resize((side, side), Image.Resampling.BOX), float).ravel()

    for small, large in zip(good(name, 96), good(name, 192), strict=True):
        found = np.corrcoef(brightness(small, 96), brightness(large, 96))[0, 1]
        assert found > (0.75 if name == "wood" else 0.94)  # wood's finest fibres are below a pixel
    for side in (32, 100, 256):
        image = photograph(find_drawn(name), side, (0, 5))
        expected = brightness(good(name, 192)[0], 16)
        assert np.corrcoef(brightness(image, 16), expected)[0, 1] > 0.5


# The looks of each defect


def marked(shot: DefectivePhotograph) -> SimpleNamespace:
    """The pixels inside a mask: colours now and in the twin, and places in shares of the image."""
    rows, columns = np.nonzero(shot.mask)
    now, was = (image[shot.mask].astype(float) for image in (shot.image, shot.twin))
    return SimpleNamespace(
        mask=shot.mask, now=now, was=was, gain=(now - was).mean(axis=1),
        tall=np.ptp(rows) + 1, wide=np.ptp(columns) + 1,
        off_centre=np.hypot(rows / len(shot.mask) - 0.5, columns / len(shot.mask) - 0.5),
        middle=np.hypot(rows.mean() / len(shot.mask) - 0.5, columns.mean() / len(shot.mask) - 0.5),
        thickness=ndimage.distance_transform_edt(np.pad(shot.mask, 1)).max(),
    )  # fmt: skip


def browner(m: SimpleNamespace) -> float:
    red, _, blue = (m.now - m.was).mean(axis=0)
    return red - blue


def regions(mask: np.ndarray) -> int:
    return ndimage.label(mask, np.ones((3, 3)))[1]


def longest(mask: np.ndarray) -> int:
    found = ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0])
    return max(part.stop - part.start for where in found for part in where)


def reached(mask: np.ndarray, places: tuple[tuple[float, float], ...]) -> int:
    """How many of these places of the part, in pitches, have the mask within a third of a pitch."""
    frame = Frame(0.0, (0.0, 0.0), component.PITCH)
    y, x = (np.indices(mask.shape) + 0.5) / SIZE - 0.5
    near = [np.hypot(y - p, x - q) < component.PITCH / 3 for p, q in map(frame.seen, places)]
    return sum(mask[there].any() for there in near)


def in_a_wrong_hole(m: SimpleNamespace) -> bool:
    body = ((component.BODY_MIDDLE, -1.0), (component.BODY_MIDDLE, 1.0))
    entered = [reached(m.mask, wrong) for wrong in component.WRONG_HOLES]
    return any(entered) and reached(m.mask, component.HOLES) == 1 and not reached(m.mask, body)


def away_from_its_place(m: SimpleNamespace) -> bool:
    y, x = (np.indices(m.mask.shape) / SIZE - 0.5) / component.PITCH
    outside = (np.abs(x) > component.HALF_WIDTH + 0.6) | (y < component.TAB_TOP - 0.5) | (y > 1)
    return reached(m.mask, component.HOLES) >= 2 and (m.mask & outside).mean() > 0.005


def lit_differently(m: SimpleNamespace) -> bool:
    """In linear light the colour, which is the ratio of the channels, stays what it was."""
    ratios = [(p[:, 2] ** 2 / (p[:, 0] ** 2).clip(1)).mean() for p in (m.now, m.was)]
    darker = (m.now**2).sum(axis=1) < 0.95 * (m.was**2).sum(axis=1)
    return ratios[0] == pytest.approx(ratios[1], rel=0.1) and darker.mean() > 0.2


LOOKS = [
    ("fabric", "hole", "shows the dark table",
     lambda m: np.percentile(m.now, 20) < np.percentile(m.was, 20) - 15),
    ("fabric", "stain", "darkens but leaves the weave", lambda m: m.gain.mean() < -5
     and np.corrcoef(m.now.mean(axis=1), m.was.mean(axis=1))[0, 1] > 0.7),
    *(("fabric", defect, "is in one place",
       lambda m: ndimage.label(ndimage.binary_dilation(m.mask, iterations=6))[1] == 1)
      for defect in find_drawn("fabric").defects),
    ("metal", "finger", "dims the brushing", lambda m: m.gain.mean() < -5),
    ("metal", "rust", "is browner than the sheet", lambda m: browner(m) > 15),
    ("metal", "scratch", "has a light flank and a dark one",
     lambda m: m.gain.max() > 10 and m.gain.min() < -10),
    ("metal", "scratch", "crosses the brushing", lambda m: m.tall > 5),
    *(("terrazzo", defect, "has one compact mask",
       lambda m: regions(m.mask) == 1 and m.mask.sum() > 0.35 * m.tall * m.wide)
      for defect in ("hole", "foreign_chip")),
    ("terrazzo", "stain", "darkens", lambda m: m.gain.mean() < -5),
    ("terrazzo", "scratch", "lightens", lambda m: m.gain.mean() > 5),
    ("terrazzo", "crack", "is a thin dark line", lambda m: m.thickness <= 5 and m.gain.mean() < 0),
    ("wood", "crack", "is dark, thin and runs with the grain",
     lambda m: m.tall > 1.5 * m.wide and m.thickness <= 4 and m.gain.mean() < -5),
    ("wood", "hole", "is dark inside", lambda m: np.percentile(m.now, 10) < 0.6 * m.was.mean()),
    ("wood", "dent", "shows by light and shadow only", lit_differently),
    ("wood", "scratch", "catches the light",
     lambda m: (m.now.max(axis=1) > m.was.max(axis=1)).mean() > 0.3),
    ("wood", "stain", "darkens", lambda m: m.gain.mean() < -5),
    ("nut", "blocked_bore", "is inside the bore",
     lambda m: m.middle < 0.2 and m.mask.mean() < 0.06),
    ("nut", "rust", "is brown", lambda m: browner(m) > 5),
    *(("tablet", defect, "is on the face and not at the rim", lambda m: m.off_centre.max() < 0.33)
      for defect in ("wrong_print", "missing_print")),
    ("tablet", "missing_print", "takes ink away", lambda m: m.gain.mean() > 0),
    ("tablet", "wrong_print", "moves ink", lambda m: m.gain.min() < -10 and m.gain.max() > 10),
    ("tablet", "chipped_edge", "is at the rim", lambda m: m.off_centre.max() > 0.28),
    ("connector", "missing_pin", "leaves a dark hole",
     lambda m: regions(m.mask) == 1 and m.now.mean() < 0.75 * m.was.mean()),
    ("connector", "bent_pin", "moves its light inside its cavity",
     lambda m: max(m.tall, m.wide) <= connector.PITCH * SIZE
     and m.gain.max() > 20 and m.gain.min() < -20),
    ("connector", "short", "reaches from one contact to the next",
     lambda m: longest(m.mask) > 0.8 * connector.PITCH * SIZE),
    ("component", "misplaced_leg", "is marked at its hole and at the wrong one", in_a_wrong_hole),
    ("component", "misplaced", "is marked where it is and where it should be", away_from_its_place),
    ("component", "missing_leg", "is marked from body to hole",
     lambda m: reached(m.mask, component.HOLES) == 1),
]  # fmt: skip

MOSTLY = [
    *(("fabric", defect, "follows the yarn", lambda m: max(m.tall, m.wide) / min(m.tall, m.wide), 2)
      for defect in ("broken_yarn", "miswoven")),
    ("terrazzo", "foreign_chip", "is more colourful than the stone before",
     lambda m: np.ptp(m.now, axis=1).mean() - np.ptp(m.was, axis=1).mean(), 15),
    ("wood", "stain", "spreads further along the grain", lambda m: m.tall / m.wide, 1.15),
    *(("nut", defect, "shows the paper or its shadow", lambda m: -m.gain.mean(), 0)
      for defect in ("broken_corner", "pressed_side")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "defect", "words", "claim"), LOOKS)
def test_a_defect_always_looks_as_it_should(name, defect, words, claim):
    assert [n for n, s in enumerate(shots(name, defect)) if not claim(marked(s))] == [], words


@pytest.mark.parametrize(("name", "defect", "words", "measure", "least"), MOSTLY)
def test_a_defect_mostly_looks_as_it_should(name, defect, words, measure, least):
    assert np.median([measure(marked(shot)) for shot in shots(name, defect)]) > least, words


def test_a_hole_in_terrazzo_is_half_in_shade():
    for shot in shots("terrazzo", "hole", 192)[:6]:
        shaded, lit = np.percentile(shot.image[shot.mask].mean(axis=1), (10, 90))
        assert shaded < 0.6 * np.median(shot.twin)
        assert lit > shaded + 30


def test_some_floats_are_of_the_blue_warp_and_some_of_the_natural_weft():
    turned_blue = [-browner(marked(shot)) for shot in shots("fabric", "miswoven")]
    assert max(turned_blue) > 5
    assert min(turned_blue) < -5


def test_every_wrong_hole_is_a_hole_that_no_leg_belongs_in():
    for hole in sum(component.WRONG_HOLES, ()):
        assert hole not in component.HOLES
        assert all(float(place).is_integer() for place in hole)


def test_every_character_can_be_mistaken_for_others():
    for character in "".join(tablet.CODE):
        assert set(tablet.OTHERS[character]) - {character}
        assert character not in tablet.OTHERS[character]


# The looks of good examples


def test_a_third_of_the_crossings_show_the_natural_weft():
    fabric = find_drawn("fabric")
    for seed in range(6):
        picture = fabric.draw(SIZE, np.random.default_rng(seed), None, np.random.default_rng(0))
        assert 0.2 < (picture[..., 0] > 0.8 * picture[..., 2]).mean() < 0.45


@pytest.mark.parametrize(("name", "axis", "ratio"), [("metal", 0, 1.2), ("wood", 1, 1.3)])
def test_streaks_of_metal_run_across_and_the_grain_of_wood_down(name, axis, ratio):
    for image in good(name, SIZE):
        grey = image.mean(axis=2)
        across, along = (np.diff(grey, axis=a).std() for a in (axis, 1 - axis))
        assert across > ratio * along


def test_a_nut_lies_any_way_round_but_is_always_whole():
    shares = [float((image.mean(axis=2) > 150).mean()) for image in good("nut", 96)]
    assert min(shares) > 0.05
    assert max(shares) / min(shares) < 2.5


def test_gravel_is_a_photograph_whose_test_part_is_never_trained_on(monkeypatch):
    """Where the part for training is painted black and the other white, so are the images."""
    assert gravel.CATEGORY in AVAILABLE and gravel.CATEGORY not in CATEGORIES
    painted = np.full((512, 512), 0.5, np.float32)
    painted[:, :320], painted[:, 352:] = 0.2, 0.8
    monkeypatch.setattr(gravel, "_photograph", lambda: painted)
    counts = dataset.ImageCounts(train=40, good=40, defective=0)
    drawn = dataset.draw_category("gravel", 32, counts, progress=False)
    assert drawn.train.max() < 100 and drawn.test.min() > 130
    places = [gravel.crop_place(gravel.TEST_COLUMNS, np.random.default_rng(n)) for n in range(400)]
    left, top = np.array(places).T
    assert (left.min(), left.max() + gravel.CROP) == (352, 512)
    assert top.min() < 20 and top.max() + gravel.CROP > 492


def test_the_file_of_gravel_is_the_one_that_its_licence_speaks_of():
    file = Path(gravel.__file__).with_name("gravel.png")
    assert "CC0" in file.with_name("gravel.licence.md").read_text()
    with Image.open(file) as image:
        assert (image.size, image.mode) == ((512, 512), "L")


def test_an_empty_hole_looks_like_any_other():
    """The board repeats itself from pitch to pitch but for noise."""
    strip = photograph(component.CATEGORY, 252, (5,)).astype(np.float32)[:, :60].mean(axis=2)
    same, half = (np.abs(strip[shift:] - strip[:-shift]).mean() for shift in (28, 14))
    assert same < 0.5 * half


# Data sets

FEW = ImageCounts(train=3, good=2, defective=1)


def write(
    folder: Path,
    size: int = 32,
    name: str = "metal",
    seed: int = 0,
    counts: ImageCounts = FEW,
) -> Path:
    return write_category(name, folder, size, counts, seed, progress=False)


def test_the_files_hold_the_same_as_memory(tmp_path):
    images = draw_category("metal", 64, FEW, seed=3, progress=False)
    category = find_category(write(tmp_path, 64, seed=3))
    assert (category.name, len(category.train), category.has_masks) == ("metal", 3, True)
    for pixels, path in zip(images.train, category.train, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))
    on_disk = {(t.defect, t.path.stem): t for t in category.test}
    place = {}
    for pixels, mask, defect in zip(images.test, images.masks, images.defects, strict=True):
        n = place[defect] = place.get(defect, -1) + 1
        found = on_disk.pop((defect, f"{n:03d}"))
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(found.path)))
        assert mask.any() == (defect != "good")
        if found.mask is not None:
            np.testing.assert_array_equal(mask, read_mask(found.mask, 64).pixels > 0)
    assert not on_disk


def test_an_image_does_not_depend_on_how_many_others_are_drawn():
    few = draw_category("metal", 32, ImageCounts(2, 1, 1), progress=False)
    more = draw_category("metal", 32, ImageCounts(4, 2, 2), progress=False)
    other = draw_category("metal", 32, ImageCounts(2, 1, 1), seed=1, progress=False)
    np.testing.assert_array_equal(few.train, more.train[:2])
    np.testing.assert_array_equal(few.test[0], more.test[0])
    assert (other.train != few.train).any()


MADE = {"version": 1, "size": 32, "seed": 0, "train": 3, "good": 2, "defective": 1}


def interrupt(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int = 3, **options) -> Path:
    """A category whose drawing ended after some images."""
    calls = itertools.count()

    def stop(*job: Any) -> Any:
        if next(calls) >= after:
            raise KeyboardInterrupt
        return draw(*job)

    draw = dataset._draw
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dataset, "_draw", stop)
        write(folder, **options)
    return folder / "metal"


def test_a_complete_category_is_kept_and_an_interrupted_one_is_finished(tmp_path, monkeypatch):
    root = interrupt(tmp_path, monkeypatch)
    assert json.loads((root / "made.json").read_text()) == {**MADE, "unfinished": True}
    assert drawn_settings(root) is None
    (root / "made.json.abc.destseg.partial").touch()  # killed while it was written
    (root / "train/good/001.png.abc.destseg.partial").touch()
    assert write(tmp_path) == root
    assert json.loads((root / "made.json").read_text()) == MADE == drawn_settings(root)
    assert not list(root.rglob("*.partial")) and len(list(root.rglob("*.png"))) == 15
    stamp = (root / "train/good/000.png").stat().st_mtime_ns
    assert write(tmp_path) == root
    assert (root / "train/good/000.png").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": 64}, "size 32 instead of 64"),
        ({"seed": 1}, "seed 0 instead of 1"),
        ({"counts": ImageCounts(4, 2, 1)}, "train 3 instead of 4"),
    ],
)
def test_an_interrupted_category_is_continued_with_its_settings_only(
    tmp_path, monkeypatch, change, told
):
    root = interrupt(tmp_path, monkeypatch)
    before = contents(root)
    with pytest.raises(DeSTSegError, match=rf"metal was begun to be drawn with other.*{told}"):
        write(tmp_path, **change)
    assert contents(root) == before
    write(tmp_path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "train/good/000.png",
        "train/good/my own.jpg",
        "train/good/9.png",
        "test/crack/0.png",
        "a.txt",
    ],
)
@pytest.mark.parametrize("state", ["absent", "interrupted", "complete by 0.1"])
def test_nothing_is_drawn_among_a_users_photographs(tmp_path, monkeypatch, name, state):
    root = tmp_path / "metal"
    if state == "interrupted":
        interrupt(tmp_path, monkeypatch)
    elif state == "complete by 0.1":
        (write(tmp_path) / LIST).unlink()
        if name == "train/good/000.png":
            (root / "train/good/001.png").unlink()  # there is something to draw
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"a photograph")
    before = contents(root)
    with pytest.raises(DeSTSegError, match="choose another folder"):
        write(tmp_path)
    assert contents(root) == before
    assert drawn_settings(root) is None


def test_a_link_in_the_folder_is_not_drawn_through(tmp_path):
    photographs = tmp_path / "photographs"
    (photographs / "good").mkdir(parents=True)
    (tmp_path / "metal").mkdir()
    (tmp_path / "metal/train").symlink_to(photographs)
    with pytest.raises(DeSTSegError, match="holds train, which is no file of the drawn"):
        write(tmp_path)
    assert not list((photographs / "good").iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_manifest_that_says_nothing_is_named(tmp_path, text):
    (write(tmp_path) / "made.json").write_text(text)
    with pytest.raises(DeSTSegError, match=r"made\.json does not say what metal was drawn with"):
        write(tmp_path)


def test_a_users_file_is_not_taken_for_a_lock(tmp_path):
    (tmp_path / ".metal.lock").write_text("mine")
    with pytest.raises(DeSTSegError, match="is not a lock of destseg"):
        write(tmp_path)
    assert (tmp_path / ".metal.lock").read_text() == "mine"


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    write(tmp_path)
    with pytest.raises(DeSTSegError, match=r"size 32 instead of 64.*remove the folder"):
        write(tmp_path, 64)
    (tmp_path / "terrazzo").mkdir()
    (tmp_path / "terrazzo/notes.txt").write_text("mine")
    with pytest.raises(DeSTSegError, match=r"holds notes\.txt, which is no file of the"):
        write(tmp_path, name="terrazzo")
    assert [p.name for p in (tmp_path / "terrazzo").iterdir()] == ["notes.txt"]


def test_impossible_drawings_are_refused(tmp_path):
    with pytest.raises(DeSTSegError, match=r"no drawn category 'spoon'; choose one of .*metal"):
        find_drawn("spoon")
    with pytest.raises(DeSTSegError, match="has no defect 'rust'; choose one of"):
        photograph_defect(find_drawn("terrazzo"), "rust", 64, (0,))
    with pytest.raises(DeSTSegError, match="size is 16; draw with a whole number of 32 or more"):
        photograph(find_drawn("metal"), 16, (0,))
    with pytest.raises(DeSTSegError, match="train is -1; give zero or more"):
        ImageCounts(train=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DeSTSegError, match="could not be written"):
        write(tmp_path / "file")


def test_an_invisible_defect_is_an_error_and_not_an_empty_mask():
    draw = find_drawn("metal").draw
    unchanging = DrawnCategory("plain", "texture", ("no",), lambda s, a, _, b: draw(s, a, None, b))
    with pytest.raises(DeSTSegError, match="gave nothing that can be seen"):
        photograph_defect(unchanging, "no", 32, (0,))


def test_the_contact_sheets_show_the_present_drawings():
    tool = Path(__file__).resolve().parent.parent / "tools" / "weights" / "contact_sheets.py"
    command = [sys.executable, tool, "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 0.5}, {"size": -5}, {"size": 31}, {"size": 64.0}, {"size": "64"}],
)
def test_a_size_or_a_seed_that_nothing_can_be_drawn_with_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(
        DeSTSegError, match=rf"{name} is .*; draw with a whole number of \d+ or more"
    ):
        draw_category("metal", **{"size": 64, "progress": False, **wrong})
