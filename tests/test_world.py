"""The embedded world: every product, and the data sets made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from destseg_lib.drawn import CATEGORIES
from destseg_lib.drawn.category import DrawnCategory
from destseg_lib.drawn.dataset import Counts, draw_category, find_drawn, write_category
from destseg_lib.drawn.photograph import photograph, photograph_defect
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_category
from destseg_lib.images.read import read_mask

FEW = Counts(train=3, good=2, defective=1)
CASES = [
    pytest.param(product, defect, id=f"{product.name}-{defect}")
    for product in CATEGORIES
    for defect in product.defects
]
EACH = [pytest.param(product, id=product.name) for product in CATEGORIES]


def test_there_are_textures_and_objects_enough_each_with_its_defects():
    kinds = [product.kind for product in CATEGORIES]
    assert kinds.count("texture") >= 4
    assert kinds.count("object") >= 4
    assert all(len(set(product.defects)) >= 4 for product in CATEGORIES)
    assert len({product.name for product in CATEGORIES}) == len(CATEGORIES)


@pytest.mark.parametrize(("product", "defect"), CASES)
def test_outside_its_mask_a_defective_image_equals_its_twin_and_inside_it_differs(product, defect):
    for seed in range(3):
        drawn = photograph_defect(product, defect, 128, (seed, 5))
        differs = (drawn.image != drawn.twin).any(axis=2)
        assert not (differs & ~drawn.mask).any()
        assert drawn.mask.any()
        assert differs[drawn.mask].mean() > 0.5
        regions, count = ndimage.label(drawn.mask, np.ones((3, 3)))
        for region in range(1, count + 1):
            assert differs[regions == region].any(), "a region of the mask where nothing differs"
        # What it marks can be told from the grain it lies in.
        step = np.abs(drawn.image.astype(int) - drawn.twin)[drawn.mask].max()
        assert step >= 8


@pytest.mark.parametrize(("product", "defect"), CASES)
def test_a_mask_is_a_part_of_the_image_not_most_of_it(product, defect):
    areas = [photograph_defect(product, defect, 96, (s, 6)).mask.mean() for s in range(4)]
    assert max(areas) < 0.4


@pytest.mark.parametrize("product", EACH)
def test_the_twin_is_the_good_photograph_of_the_same_seed(product):
    drawn = photograph_defect(product, product.defects[0], 64, (3, 1))
    np.testing.assert_array_equal(drawn.twin, photograph(product, 64, (3, 1)))


@pytest.mark.parametrize("product", EACH)
def test_a_seed_decides_an_image_and_another_seed_gives_another(product):
    first, again, other = (photograph(product, 64, (0, n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.2


@pytest.mark.parametrize("product", EACH)
@pytest.mark.parametrize("size", [32, 100, 256])
def test_any_size_shows_the_same_scene(product, size):
    def brightness(side):
        image = Image.fromarray(photograph(product, side, (4, 2))).convert("L")
        return np.asarray(image.resize((16, 16), Image.Resampling.BOX), float).ravel()

    assert np.corrcoef(brightness(size), brightness(160))[0, 1] > 0.5


def test_on_disk_lies_what_is_in_memory(tmp_path):
    images = draw_category("metal", 64, FEW, seed=3, progress=False)
    root = write_category("metal", tmp_path, 64, FEW, seed=3, progress=False)
    category = find_category(root)
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
    few = draw_category("metal", 32, Counts(2, 1, 1), progress=False)
    more = draw_category("metal", 32, Counts(4, 2, 2), progress=False)
    np.testing.assert_array_equal(few.train, more.train[:2])
    np.testing.assert_array_equal(few.test[0], more.test[0])
    assert (
        draw_category("metal", 32, Counts(2, 1, 1), seed=1, progress=False).train != few.train
    ).any()


def test_what_is_there_is_kept_and_what_was_interrupted_is_finished(tmp_path):
    root = write_category("metal", tmp_path, 32, FEW, progress=False)
    stamp = (root / "train/good/000.png").stat().st_mtime_ns
    assert write_category("metal", tmp_path, 32, FEW, progress=False) == root
    assert (root / "train/good/000.png").stat().st_mtime_ns == stamp
    (root / "made.json").unlink()
    (root / "train/good/001.png").unlink()
    write_category("metal", tmp_path, 32, FEW, progress=False)
    assert (root / "train/good/001.png").exists()
    assert json.loads((root / "made.json").read_text())["size"] == 32


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    write_category("metal", tmp_path, 32, FEW, progress=False)
    with pytest.raises(DeSTSegError, match=r"size 32 instead of 64.*remove the folder"):
        write_category("metal", tmp_path, 64, FEW, progress=False)
    (tmp_path / "terrazzo").mkdir()
    (tmp_path / "terrazzo/notes.txt").write_text("mine")
    with pytest.raises(DeSTSegError, match="holds files that are not terrazzo's"):
        write_category("terrazzo", tmp_path, 32, FEW, progress=False)
    assert [p.name for p in (tmp_path / "terrazzo").iterdir()] == ["notes.txt"]


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(DeSTSegError, match=r"no product 'spoon'; choose one of .*metal"):
        find_drawn("spoon")
    with pytest.raises(DeSTSegError, match="has no defect 'rust'; choose one of"):
        photograph_defect(find_drawn("terrazzo"), "rust", 64, (0,))
    with pytest.raises(DeSTSegError, match="size is 16; a product needs at least 32 pixels"):
        photograph(find_drawn("metal"), 16, (0,))
    with pytest.raises(DeSTSegError, match="train is -1; give zero or more"):
        Counts(train=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DeSTSegError, match="could not be written"):
        write_category("metal", tmp_path / "file", 32, FEW, progress=False)


def test_a_defect_that_cannot_be_seen_is_an_error_and_not_an_empty_mask():
    metal = find_drawn("metal")
    unchanging = DrawnCategory(
        "plain", "texture", ("none",), lambda s, a, _, b: metal.draw(s, a, None, b)
    )
    with pytest.raises(DeSTSegError, match="gave nothing that can be seen"):
        photograph_defect(unchanging, "none", 32, (0,))


def test_the_contact_sheets_show_what_is_drawn_now():
    tool = Path(__file__).resolve().parent.parent / "tools" / "contact_sheets.py"
    ran = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
