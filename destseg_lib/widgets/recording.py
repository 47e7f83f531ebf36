"""A training run recorded for a film: one that ships, and what records it.

``film(shipped_recording())`` shows the run of chapter 8, which ``tools/book/film.py`` records.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from destseg_lib.batches import TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.device import resolve_precision
from destseg_lib.evaluation.browser import SCRIPTS
from destseg_lib.metrics import pixel_ap, sort_pixels
from destseg_lib.model import DeSTSeg, predict_maps
from destseg_lib.training import StepLog, phases_of, start_phase, train_phase
from destseg_lib.widgets.film import TrainingFilm

SHIPPED = SCRIPTS / "film.npz"


@dataclass(frozen=True)
class Recording:
    """A training run in frames, F of them, with the maps of one defective photograph.

    Attributes:
        photograph: (S, S, 3), uint8.
        mask: (S, S), bool; where the defect is.
        steps: (F,), counted through both phases.
        losses: (F,), the mean loss of the last ten steps.
        distance_product: (F, S/4, S/4), uint8; 255 is the highest value of the last frame.
        final_map: (F, S/4, S/4), uint8; 255 is 1.
        distance_product_ap: (F,), pixel AP of this photograph, in [0, 1].
        final_map_ap: (F,), likewise.
    """

    photograph: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    distance_product: NDArray[np.uint8]
    final_map: NDArray[np.uint8]
    distance_product_ap: NDArray[np.float64]
    final_map_ap: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write all arrays into one compressed file."""
        np.savez_compressed(path, **asdict(self))


def shipped_recording() -> Recording:
    """The recorded run that ships: the tiny recipe on metal."""
    with np.load(SHIPPED) as arrays:
        return Recording(**arrays)


def record_training(
    model: DeSTSeg,
    images: TrainingImages,
    config: TrainingConfig,
    photograph: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    *,
    every: int = 20,
    progress: bool = True,
) -> Recording:
    """Train both phases, as ``training.train`` does, and keep a frame every ``every`` steps.

    Args:
        model: changed in place.
        images: decoded at ``config.image_size``.
        config: ``precision`` may be ``auto``.
        photograph: (S, S, 3), uint8, with a defect; S is ``config.image_size``.
        mask: (S, S); where the defect is.
        every: a multiple of ten.
        progress: show one bar per phase.
    """
    device = next(model.student.parameters()).device
    config = replace(config, precision=resolve_precision(config.precision, device))
    size, before = len(photograph), 0
    steps, losses, maps, aps = [], [], [], []

    def keep(log: StepLog) -> None:
        if log.step % every:
            return
        given = predict_maps(
            model, photograph[None], precision=config.precision, size=size, progress=False
        )
        both = np.concatenate([*next(given)][::-1])  # the distance product, then the final map
        steps.append(before + log.step)
        losses.append(log.loss)
        aps.append([pixel_ap(sort_pixels(one[None], mask[None])) for one in both])
        maps.append(both.reshape(2, size // 4, 4, size // 4, 4).mean(axis=(2, 4)))

    for phase in phases_of(config):
        state = start_phase(model, config, phase)
        for _ in train_phase(model, images, config, state, keep, progress=progress):
            pass
        before += state.step
    product, final = np.stack(maps, axis=1)
    shown = (255 * np.minimum(product / product[-1].max(), 1)).round().astype(np.uint8)
    return Recording(
        photograph, mask, np.array(steps), np.array(losses), shown,
        (255 * final).round().astype(np.uint8), *np.array(aps).T,
    )  # fmt: skip


def film(recording: Recording) -> TrainingFilm:
    """A recording as a film: the photograph, its mask, both maps, the loss and both maps' AP."""
    grey = {
        "photograph": recording.photograph[None],
        "its defect": 255 * recording.mask[None].astype(np.uint8),
        "distance product": recording.distance_product,
        "final map": recording.final_map,
    }
    panels = {n: p if p.ndim == 4 else np.repeat(p[..., None], 3, axis=3) for n, p in grey.items()}
    columns = {
        "loss": recording.losses.tolist(),
        "pixel AP of the distance product": recording.distance_product_ap.tolist(),
        "pixel AP of the final map": recording.final_map_ap.tolist(),
    }
    return TrainingFilm(recording.steps.tolist(), panels, columns)
