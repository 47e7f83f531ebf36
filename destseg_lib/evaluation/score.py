"""From image files to anomaly maps and image scores, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS, Precision
from destseg_lib.device import autocast, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.images.load import chunks, decode_files
from destseg_lib.metrics import image_scores
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.run import Run
from destseg_lib.teacher import normalise

BATCH_SIZE = 16


class Maps(NamedTuple):
    """Maps of a batch, float32 (B, size, size); higher is more anomalous."""

    final: NDArray[np.float32]
    student: NDArray[np.float32]


class ScoredBatch(NamedTuple):
    """Some files' maps and scores; ``indices`` are their places in the list of files."""

    indices: tuple[int, ...]
    maps: Maps
    scores: NDArray[np.float64]


def predict_maps(
    model: DeSTSeg,
    pixels: NDArray[np.uint8],
    *,
    precision: Precision,
    batch_size: int = BATCH_SIZE,
    size: int = METRIC_SIZE,
    progress: bool = True,
) -> Iterator[Maps]:
    """Maps of images (N, S, S, 3), S a multiple of 32, a batch an iteration.

    Args:
        model: on its device; put into eval mode.
        pixels: at the size the model was trained at.
        precision: of the run; fp16 becomes fp32 where there is no CUDA.
        batch_size: images an iteration.
        size: maps are brought to it bilinearly; figures are comparable at 256 only.
        progress: show a bar.
    """
    device = next(model.student.parameters()).device
    precision = resolve_precision(precision, device)
    if precision == "fp16" and device.type != "cuda":
        precision = "fp32"
    model.eval()
    with tqdm(total=len(pixels), desc="predicting", unit="image", disable=not progress) as bar:
        for start in range(0, len(pixels), batch_size):
            batch = pixels[start : start + batch_size]
            yield _maps(model, batch, device, precision, size)
            bar.update(len(batch))


def score_images(
    model: DeSTSeg,
    pixels: NDArray[np.uint8],
    *,
    precision: Precision,
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> NDArray[np.float64]:
    """Mean of the 100 largest values of each image's final map: (N, S, S, 3) to (N,)."""
    batches = predict_maps(
        model, pixels, precision=precision, batch_size=batch_size, progress=progress
    )
    scores = [image_scores(maps.final, TOP_PIXELS) for maps in batches]
    return np.concatenate(scores) if scores else np.empty(0)


def score_files(
    run: Run,
    paths: Sequence[Path],
    *,
    skipped: list[tuple[Path, str]] | None = None,
    progress: bool = True,
    description: str = "scoring",
) -> Iterator[ScoredBatch]:
    """Decode and score image files in bounded memory, in order.

    Args:
        run: the trained model.
        paths: image files.
        skipped: takes (path, reason) of unreadable files; None refuses them.
        progress: show a bar.
        description: of the bar.

    Raises:
        DeSTSegError: a file is unreadable and ``skipped`` is None, or no file is readable.
    """
    paths, size, first_error = tuple(paths), run.config.image_size, None
    scored = 0
    with tqdm(total=len(paths), desc=description, unit="image", disable=not progress) as bar:
        for chunk in chunks(len(paths), size):
            images: dict[int, NDArray[np.uint8]] = {}
            decoded = decode_files([paths[index] for index in chunk], size)
            for index, image in zip(chunk, decoded, strict=True):
                if not isinstance(image, DeSTSegError):
                    images[index] = image
                elif skipped is None:
                    raise image
                else:
                    skipped.append((paths[index], str(image)))
                    first_error = first_error or image
                    bar.update()
            readable = tuple(images)
            for start in range(0, len(images), BATCH_SIZE):
                indices = readable[start : start + BATCH_SIZE]
                pixels = np.stack([images.pop(index) for index in indices])
                (maps,) = predict_maps(
                    run.model, pixels, precision=run.config.precision, progress=False
                )
                yield ScoredBatch(indices, maps, image_scores(maps.final, TOP_PIXELS))
                bar.update(len(indices))
                scored += len(indices)
    if paths and not scored:
        raise DeSTSegError(f"None of the {len(paths)} images can be read. The first: {first_error}")


def _maps(
    model: DeSTSeg,
    pixels: NDArray[np.uint8],
    device: torch.device,
    precision: Precision,
    size: int,
) -> Maps:
    with torch.inference_mode(), autocast(device, precision):
        images = torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
        final, student = (
            F.interpolate(m.float(), size=(size, size), mode="bilinear", align_corners=False)[:, 0]
            for m in model(normalise(images))
        )
    return Maps(final.cpu().numpy(), student.cpu().numpy())
