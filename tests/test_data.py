"""Decoding of images and masks, and the layouts a data set may have."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.folders import (
    find_categories,
    find_category,
    find_images,
    image_size,
    read_image,
    read_mask,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"


def ramp(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth RGB picture without symmetry, so that turning or swapping anything shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 9, 200 - x - y], axis=2).astype(np.uint8)


def save(path: Path, pixels: np.ndarray | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp() if pixels is None else pixels).save(path, **options)
    return path


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """The oracle: torch's antialiased bilinear resize of (H, W, C), in floating point."""
    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True)
    return out[0].permute(1, 2, 0).numpy()


def rgb16_png(path: Path, values: np.ndarray) -> Path:
    """A 16-bit RGB PNG, which Pillow reads but does not write."""

    def part(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# --- images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.webp", "a.jpg", "a.JPEG"])
def test_every_format_is_squashed_with_antialiasing(tmp_path: Path, name: str) -> None:
    lossless = {"lossless": True} if name.endswith("webp") else {}
    quality = {"quality": 100, "subsampling": 0} if name.lower().startswith("a.jp") else {}
    path = save(tmp_path / name, **lossless, **quality)
    image = read_image(path, 16)
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    tolerance = 3 if quality else 1
    assert np.abs(image - resized(ramp(), 16)).max() <= tolerance


def test_strong_reduction_averages_and_does_not_pick(tmp_path: Path) -> None:
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    image = read_image(save(tmp_path / "c.png", checks.astype(np.uint8)), 16)
    assert np.abs(image.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_opaque_modes_come_out_as_their_colours(tmp_path: Path, mode: str) -> None:
    grey = np.where(np.arange(64).reshape(8, 8) % 3 == 0, 255, 0).astype(np.uint8)
    path = tmp_path / ("m.tif" if mode == "CMYK" else "m.png")
    Image.fromarray(grey).convert("RGB").convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path, 8), np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3], rgba[1, :, 3], rgba[2:, :, 3] = 255, 0, 51
    image = read_image(save(tmp_path / "rgba.png", rgba), 4)
    assert image[0, 0].tolist() == [200, 0, 0]
    assert image[1, 0].tolist() == [255, 255, 255]
    assert np.abs(image[2, 0] - np.array([244, 204, 204])).max() <= 1  # a fifth of the colour

    grey_alpha = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("LA")
    grey_alpha.putalpha(0)
    grey_alpha.save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png", 4) == 255).all()

    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    image = read_image(tmp_path / "p.png", 4)
    assert image[0, 0].tolist() == [40, 50, 60]
    assert image[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["I;16 png", "I;16 tif", "I;16B tif", "I tif"])
def test_16_bit_grey_goes_from_full_scale_to_full_scale(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 128, 129], [257, 32768, 40000], [65278, 65535, 1000]], np.uint16)
    mode, suffix = kind.split()
    path = tmp_path / f"deep.{suffix}"
    if mode == "I;16B":
        Image.frombytes("I;16B", (3, 3), values.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(values if mode == "I;16" else values.astype(np.int32)).save(path)
    expected = np.round(values / 65535 * 255)
    np.testing.assert_array_equal(read_image(path, 3), np.repeat(expected[..., None], 3, axis=2))


def test_16_bit_colour_keeps_its_scale(tmp_path: Path) -> None:
    values = np.array([[[0, 32768, 65535]] * 2] * 2, np.uint16)
    image = read_image(rgb16_png(tmp_path / "deep.png", values), 2)
    assert image[0, 0].tolist() == [0, 128, 255]


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "float.tif", np.ones((4, 4), np.float32))
    with pytest.raises(DeSTSegError, match=r"float\.tif has pixel mode 'F'.*8 or 16 bits"):
        read_image(path, 4)
    path = save(tmp_path / "wide.tif", np.full((4, 4), 70000, np.int32))
    with pytest.raises(DeSTSegError, match=r"wide\.tif has 32-bit values .* 0 to 65535"):
        read_image(path, 4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = ramp()
    path = save(tmp_path / f"turned.{suffix}", pixels, exif=exif, quality=100)
    # What a viewer does for each value, in NumPy's terms.
    shown = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    assert np.abs(read_image(path, 16) - resized(shown.copy(), 16)).mean() < 4
    assert image_size(path) == (shown.shape[1], shown.shape[0])


def test_a_wrong_suffix_does_not_matter_if_the_content_is_an_image(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg", 16) - resized(ramp(), 16)).max() <= 1


def test_text_called_png_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no image at all")
    with pytest.raises(DeSTSegError, match=r"note\.png cannot be decoded.*Replace or remove it"):
        read_image(tmp_path / "note.png", 8)


@pytest.mark.parametrize("left", [0.0, 0.1, 0.5, 0.9, -20, -5])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_file_cut_short_is_an_error(tmp_path: Path, suffix: str, left: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left if left < 0 else len(whole) * left)])
    with pytest.raises(DeSTSegError, match=rf"cut\.{suffix} cannot be decoded: it is damaged"):
        read_image(path, 8)


