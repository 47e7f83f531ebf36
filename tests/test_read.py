"""Decoding of single files: images of every kind, masks, and files that cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from permissions import message_as_nobody, needs_fork
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.read import brightest, image_size, read_image, read_mask, resize
from destseg_lib.images.view import View


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


def test_images_in_memory_are_resized_as_files_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)
    small = resize(images, 12)
    for n, image in enumerate(images):
        path = save(tmp_path / f"{n}.png", image)
        np.testing.assert_array_equal(small[n], read_image(path, 12))


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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "clear.png"
    if mode == "P":
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([10, 20, 30, 200, 200, 200])
        palette.putpixel((0, 0), 1)
        palette.save(path, transparency=0)
    else:
        colours = Image.new("RGB", (4, 4), (200, 200, 200)).convert(mode)
        opacity = np.zeros((4, 4), np.uint8)
        opacity[0], opacity[2] = 255, 51
        colours.putalpha(Image.fromarray(opacity))
        colours.save(path)
    image = read_image(path, 4)
    assert image[0, 0].tolist() == [200, 200, 200]
    assert image[1, 1].tolist() == image[3, 3].tolist() == [255, 255, 255]
    assert mode == "P" or np.abs(image[2].astype(int) - 244).max() <= 1  # a fifth of the colour


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


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.tif", lambda p: save(p, np.ones((4, 4), np.float32)), "has pixel mode 'F'.*8 or 16"),
        ("a.tif", lambda p: save(p, np.full((4, 4), 70000, np.int32)), "32-bit values .* to 65535"),
        ("a.png", lambda p: p.write_text("text"), "cannot be decoded.*Replace or remove it"),
        ("a.png", lambda p: None, r"cannot be opened \(No such file"),
        (
            "a.tif",
            lambda p: Image.new("1", (8, 8)).save(
                p, save_all=True, append_images=[Image.new("1", (8, 8))]
            ),
            "holds 2 pages or frames, expected one",
        ),
    ],
    ids=["float", "32 bits", "text", "missing", "pages"],
)
def test_what_is_not_one_image_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(DeSTSegError, match=rf"{name} (has )?{message}"):
        read_image(tmp_path / name, 4)


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


@needs_fork
def test_a_file_one_may_not_read_is_named(open_dir: Path) -> None:
    path = save(open_dir / "secret.png")
    path.chmod(0)
    message = message_as_nobody(lambda: read_image(path, 8))
    assert "secret.png cannot be opened (Permission denied)" in message


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


def test_regions_are_counted_before_and_after_resizing(tmp_path: Path) -> None:
    corner = save(tmp_path / "corner.png", np.array([[255, 0], [0, 255]], np.uint8))
    assert read_mask(corner, 2)[1:] == (1, 1)  # touching at a corner
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32], mask[50, 50] = 255, 255  # the speck vanishes
    assert read_mask(save(tmp_path / "m.png", mask), 8)[1:] == (2, 1)


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


def test_a_mask_that_does_not_fit_its_image_is_refused(tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DeSTSegError, match=r"m\.png is 6x5 pixels, but its image is 6x4"):
        read_mask(mask, 4, (6, 4))


def two_regions(first: int, second: int, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((12, 12), dtype)
    mask[1:5, 1:5], mask[7:11, 6:11] = first, second
    return mask


@pytest.mark.parametrize("values", [(200, 100), (255, 1), (1, 8), (1, 1), (100, 100)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, "palette"])
def test_classes_are_anomalous_whatever_their_number(
    tmp_path: Path, values: tuple[int, int], kind: object
) -> None:
    classes = two_regions(*values, np.uint16 if kind is np.uint16 else np.uint8)
    image = Image.fromarray(classes)
    if kind == "palette":
        image = Image.fromarray(classes, "P")
        image.putpalette([level for level in range(256) for _ in range(3)])
    image.save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", 12)
    np.testing.assert_array_equal(found.pixels, two_regions(1, 1))
    assert found.regions_before == 2


def test_classes_that_touch_and_a_thin_dark_line_are_all_anomalous(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:8, 2:8], mask[2:8, 8:14], mask[12, 1:15] = 255, 90, 40
    found = read_mask(save(tmp_path / "m.png", mask), 16)
    np.testing.assert_array_equal(found.pixels, mask > 0)


def soft(mask: np.ndarray) -> np.ndarray:
    """A mask brought to a third of its size with antialiasing: its regions have soft edges."""
    large = Image.fromarray(np.kron(mask, np.ones((8, 8), np.uint8)))
    return np.asarray(large.resize((41, 41), Image.Resampling.BILINEAR))


def test_soft_edges_stay_as_they_are(tmp_path: Path) -> None:
    mask = soft(two_regions(255, 255))
    assert len(np.unique(mask)) > 3
    found = read_mask(save(tmp_path / "m.png", mask), 41)
    np.testing.assert_array_equal(found.pixels, mask >= 128)


def test_a_jpeg_mask_is_read_as_its_original(tmp_path: Path) -> None:
    mask = np.kron(two_regions(255, 255), np.ones((5, 5), np.uint8))
    found = read_mask(save(tmp_path / "m.jpg", mask, quality=85), 60)
    assert np.mean(found.pixels != (mask > 0)) < 0.01


@pytest.mark.parametrize("name", ["m.png", "m.jpg"])
def test_a_mask_of_dark_regions_and_many_shades_is_refused(tmp_path: Path, name: str) -> None:
    mask = soft(two_regions(255, 100)) if name == "m.png" else two_regions(255, 100)
    with pytest.raises(DeSTSegError, match=r"m\.\w+ has regions darker than half of white"):
        read_mask(save(tmp_path / name, mask), 12)


def test_a_mask_without_a_marked_pixel_has_no_region(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.png", np.zeros((5, 5), np.uint8)), 5).regions_before == 0


# 16 bits


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (16, 65535)])
def test_fewer_bits_in_a_file_of_16_are_brought_to_8(tmp_path: Path, bits: int, white: int) -> None:
    ramp16 = np.linspace(0, white, 64).round().astype(np.uint16).reshape(8, 8)
    path = save(tmp_path / "a.png", ramp16)
    assert brightest(path) == white
    expected = (ramp16 * (255 / white)).round()
    np.testing.assert_allclose(read_image(path, 8, View(white))[..., 0], expected, atol=1)


def test_a_value_above_white_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((4, 4), 5000, np.uint16))
    assert (read_image(path, 4, View(4095)) == 255).all()


def test_only_16_bits_have_a_brightest_value(tmp_path: Path) -> None:
    assert brightest(save(tmp_path / "a.png")) is None


def test_all_16_bit_values_are_read_as_before(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = read_image(save(tmp_path / "a.png", every), 256)[..., 0]
    np.testing.assert_array_equal(found, (every.astype(int) + 128) // 257)


# Metadata that is damaged or long does not make a picture unreadable.

EXIF = {
    "no TIFF": b"Exif\0\0garbage",
    "cut short": b"Exif\0\0II*\0",
    "empty": b"Exif\0\0",
    "far away": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "a value of another type": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0a" + bytes(7),
    "nine": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("block", EXIF)
def test_a_broken_exif_block_leaves_the_picture_as_it_is(
    tmp_path: Path, block: str, suffix: str
) -> None:
    plain = save(tmp_path / f"plain.{suffix}")
    broken = save(tmp_path / f"a.{suffix}", exif=EXIF[block])
    np.testing.assert_array_equal(read_image(broken, 16), read_image(plain, 16))
    assert image_size(broken) == image_size(plain)


@pytest.mark.parametrize("zipped", [False, True])
def test_long_text_in_a_png_is_no_damage(tmp_path: Path, zipped: bool) -> None:
    text = PngInfo()
    for number in range(2):
        text.add_text(f"comment {number}", "x" * 40_000_000, zip=zipped)
    path = save(tmp_path / "a.png", pnginfo=text)
    np.testing.assert_array_equal(read_image(path, 16), read_image(save(tmp_path / "b.png"), 16))


def test_a_png_with_text_that_is_cut_short_is_still_refused(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("comment", "x" * 100)
    path = save(tmp_path / "a.png", pnginfo=text)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DeSTSegError, match="is damaged, cut short or not an image"):
        read_image(path, 16)
