"""Pictures: a photograph with its defects outlined, its map next to it, and sheets of both."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from destseg_lib.config import ModelConfig
from destseg_lib.evaluation.tables import shown
from destseg_lib.files.outputs import Outputs
from destseg_lib.fusion import largest_distance
from destseg_lib.images.folders import TestImage
from destseg_lib.images.read import read_image, read_mask, view_size
from destseg_lib.images.view import View
from destseg_lib.runs.exported import AnyRun
from destseg_lib.runs.tiles import decoded_size, map_size
from destseg_lib.threshold import Threshold

LONGEST_SIDE = 1024
COMPRESSION = 2  # of overlays: a third more bytes than zlib's 6 in two fifths of the time
CASE_SIDE = 384  # longest side of a photograph in a sheet of cases
SHOWN = 3  # cases of each kind in a sheet
# Vermillion of Okabe and Ito's palette, which all common kinds of colour vision tell apart; the
# light rim keeps it visible on dark photographs and on red ones.
LINE, RIM = (0xD5, 0x5E, 0x00), (0xFF, 0xFF, 0xFF)
HEAT = "inferno"  # perceptually uniform: equal steps of the map look equal

IMAGE_DESCRIPTION = 270  # the TIFF tag

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]


class Case(NamedTuple):
    """A row of ``case_sheet``: photo (H, W, 3), truth (S, S) 0/1 or None, map (S, S).

    ``threshold`` None draws no outline.
    """

    title: str
    photo: Picture
    truth: NDArray[np.uint8] | None
    anomaly_map: Map
    threshold: float | None


def read_photograph(path: Path, longest: int = LONGEST_SIDE, view: View | None = None) -> Picture:
    """Decode what is looked at in its own aspect and orientation, (H, W, 3), no side over a limit.

    Raises:
        DeSTSegError: as ``read_image``.
    """
    width, height = view_size(path, view or View())
    shrink = min(1.0, longest / max(width, height))
    shape = max(1, round(shrink * width)), max(1, round(shrink * height))
    # Decoded to a square, like everything else, but no smaller than the picture in either way.
    square = Image.fromarray(read_image(path, max(shape), view))
    return np.array(square.resize(shape, Image.Resampling.BILINEAR))


def outline(photo: Picture, anomaly_map: Map, threshold: float) -> Picture:
    """The photo (H, W, 3) with a line around where its map (S, S) exceeds the threshold.

    The line runs outside of the defect, so that it hides nothing of it; at the photo's edge inside.
    """
    picture = photo.copy()
    above = marked(anomaly_map, threshold, photo.shape)
    if not above.any():
        return picture
    width = max(2, round(max(photo.shape) / 250))
    rim = max(1, width // 2)
    border = np.ones_like(above)
    border[width:-width, width:-width] = False
    near = _around(above, width + rim)  # nothing is drawn elsewhere
    above, part = above[near], picture[near]
    away = distance_transform_edt(~above)
    part[(away > 0) & (away <= width + rim)] = RIM
    part[(away > 0) & (away <= width) | (above & border[near])] = LINE
    return picture


def marked(anomaly_map: Map, threshold: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a map (S, S), brought to ``shape`` (H, W), exceeds the threshold: (H, W)."""
    above = _resized(anomaly_map, shape) > threshold
    if not above.any() and (anomaly_map > threshold).any():  # a small peak can drown in resizing
        y, x = np.unravel_index(np.argmax(anomaly_map), anomaly_map.shape)
        above[y * shape[0] // len(anomaly_map), x * shape[1] // len(anomaly_map)] = True
    return above


def heat(anomaly_map: Map, shape: tuple[int, ...], scale: float = 1.0) -> Picture:
    """The map (S, S) as colours at ``shape`` (H, W): black for 0, brightest from ``scale`` on."""
    level = np.clip(_resized(anomaly_map, shape) / scale, 0, 1)
    painted: Picture = colormaps[HEAT](level, bytes=True)[:, :, :3]
    return painted


def overlay(
    photo: Picture, anomaly_map: Map, threshold: float | None, *, scale: float = 1.0
) -> Picture:
    """A photo with its defects outlined and, next to it, its map.

    Args:
        photo: (H, W, 3).
        anomaly_map: (S, S).
        threshold: the map is outlined where it is above; None for an image that is not anomalous.
        scale: the value painted brightest, the same for all images so that they compare.

    Returns:
        (H, 2 W + gap, 3).
    """
    left = photo if threshold is None else outline(photo, anomaly_map, threshold)
    gap = np.full((photo.shape[0], max(2, photo.shape[1] // 64), 3), 255, np.uint8)
    return np.concatenate([left, gap, heat(anomaly_map, photo.shape, scale)], axis=1)


def write_overlay(
    outputs: Outputs,
    name: str,
    photograph: Path,
    anomaly_map: Map,
    threshold: float | None,
    scale: float,
    view: View | None = None,
) -> None:
    """Read a photograph and write its overlay as PNG.

    Raises:
        DeSTSegError: the photograph cannot be read or the overlay not written.
    """
    photo = read_photograph(photograph, view=view)
    picture = Image.fromarray(overlay(photo, anomaly_map, threshold, scale=scale))
    # A picture that a power cut takes is drawn again; forcing each to the disk would take long.
    outputs.write(name, lambda f: picture.save(f, "PNG", compress_level=COMPRESSION), sync=False)


def write_map(outputs: Outputs, name: str, anomaly_map: Map, top: float) -> None:
    """Write a map (S, S) as a TIFF of 16 bits, 65535 for ``top``, which its description names.

    Raises:
        DeSTSegError: as ``Outputs.write``.
    """
    levels = np.round(np.clip(anomaly_map / top, 0, 1) * 65535).astype(np.uint16)
    tags = {IMAGE_DESCRIPTION: f"anomaly map: value * {top:g} / 65535"}
    picture = Image.fromarray(levels)
    outputs.write(name, lambda f: picture.save(f, "TIFF", tiffinfo=tags), sync=False)


def write_mask(
    outputs: Outputs, name: str, anomaly_map: Map, threshold: float | None, size: tuple[int, int]
) -> None:
    """Write what is outlined, at the photograph's (width, height), as a PNG of 0 and 255.

    Raises:
        DeSTSegError: as ``Outputs.write``.
    """
    above = np.zeros(size[::-1], bool)
    if threshold is not None:
        above = marked(anomaly_map, threshold, above.shape)
    picture = Image.fromarray(np.where(above, np.uint8(255), np.uint8(0)))
    outputs.write(name, lambda file: picture.save(file, "PNG"), sync=False)


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """A PNG's name for each photograph: its own, after its folders' below the one all share.

    ``test/crack/1.jpg`` and ``test/good/1.jpg`` become ``crack-1.png`` and ``good-1.png``. Names
    that would still be the same are numbered; neither case nor the way in which an accent is
    written makes a difference, because to some file systems it does not.
    """
    top = os.path.commonpath([path.absolute().parent for path in paths])
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        stem = "-".join(path.absolute().relative_to(top).with_suffix("").parts)
        name = stem
        while seen[_folded(name)]:
            seen[_folded(stem)] += 1
            name = f"{stem}-{seen[_folded(stem)]}"
        seen[_folded(name)] += 1
        names.append(f"{name}.png")
    return names


def heat_scale(run: AnyRun, threshold: Threshold | None) -> float:
    """The map value that is painted brightest, the same for all images of a model."""
    if run.config.model.segmentation or threshold is None or threshold.value <= 0:
        return 1.0
    return 2 * threshold.value  # cosine distances have no natural top


def largest_value(config: ModelConfig) -> float:
    """The largest value that a model's final map can have: 1 after a segmentation network."""
    if config.segmentation:
        return 1.0
    return largest_distance(len(config.levels), config.student_map)


def pick_cases(
    run: AnyRun,
    images: Sequence[TestImage],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float64],
    threshold: Threshold | None,
) -> list[Case]:
    """Choose the surest and the least sure defects, and the good images nearest to an alarm.

    Args:
        run: the trained model.
        images: N test images.
        labels: (N,), True for a defective image.
        scores: (N,) image scores.
        threshold: images above it are outlined; None outlines none.

    Raises:
        DeSTSegError: an image or a mask is unreadable.
    """
    order = np.argsort(-scores, kind="stable")
    defective, good = order[labels[order]], order[~labels[order]]
    kinds = {
        "surest": defective[:SHOWN],
        "least sure": defective[SHOWN:][-SHOWN:],
        "highest good": good[:SHOWN],
    }
    cases = []
    for kind, index in ((kind, index) for kind, indices in kinds.items() for index in indices):
        image, score = images[index], scores[index]
        truth = None if labels[index] else np.zeros((1, 1), np.uint8)
        if image.mask is not None:
            truth = read_mask(image.mask, map_size(run.config), view=run.view).pixels
        pixels = read_image(image.path, decoded_size(run.config), run.view)[None]
        maps = next(run.maps(pixels))
        above = threshold is not None and score > threshold.value
        cases.append(
            Case(
                f"{kind}\n{image.defect}/{image.path.stem}\nscore {score:.3f}",
                read_photograph(image.path, CASE_SIDE, run.view),
                truth,
                maps.final[0],
                threshold.value if threshold is not None and above else None,
            )
        )
    return cases


def case_sheet(cases: Sequence[Case], *, scale: float = 1.0) -> Figure:
    """Draw a sheet with one row per case: image, truth, map and outline."""
    figure = Figure(figsize=(10, 2.7 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), 4, squeeze=False)
    for column, name in zip(axes[0], ("image", "truth", "map", "outline"), strict=True):
        column.set_title(name, fontweight="bold")
    for row, case in zip(axes, cases, strict=True):
        outlined = (
            case.photo
            if case.threshold is None
            else outline(case.photo, case.anomaly_map, case.threshold)
        )
        truth = np.zeros((1, 1), np.uint8) if case.truth is None else case.truth
        # The map is a square; the photograph's extent gives it and the truth the same shape.
        extent = (0.0, case.photo.shape[1], case.photo.shape[0], 0.0)
        row[0].imshow(case.photo)
        row[1].imshow(truth, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        heat = row[2].imshow(case.anomaly_map, extent=extent, cmap=HEAT, vmin=0, vmax=scale)
        row[3].imshow(outlined)
        if case.truth is None:
            row[1].text(0.5, 0.5, "no mask", color="white", ha="center", transform=row[1].transAxes)
        row[0].set_ylabel(shown(case.title), fontsize=9)
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
    figure.colorbar(heat, ax=axes[:, 2], location="bottom", aspect=15, pad=0.01, panchor=False)
    return figure


def _around(marks: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The smallest rectangle that holds all marks (H, W), and a margin around it."""
    places = (np.flatnonzero(marks.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, p[0] - margin), p[-1] + margin + 1) for p in places)
    return rows, columns


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _resized(anomaly_map: Map, shape: tuple[int, ...]) -> Map:
    image = Image.fromarray(np.asarray(anomaly_map, dtype=np.float32))
    resized = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)