def test_damaged_bytes_never_escape_as_another_exception(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "whole.png", exif=Image.Exif())
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    errors = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(8, len(whole), 4)] ^= rng.integers(1, 256, 4, dtype=np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            read_image(path, 8)
        except DeSTSegError:
            errors += 1
    assert errors > 30


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [12, 40])
def test_gigantic_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    path = save(tmp_path / "huge.png", np.zeros((side, side), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above, refuses above twice
    with pytest.raises(DeSTSegError, match=r"huge\.png has more than .*decompression bomb.*Crop"):
        read_image(path, 4)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), value) for value in (0, 255)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DeSTSegError, match=r"pages\.tif holds 2 pages or frames, expected one"):
        read_image(tmp_path / "pages.tif", 8)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"The image .*gone\.png does not exist"):
        read_image(tmp_path / "gone.png", 8)


# --- permissions ----------------------------------------------------------------------------


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder everybody may enter; pytest's own is for its owner alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def message_as_nobody(call: Callable[[], object]) -> str:
    """The DeSTSegError's text when an unprivileged user makes the call, as root may do anything."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            call()
            text = "no error"
        except DeSTSegError as error:
            text = str(error)
        except BaseException as error:
            text = f"not a DeSTSegError: {error!r}"
        os.write(send, text.encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as pipe:
        return pipe.read()


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="permissions are told by fork")


@needs_fork
def test_a_file_one_may_not_read_is_named(open_dir: Path) -> None:
    path = save(open_dir / "secret.png")
    path.chmod(0)
    message = message_as_nobody(lambda: read_image(path, 8))
    assert "secret.png may not be read: permission denied" in message


@needs_fork
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_one_may_not_enter_is_named(open_dir: Path, mode: int) -> None:
    save(open_dir / "closed" / "a.png")
    (open_dir / "closed").chmod(mode)
    for call in (
        lambda: read_image(find_category(open_dir / "closed").train[0], 8),
        lambda: read_image(find_images([open_dir / "closed"])[0], 8),
        lambda: find_images([open_dir / "closed" / "a.png"]),
    ):
        message = message_as_nobody(call)
        assert "ermission denied" in message
        assert "closed" in message
        assert "not a DeSTSegError" not in message
    (open_dir / "closed").chmod(0o755)


# --- masks ----------------------------------------------------------------------------------


def flood_count(mask: np.ndarray) -> int:
    """8-connected regions by brute force."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = 0
    while todo:
        regions += 1
        front = [todo.pop()]
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            front.extend(near)
    return regions


@pytest.mark.parametrize("seed", range(5))
def test_mask_is_resized_with_antialiasing_and_thresholded_at_half(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((9, 7)) > 0.6
    mask = np.kron(coarse, np.ones((5, 8))).astype(np.uint8)  # 45 x 56
    mask[rng.integers(0, 45, 6), rng.integers(0, 56, 6)] = 1  # specks that the resizing removes
    path = save(tmp_path / "m.png", mask * 255)
    result = read_mask(path, 16, (56, 45))
    oracle = resized(mask[..., None], 16)[..., 0]
    clear = np.abs(oracle - 0.5) > 1e-4
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (16, 16)
    np.testing.assert_array_equal(result.pixels[clear], oracle[clear] >= 0.5)
    assert result.regions_before == flood_count(mask)
    assert result.regions_after == flood_count(result.pixels)


def test_regions_touching_at_a_corner_are_one(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[255, 0], [0, 255]], np.uint8))
    assert read_mask(path, 2, None)[1:] == (1, 1)


def test_a_region_that_resizing_removes_is_counted_before_only(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32], mask[50, 50] = 255, 255
    result = read_mask(save(tmp_path / "m.png", mask), 8, None)
    assert (result.regions_before, result.regions_after) == (2, 1)


