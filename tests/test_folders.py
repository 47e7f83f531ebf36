"""The layouts a data set may have, and what is said about folders that have none of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from permissions import message_as_nobody, needs_fork
from PIL import Image
from test_read import save

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import find_categories, find_category, find_images
from destseg_lib.images.read import image_size, read_image, read_mask

WHITE = np.full((4, 6), 255, np.uint8)
BLACK = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def category(tmp_path: Path) -> Path:
    root = tmp_path / "nut"
    for name in ("train/good/1.png", "train/good/0.JPG", "test/good/0.png"):
        save(root / name)
    for name in ("test/bent/0.png", "test/bent/1.png", "test/cut/0.png"):
        save(root / name, BLACK)
    for name in ("bent/0_mask.png", "bent/1.bmp", "cut/0_mask.png"):
        save(root / "ground_truth" / name, WHITE)
    return root


def test_category_in_mvtec_layout(category: Path) -> None:
    for name in ("license.txt", "train/good/.DS_Store", "train/good/._0.png", "train/good/a.txt"):
        (category / name).write_text("")
    found = find_category(category)
    assert found.name == "nut"
    assert found.train == (category / "train/good/0.JPG", category / "train/good/1.png")
    assert [(t.path.name, t.defect, t.mask and t.mask.name) for t in found.test] == [
        ("0.png", "bent", "0_mask.png"),
        ("1.png", "bent", "1.bmp"),
        ("0.png", "cut", "0_mask.png"),
        ("0.png", "good", None),
    ]
    assert found.has_masks
    assert find_categories(category) == (found,)


def test_category_without_ground_truth_has_no_masks(category: Path) -> None:
    shutil.rmtree(category / "ground_truth")
    found = find_category(category)
    assert len(found.test) == 4
    assert not found.has_masks


def test_plain_folder_is_a_category_to_train_on(tmp_path: Path) -> None:
    save(tmp_path / "b.png")
    save(tmp_path / "a.jpg")
    found = find_category(tmp_path)
    assert [path.name for path in found.train] == ["a.jpg", "b.png"]
    assert found.test == ()
    assert not found.has_masks


def test_folder_of_categories(category: Path) -> None:
    shutil.copytree(category, category.parent / "bolt")
    (category.parent / "readme.txt").write_text("")
    found = find_categories(category.parent)
    assert [c.name for c in found] == ["bolt", "nut"]
    assert found[1] == find_category(category)
    (category.parent / "stray").mkdir()
    with pytest.raises(DeSTSegError, match=r"stray is among categories but has no train/good"):
        find_categories(category.parent)


def put(name: str, pixels: np.ndarray = WHITE) -> Callable[[Path], object]:
    return lambda root: save(root / name, pixels)


def emptied(name: str) -> Callable[[Path], object]:
    def empty(root: Path) -> None:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()

    return empty


def turned(root: Path) -> None:
    """The mask fits the stored image, not the one shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "test/bent/0.png", BLACK, exif=exif)


def text_instead(root: Path) -> None:
    emptied("train/good")(root)
    (root / "train/good/list.txt").write_text("")


def file_for_folder(root: Path) -> None:
    shutil.rmtree(root / "ground_truth")
    (root / "ground_truth").write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "ground_truth/bent/0_mask.png").unlink(),
         r"bent.0\.png has no mask\. Expected .*bent.0_mask\.png"),
        (lambda root: shutil.rmtree(root / "ground_truth/cut"),
         r"cut.0\.png has no mask\. Expected .*cut.0_mask\.png"),
        (put("ground_truth/bent/7_mask.png"),
         r"7_mask\.png has no image: nothing in test/bent is called 7\."),
        (put("ground_truth/dent/0_mask.png"),
         r"ground_truth.dent is for masks, but .*test.dent has no defective images"),
        (put("ground_truth/good/0_mask.png"),
         r"ground_truth.good is for masks, but .*test.good has no defective images"),
        (put("ground_truth/bent/0_mask.png", WHITE.T),
         r"0_mask\.png is 4x6 pixels, but its image is 6x4"),
        (turned, r"0_mask\.png is 6x4 pixels, but its image is 4x6"),
        (put("ground_truth/bent/0.png"), r"0\.png and .*0_mask\.png mark the same image"),
        (put("ground_truth/bent/0_mask.bmp"), r"0_mask\.bmp and .*0_mask\.png mark the same image"),
        (put("test/bent/0.bmp", BLACK), r"fit two images, .*0\.bmp and .*0\.png"),
        (lambda root: (root / "ground_truth/bent/0_mask.png").write_text("no image"),
         r"0_mask\.png cannot be decoded"),
        (lambda root: shutil.rmtree(root / "train"),
         r"(?s)no folder .*train.good of normal images.*Expected one of"),
        (lambda root: (root / "train/good").rename(root / "train/fine"),
         r"(?s)no folder .*train.good of normal images.*Expected one of"),
        (put("train/bad/0.png"), r"(?s)Unexpected .*train.bad.*Expected one of"),
        (emptied("train/good"), r"(?s)train.good is empty.*\.png.*Expected one of"),
        (text_instead, r"(?s)holds no images, only .* such as list\.txt.*Expected one"),
        (emptied("test"), r"(?s)test is empty.*Expected one of"),
        (emptied("test/void"), r"(?s)void is empty.*Expected one of"),
        (put("test/0.png"), r"(?s)Unexpected .*test.0\.png.*Expected one of"),
        (put("train/good/more/0.png"), r"(?s)Unexpected .*good.more: .*Move it away.*Expected one"),
        (put("train/good/2.gif"), r"2\.gif is not in a supported format\. Convert it"),
        (file_for_folder, r"ground_truth is a file, expected a folder"),
    ],
)  # fmt: skip
def test_broken_layouts_are_named(
    category: Path, spoil: Callable[[Path], object], message: str
) -> None:
    find_category(category)
    spoil(category)
    with pytest.raises(DeSTSegError, match=message):
        find_category(category)


