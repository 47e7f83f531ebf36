"""Large photographs: the part that is looked at, and tiles that keep small defects visible."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tiny import TINY, tiny_model

from destseg_lib.cli import main
from destseg_lib.config import ModelConfig, TrainingConfig, override, quick_recipe
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.evaluation.predict import predict
from destseg_lib.images.folders import find_category
from destseg_lib.images.read import read_image, read_mask
from destseg_lib.images.view import View
from destseg_lib.model import PredictedMaps
from destseg_lib.runs.exported import looking_at
from destseg_lib.runs.inputs import Selection
from destseg_lib.runs.run import Run, load_run
from destseg_lib.runs.tiles import covered, cut, decoded_size, map_size, stitch, tiled_maps
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

CPU = torch.device("cpu")
SIDE = 2048


# The part that is looked at


def photograph(path: Path, size: tuple[int, int] = (60, 40), orientation: int = 1) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_a_part_is_what_cutting_the_photograph_by_hand_gives(tmp_path: Path) -> None:
    path = photograph(tmp_path / "a.png")
    with Image.open(path) as image:
        image.crop((10, 5, 42, 37)).save(tmp_path / "part.png")
    found = read_image(path, 16, View(crop=(10, 5, 32, 32)))
    np.testing.assert_array_equal(found, read_image(tmp_path / "part.png", 16))


def test_a_part_is_counted_in_the_photograph_as_it_is_shown(tmp_path: Path) -> None:
    turned = photograph(tmp_path / "turned.png", (60, 40), orientation=6)  # shown as 40 x 60
    found = read_image(turned, 20, View(crop=(0, 40, 20, 20)))
    pixels = np.asarray(Image.open(turned))
    np.testing.assert_array_equal(found, np.rot90(pixels, -1)[40:, :20])


def test_a_part_outside_the_photograph_names_both(tmp_path: Path) -> None:
    path = photograph(tmp_path / "a.png")
    with pytest.raises(DeSTSegError, match=r"50,0,20,20 .*a\.png .* only 60x40 pixels.*--crop"):
        read_image(path, 16, View(crop=(50, 0, 20, 20)))


def test_a_masks_regions_are_counted_in_the_part(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 5:15] = mask[20:30, 40:50] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    whole = read_mask(tmp_path / "m.png", 40, (60, 40))
    part = read_mask(tmp_path / "m.png", 20, (60, 40), View(crop=(0, 0, 20, 20)))
    assert (whole.regions_before, part.regions_before) == (2, 1)
    np.testing.assert_array_equal(part.pixels, mask[:20, :20] // 255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": [0, 0, 0, 5]}, r"crop is \(0, 0, 0, 5\); give left, top, width, height"),
        ({"crop": [-1, 0, 5, 5]}, r"crop is \(-1, 0, 5, 5\)"),
        ({"crop": [1, 2]}, r"crop is \[1, 2\]; expected four whole numbers"),
        ({"crop": [0, 0, 5.5, 5]}, r"crop is 5\.5; expected a whole number"),
        ({"tiles": 0}, "tiles is 0; choose from 1 to 16"),
        ({"tiles": 1.5}, "tiles is 1.5; expected a whole number"),
    ],
)
def test_a_look_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DeSTSegError, match=message):
        override(quick_recipe(), changes)


# Cutting and stitching


@pytest.mark.parametrize(("side", "tiles"), [(32, 1), (32, 2), (64, 3), (192, 5), (256, 16)])
def test_tiles_cover_the_square_and_share_a_quarter(side: int, tiles: int) -> None:
    whole = np.arange(covered(side, tiles))
    pixels = np.stack(np.broadcast_arrays(whole[:, None], whole[None], 0), 2)[None].astype(np.int32)
    parts = [cut(pixels, tiles, tile)[0] for tile in range(tiles**2)]
    assert {part.shape for part in parts} == {(side, side, 3)}
    assert {int(p[0, 0, axis]) for p in parts for axis in (0, 1)} == {
        place * side * 3 // 4 for place in range(tiles)
    }
    assert max(int(part.max()) for part in parts) == whole[-1]


@pytest.mark.parametrize("tiles", [1, 2, 5])
def test_tiles_of_a_map_are_stitched_to_that_map(tiles: int) -> None:
    side = covered(64, tiles)
    whole = np.random.default_rng(0).random((side, side)).astype(np.float32)
    repeated = np.repeat(whole[None, :, :, None], 3, axis=3)
    parts = np.stack([cut(repeated, tiles, tile)[0, ..., 0] for tile in range(tiles**2)])
    np.testing.assert_allclose(stitch(parts, tiles), whole, rtol=1e-6)


def test_where_tiles_disagree_the_nearer_one_counts_more() -> None:
    maps = np.stack([np.full((64, 64), value, np.float32) for value in (0, 1, 0, 1)])
    row = stitch(maps, 2)[10]
    assert (row[:48] == 0).all() and (row[64:] == 1).all()  # 48 to 64 are shared
    assert (np.diff(row[47:65]) > 0).all() and row[55:57].mean() == pytest.approx(0.5)


def test_maps_of_tiles_become_one_map_per_image() -> None:
    def brightness(pixels: NDArray[np.uint8]) -> list[PredictedMaps]:
        maps = pixels[..., 0].astype(np.float32)
        return [PredictedMaps(maps[:3], -maps[:3]), PredictedMaps(maps[3:], -maps[3:])]

    side = covered(32, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    found = list(tiled_maps(lambda parts: iter(brightness(parts)), pixels, 2))
    assert len(found) == 2
    for maps, image in zip(found, pixels, strict=True):
        np.testing.assert_allclose(maps.final[0], image[..., 0], rtol=1e-6)
        np.testing.assert_allclose(maps.student, -maps.final)


def test_training_sees_every_tile_of_the_chosen_images() -> None:
    side = covered(32, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    chosen = Selection(pixels, np.array([0, 2]), tiles=2)
    assert len(chosen) == 8
    seen = chosen[np.array([5, 0])]
    np.testing.assert_array_equal(seen[0], cut(pixels[2:], 2, 1)[0])
    np.testing.assert_array_equal(seen[1], cut(pixels[:1], 2, 0)[0])


# Runs


def make_photographs(folder: Path, test: int = 4) -> Path:
    """Smooth plates of 2,048 pixels; a defect is a dot, less than a pixel wide at 64 pixels."""

    def plate(seed: int) -> NDArray[np.float64]:
        rough = np.random.default_rng(seed).normal(size=(SIDE // 16, SIDE // 16))
        smooth = ndimage.gaussian_filter(rough, 2)
        return 128 + ndimage.zoom(10 * smooth / smooth.std(), 16, order=1)

    def save(path: Path, values: NDArray[np.float64]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path, compress_level=1)

    rows, columns = np.ogrid[:SIDE, :SIDE]
    for i in range(6):
        save(folder / "train/good" / f"{i}.png", plate(i))
    for i in range(test):
        save(folder / "test/good" / f"{i}.png", plate(100 + i))
        y, x = np.random.default_rng(i).integers(100, SIDE - 100, 2)
        dot = (rows - y) ** 2 + (columns - x) ** 2 <= 9**2
        save(folder / "test/dot" / f"{i}.png", np.where(dot, plate(200 + i) - 90, plate(200 + i)))
        save(folder / "ground_truth/dot" / f"{i}_mask.png", 255.0 * dot)
    return folder


def small_recipe(**changes: object) -> TrainingConfig:
    quick = quick_recipe()
    config = replace(
        quick,
        student=replace(quick.student, steps=120),
        segmentation=replace(quick.segmentation, steps=100),
        model=ModelConfig(width=1 / 8),
        image_size=64,
        batch_size=8,
        holdout=0.3,
        precision="fp32",
    )
    return override(config, changes)


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photographs(tmp_path_factory.mktemp("large") / "plate")


def trained(plates: Path, out: Path, config: TrainingConfig) -> Run:
    train_and_calibrate(find_category(plates), out, config, TrainingJob(device="cpu"))
    return load_run(out, CPU)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_defect_that_vanishes_in_the_whole_is_found_in_tiles(
    plates: Path, tmp_path: Path
) -> None:
    category = find_category(plates)
    tiled = trained(plates, tmp_path / "tiled", small_recipe(tiles=8))
    whole = trained(plates, tmp_path / "whole", small_recipe())
    assert (decoded_size(tiled.config), map_size(tiled.config)) == (400, 1600)
    assert len(tiled.calibration_scores) == len(whole.calibration_scores) == 2
    found, missed = (evaluate_category(run, category, progress=False) for run in (tiled, whole))
    assert (found.metric_size, missed.metric_size) == (1600, 256)
    assert found.final.image_auroc is not None and found.final.image_auroc > 0.9
    assert found.final.pixel_auroc is not None and found.final.pixel_auroc > 0.98
    assert missed.final.image_auroc is not None and missed.final.image_auroc < 0.8
    # The map's peak lies on the dot, in the photograph's own pixels.
    for i, row in enumerate(predict(tiled, [plates / f"test/dot/{i}.png" for i in range(4)],
                                    tmp_path / "out", maps=True, progress=False)):  # fmt: skip
        levels = np.asarray(Image.open(tmp_path / "out/maps" / f"{i}.tif"))
        assert (levels.shape, levels.dtype) == ((1600, 1600), np.uint16)
        peak = np.array(np.unravel_index(levels.argmax(), levels.shape)) * SIDE / 1600
        truth = np.argwhere(np.asarray(Image.open(plates / "ground_truth/dot" / f"{i}_mask.png")))
        assert np.abs(peak - truth.mean(0)).max() < 25
        marked = np.asarray(Image.open(tmp_path / "out/masks" / f"{i}.png"))
        assert marked.shape == (SIDE, SIDE) and set(np.unique(marked)) <= {0, 255}
        assert (marked == 255).any() == row["anomalous"]


def test_another_look_needs_other_good_images(tmp_path: Path) -> None:
    run = Run(tiny_model().eval(), TINY, "random", (0.1, 0.2))
    assert looking_at(run, tiles=1) is run
    other = looking_at(run, (0, 0, 40, 40), 2)
    assert (other.config.crop, other.config.tiles) == ((0, 0, 40, 40), 2)
    assert (other.view.crop, other.calibration_scores) == ((0, 0, 40, 40), ())
    path = photograph(tmp_path / "a.png")
    (row,) = predict(other, [path], tmp_path / "out", maps=True, progress=False)
    assert row["threshold"] is None
    assert np.asarray(Image.open(tmp_path / "out/maps/a.tif")).shape == (448, 448)
    mask = np.asarray(Image.open(tmp_path / "out/masks/a.png"))
    assert mask.shape == (40, 40) and not mask.any()
    overlay = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert overlay.shape[0] == 40  # the part alone


def test_a_maps_description_says_how_to_read_it(tmp_path: Path) -> None:
    """Without a segmentation network a map goes up to 8: two for each of three levels."""
    config = replace(TINY, model=replace(TINY.model, segmentation=False))
    run = Run(tiny_model(config).eval(), config, "random", ())
    path = photograph(tmp_path / "a.png")
    predict(run, [path], tmp_path / "out", maps=True, progress=False)
    with Image.open(tmp_path / "out/maps/a.tif") as image:
        assert image.tag_v2[270] == "anomaly map: value * 8 / 65535"
        levels = np.asarray(image)
    (maps,) = run.maps(read_image(path, 32)[None])
    np.testing.assert_allclose(levels * (8 / 65535), maps.final[0], atol=8 / 65535)


def test_maps_never_replace_a_file_of_the_users(tmp_path: Path) -> None:
    run = Run(tiny_model().eval(), TINY, "random", ())
    path = photograph(tmp_path / "a.png")
    (tmp_path / "out/masks").mkdir(parents=True)
    (tmp_path / "out/masks/a.png").write_bytes(b"mine")
    with pytest.raises(DeSTSegError, match=r"masks/a\.png is there already"):
        predict(run, [path], tmp_path / "out", maps=True, progress=False)
    assert (tmp_path / "out/masks/a.png").read_bytes() == b"mine"
    assert not (tmp_path / "out/scores.json").exists()


@pytest.mark.slow
def test_the_commands_keep_a_runs_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        (tmp_path / "good").mkdir(exist_ok=True)
        photograph(tmp_path / "good" / f"{i}.png")
    train = ["train", "--data", tmp_path / "good", "--out", tmp_path / "run", "--teacher", "random",
             "--recipe", "tiny", "--width", "0.125", "--image-size", "32", "--batch-size", "2",
             "--student-steps", "2", "--segmentation-steps", "2", "--holdout", "0.25",
             "--quiet"]  # fmt: skip
    look = ["--crop", "4,0,40,40", "--tiles", "2"]
    assert main([str(word) for word in (*train, *look)]) == 0
    assert "32 pixels of the part 4,0,40,40 in 2 x 2 tiles" in capsys.readouterr().out
    config = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert (config["crop"], config["tiles"]) == ([4, 0, 40, 40], 2)
    assert main([str(word) for word in (*train, "--resume", *look)]) == 0
    assert main([str(word) for word in (*train, "--resume", "--tiles", "3")]) == 2
    assert "was started with tiles 2, not 3" in capsys.readouterr().err
    scored = ["predict", tmp_path / "good", "--run", tmp_path / "run", "--out", tmp_path / "out"]
    assert main([str(word) for word in (*scored, "--maps", "--quiet")]) == 0
    assert np.asarray(Image.open(tmp_path / "out/masks/0.png")).shape == (40, 40)
    with pytest.raises(SystemExit):
        main([str(word) for word in (*scored, "--crop", "1,2,3")])
    assert "'1,2,3' is not four whole numbers" in capsys.readouterr().err