@pytest.mark.parametrize("kind", ["grey", "1", "RGB", "red", "P", "16-bit", "RGBA"])
def test_masks_of_every_kind_mark_the_same_pixels(tmp_path: Path, kind: str) -> None:
    wanted = np.zeros((6, 6), bool)
    wanted[1:4, 2:5] = True
    image = Image.fromarray(wanted.astype(np.uint8) * 255)
    if kind == "grey":  # soft edges on both sides of one half
        image = Image.fromarray(np.where(wanted, 128, 127).astype(np.uint8))
    elif kind == "red":
        image = Image.merge("RGB", [image, Image.new("L", (6, 6)), Image.new("L", (6, 6))])
    elif kind == "P":
        image = Image.fromarray(wanted.astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0])
    elif kind == "16-bit":
        image = Image.fromarray(wanted.astype(np.uint16) * 65535)
    elif kind == "RGBA":  # painted on a transparent layer
        layer = Image.new("RGBA", (6, 6), (255, 255, 255, 0))
        layer.putalpha(image)
        image = layer
    else:
        image = image.convert(kind)
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 6, (6, 6)).pixels, wanted)


def test_a_mask_of_zeros_and_ones_is_refused_not_emptied(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.eye(4, dtype=np.uint8))
    with pytest.raises(DeSTSegError, match=r"m\.png is nowhere brighter than 1 of 255"):
        read_mask(path, 4, None)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(DeSTSegError, match=r"m\.png is 6x4 pixels, but its image is 6x5"):
        read_mask(path, 4, (6, 5))


# --- layouts --------------------------------------------------------------------------------


@pytest.fixture
def category(tmp_path: Path) -> Path:
    root = tmp_path / "nut"
    grey = np.full((4, 6), 255, np.uint8)
    for name in ("train/good/1.png", "train/good/0.JPG", "test/good/0.png"):
        save(root / name)
    for name in ("test/bent/0.png", "test/bent/1.png", "test/cut/0.png"):
        save(root / name, np.zeros((4, 6, 3), np.uint8))
    for name in ("bent/0_mask.png", "bent/1.bmp", "cut/0_mask.png"):
        save(root / "ground_truth" / name, grey)
    return root


def test_category_in_mvtec_layout(category: Path) -> None:
    (category / "license.txt").write_text("mine")
    (category / "train/good/.DS_Store").write_text("")
    (category / "train/good/._0.png").write_text("")
    (category / "train/good/notes.txt").write_text("")
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
    with pytest.raises(DeSTSegError, match=r"stray lies among categories but has no train/good"):
        find_categories(category.parent)


def break_layout(root: Path, how: str) -> None:
    grey = np.full((4, 6), 255, np.uint8)
    match how:
        case "no mask":
            (root / "ground_truth/bent/0_mask.png").unlink()
        case "no mask folder":
            shutil.rmtree(root / "ground_truth/cut")
        case "no image":
            save(root / "ground_truth/bent/7_mask.png", grey)
        case "no test folder":
            save(root / "ground_truth/dent/0_mask.png", grey)
        case "size":
            save(root / "ground_truth/bent/0_mask.png", grey.T)
        case "turned":  # the mask fits the stored image, not the one shown
            exif = Image.Exif()
            exif[0x0112] = 6
            save(root / "test/bent/0.png", np.zeros((4, 6, 3), np.uint8), exif=exif)
        case "two masks":
            save(root / "ground_truth/bent/0.png", grey)
        case "two suffixes":
            save(root / "ground_truth/bent/0_mask.bmp", grey)
        case "two images":
            save(root / "test/bent/0.bmp", np.zeros((4, 6, 3), np.uint8))
        case "mask of good":
            save(root / "ground_truth/good/0_mask.png", grey)
        case "broken mask":
            (root / "ground_truth/bent/0_mask.png").write_text("no image")
        case "no train":
            shutil.rmtree(root / "train")
        case "no good":
            (root / "train/good").rename(root / "train/fine")
        case "extra train":
            save(root / "train/bad/0.png")
        case "empty good":
            shutil.rmtree(root / "train/good")
            (root / "train/good").mkdir()
        case "text in good":
            shutil.rmtree(root / "train/good")
            (root / "train/good").mkdir()
            (root / "train/good/list.txt").write_text("")
        case "empty test":
            shutil.rmtree(root / "test")
            (root / "test").mkdir()
        case "empty defect":
            (root / "test/void").mkdir()
        case "image in test":
            save(root / "test/0.png")
        case "nested":
            save(root / "train/good/more/0.png")
        case "gif":
            save(root / "train/good/2.gif")
        case "file for folder":
            shutil.rmtree(root / "ground_truth")
            (root / "ground_truth").write_text("")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no mask", r"bent.0\.png has no mask\. Expected .*bent.0_mask\.png"),
        ("no mask folder", r"cut.0\.png has no mask\. Expected .*cut.0_mask\.png"),
        ("no image", r"7_mask\.png has no image: nothing in test/bent is called 7\."),
        ("no test folder", r"ground_truth.dent has masks, but there is no folder .*test.dent"),
        ("size", r"0_mask\.png is 4x6 pixels, but its image is 6x4"),
        ("turned", r"0_mask\.png is 6x4 pixels, but its image is 4x6"),
        ("two masks", r"0_mask\.png and .*0\.png both fit .*0\.png"),
        ("two suffixes", r"0_mask\.bmp and .*0_mask\.png mark the same image"),
        ("two images", r"0_mask\.png fits two images, .*0\.bmp and .*0\.png"),
        ("mask of good", r"ground_truth.good has masks, but normal images"),
        ("broken mask", r"0_mask\.png cannot be decoded"),
        ("no train", r"(?s)no folder .*train.good of normal images.*Expected one of"),
        ("no good", r"(?s)no folder .*train.good of normal images.*Expected one of"),
        ("extra train", r"(?s)Unexpected .*train.bad.*Expected one of"),
        ("empty good", r"(?s)train.good is empty.*\.png.*Expected one of"),
        ("text in good", r"(?s)holds no images, only other files such as list\.txt.*Expected one"),
        ("empty test", r"(?s)test is empty.*Expected one of"),
        ("empty defect", r"(?s)void is empty.*Expected one of"),
        ("image in test", r"(?s)Unexpected .*test.0\.png.*Expected one of"),
        ("nested", r"(?s)Unexpected folder .*good.more: .*should hold images only"),
        ("gif", r"2\.gif is in a format that is not read\. Convert it"),
        ("file for folder", r"ground_truth is a file, expected a folder"),
    ],
)
def test_broken_layouts_are_named(category: Path, how: str, message: str) -> None:
    find_category(category)
    break_layout(category, how)
    with pytest.raises(DeSTSegError, match=message):
        find_category(category)