def test_masks_may_have_the_names_of_their_images_whatever_these_are(category: Path) -> None:
    (category / "test/bent/0.png").rename(category / "test/bent/0_mask.png")
    assert find_category(category).test[0].mask == category / "ground_truth/bent/0_mask.png"


def test_an_unreadable_test_image_is_left_to_decoding(category: Path) -> None:
    (category / "test/bent/0.png").write_text("no image")
    assert find_category(category).test[0].path.name == "0.png"


def test_roots_that_are_no_data_are_named(tmp_path: Path) -> None:
    for find in (find_category, find_categories):
        with pytest.raises(DeSTSegError, match=r"(?s)gone cannot be listed.*Expected one of"):
            find(tmp_path / "gone")
        with pytest.raises(DeSTSegError, match=r"(?s)is empty.*Expected one of"):
            find(tmp_path)
    path = save(tmp_path / "sub" / "a.png")
    with pytest.raises(DeSTSegError, match=r"a\.png cannot be listed \(Not a directory"):
        find_category(path)
    with pytest.raises(DeSTSegError, match=r"holds no images, only .* such as sub"):
        find_categories(tmp_path)


@needs_fork
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_one_may_not_enter_is_named(open_dir: Path, mode: int) -> None:
    closed = open_dir / "closed"
    save(closed / "a.png")
    closed.chmod(mode)
    for call in (
        lambda: read_image(find_category(closed).train[0], 8),
        lambda: read_image(find_images([closed])[0], 8),
        lambda: find_images([closed / "a.png"]),
    ):
        message = message_as_nobody(call)
        assert "Permission denied" in message
        assert "closed" in message
        assert "not a DeSTSegError" not in message
    closed.chmod(0o755)


def test_images_are_found_below_folders_once_and_in_order(tmp_path: Path) -> None:
    names = ["b.png", "a.jpg", "deep/er/c.WEBP", "deep/d.tif", "deeper/e.bmp"]
    paths = [save(tmp_path / name) for name in names]
    (tmp_path / "deep/readme.txt").write_text("")
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    found = find_images([paths[0], tmp_path])
    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "b.png", "a.jpg", "deep/d.tif", "deep/er/c.WEBP", "deeper/e.bmp",
    ]  # fmt: skip


def test_predicting_on_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "odd" / "a.gif")
    for names, message in (
        ([], "No images were named"),
        (["gone"], r"gone cannot be opened \(No such file"),
        (["a.txt"], r"a\.txt is not in a supported format"),
        (["."], r"a\.gif is not in a supported format"),
        (["empty"], "empty holds no images"),
    ):
        with pytest.raises(DeSTSegError, match=message):
            find_images([tmp_path / name for name in names])


def test_real_categories_have_the_counts_they_are_known_by(shared: Path) -> None:
    tiles = find_category(shared / "data/magnetic_tile")
    defects = [t for t in tiles.test if t.defect != "good"]
    assert (len(tiles.train), len(tiles.test) - len(defects), len(defects)) == (761, 191, 392)
    assert tiles.has_masks
    assert all(t.mask is not None for t in defects)
    screw = find_category(shared / "data/mvtec_screw")
    assert (len(screw.train), len(screw.test), screw.has_masks) == (320, 160, False)
    first = defects[0]
    assert first.mask is not None
    assert read_mask(first.mask, 64, image_size(first.path)).pixels.any()
    assert read_image(screw.train[0], 256).shape == (256, 256, 3)