def test_an_unreadable_test_image_is_left_to_decoding(category: Path) -> None:
    (category / "test/bent/0.png").write_text("no image")
    assert find_category(category).test[0].path.name == "0.png"


def test_roots_that_are_no_data_are_named(tmp_path: Path) -> None:
    for find in (find_category, find_categories):
        with pytest.raises(DeSTSegError, match=r"(?s)gone does not exist.*Expected one of"):
            find(tmp_path / "gone")
        with pytest.raises(DeSTSegError, match=r"(?s)is empty.*Expected one of"):
            find(tmp_path)
    path = save(tmp_path / "sub" / "a.png")
    with pytest.raises(DeSTSegError, match=r"a\.png is a file, expected a folder"):
        find_category(path)
    with pytest.raises(DeSTSegError, match=r"holds no images, only folders such as sub"):
        find_categories(tmp_path)


# --- images for prediction ------------------------------------------------------------------


def test_images_are_found_below_folders_once_and_in_order(tmp_path: Path) -> None:
    names = ["b.png", "a.jpg", "deep/er/c.WEBP", "deep/d.tif", "deeper/e.bmp"]
    paths = [save(tmp_path / name) for name in names]
    (tmp_path / "deep/readme.txt").write_text("")
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    found = find_images([paths[0], tmp_path])
    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "b.png",
        "a.jpg",
        "deep/d.tif",
        "deep/er/c.WEBP",
        "deeper/e.bmp",
    ]


def test_predicting_on_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    save(tmp_path / "odd" / "a.gif")
    with pytest.raises(DeSTSegError, match="No images were named"):
        find_images([])
    with pytest.raises(DeSTSegError, match=r"gone cannot be opened \(No such file"):
        find_images([tmp_path / "gone"])
    with pytest.raises(DeSTSegError, match=r"a\.txt is in a format that is not read"):
        find_images([tmp_path / "a.txt"])
    with pytest.raises(DeSTSegError, match=r"a\.gif is in a format that is not read"):
        find_images([tmp_path])
    (tmp_path / "odd" / "a.gif").unlink()
    with pytest.raises(DeSTSegError, match="holds no images"):
        find_images([tmp_path])


# --- real data ------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
def test_real_categories_have_the_counts_they_are_known_by() -> None:
    tiles = find_category(SHARED / "magnetic_tile")
    defects = [t for t in tiles.test if t.defect != "good"]
    assert (len(tiles.train), len(tiles.test) - len(defects), len(defects)) == (761, 191, 392)
    assert tiles.has_masks
    assert all(t.mask is not None for t in defects)
    screw = find_category(SHARED / "mvtec_screw")
    assert (len(screw.train), len(screw.test), screw.has_masks) == (320, 160, False)
    first = defects[0]
    assert first.mask is not None
    assert read_mask(first.mask, 64, image_size(first.path)).pixels.any()
    assert read_image(screw.train[0], 256).shape == (256, 256, 3)
