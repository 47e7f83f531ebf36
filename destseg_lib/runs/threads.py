"""How many threads of a CPU compute: chosen once for a training, looked at again in prediction.

On an idle machine all of them are faster. Beside another busy process they wait for one another,
and one thread is faster than all. Another number gives other roundings, so a run keeps the one that
it was begun with. Maps hardly depend on it, so prediction may follow the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from destseg_lib.batches import Phase, TrainingImages
from destseg_lib.config import TrainingConfig
from destseg_lib.device import check_threads, torch_threads
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg, PredictedMaps
from destseg_lib.runs.budget import recipe_seconds, seconds_per_step
from destseg_lib.runs.exported import AnyRun
from destseg_lib.runs.run import read_run

THREADS = "threads"  # among a run's inputs; None on a GPU
Threads = int | Literal["auto"] | None
FEW = 8  # images, for which it is not worth looking
SOON, LATE = 10.0, 80.0  # seconds until prediction looks again, and the most after looks in vain
DEAR = 20  # looks take no more than a share of the time, one over this


def choose_threads(
    model: DeSTSeg, images: TrainingImages, config: TrainingConfig, wanted: Threads
) -> tuple[int | None, dict[Phase, float] | None]:
    """The threads of a new run, and the seconds per step of each phase if they were measured.

    Args:
        model: on its device; not changed.
        images: decoded at ``config.image_size``.
        config: with its precision resolved.
        wanted: a number; ``auto`` times one and all, and takes the faster; None takes as many as
            torch has.

    Returns:
        None as the number on a GPU, whose steps hardly depend on it.
    """
    if next(model.parameters()).device.type != "cpu":
        return None, None
    if wanted != "auto":
        return wanted or torch.get_num_threads(), None
    if torch.get_num_threads() == 1:
        return 1, None
    measured = {}
    for threads in (1, torch.get_num_threads()):
        with torch_threads(threads):
            measured[threads] = seconds_per_step(model, images, config, steps=2)
    seconds = {threads: recipe_seconds(config, found) for threads, found in measured.items()}
    chosen = min(seconds, key=lambda threads: seconds[threads])
    times = ", ".join(f"{n}: {found / 60:.1f} min" for n, found in seconds.items())
    print(f"threads {chosen}, the faster for the whole recipe ({times}), kept from now on")
    return chosen, measured[chosen]


def kept_threads(out: Path, wanted: Threads) -> int | None:
    """The threads of a run that is continued: those that it began with.

    Raises:
        DeSTSegError: another number is asked for.
    """
    threads: int | None = read_run(out)["inputs"].get(THREADS)
    if threads is None:  # version 0.1 did not keep it
        return wanted if isinstance(wanted, int) else None
    if isinstance(wanted, int) and wanted != threads:
        raise DeSTSegError(
            f"the run in {out} was started with threads {threads}, not {wanted}; leave the option "
            "out to resume, or choose another --out"
        )
    if threads != torch.get_num_threads():
        print(f"threads {threads}, as the run began; torch would take {torch.get_num_threads()}")
    return threads


class Pace:
    """The threads that prediction has at the moment.

    With ``auto`` one image is timed with one thread and with all, and the faster number is taken.
    That is looked at again after a while: other processes come and go.

    Args:
        run: that predicts; on a GPU its threads are left alone.
        wanted: as for ``choose_threads``; None leaves their number alone, too.
        images: how many there are, tiles counted; fewer than ``FEW`` are computed by one thread,
            since looking would take about as long as it could save.

    Raises:
        DeSTSegError: fewer than one thread.
    """

    def __init__(self, run: AnyRun, wanted: Threads, images: int) -> None:
        check_threads(wanted)
        most = torch.get_num_threads()
        if run.device.type != "cpu" or wanted is None:
            wanted = most
        self.run = run
        self.choices: tuple[int, ...] = (1, most) if wanted == "auto" else (wanted,)
        self.looks = self.choices[0] != self.choices[-1] and images >= FEW
        self.said = most
        self.wait, self.due = SOON, 0.0  # the next look, in seconds of the monotonic clock

    @property
    def threads(self) -> int:
        """The number that is taken now."""
        return self.choices[0]

    def maps(self, pixels: NDArray[np.uint8]) -> Iterator[PredictedMaps]:
        """Maps of images (N, S, S, 3), one batch per iteration, as the run gives them."""
        batches = self.run.maps(pixels)
        while True:
            if self.looks and time.monotonic() >= self.due:
                self._look(pixels[:1])
            with torch_threads(self.threads):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _look(self, image: NDArray[np.uint8]) -> None:
        begun = time.monotonic()
        seconds = {n: self._seconds(image, n) for n in self.choices}
        ended = time.monotonic()
        before = self.threads
        self.choices = tuple(sorted(seconds, key=lambda n: seconds[n]))
        self.wait = SOON if self.threads != before else min(2 * self.wait, LATE)
        if self.threads != self.said:
            self.said = self.threads
            times = ", ".join(f"{n}: {found:.2f} s" for n, found in seconds.items())
            tqdm.write(f"threads {self.threads}, the faster for an image at the moment ({times})")
        self.due = ended + max(self.wait, DEAR * (ended - begun))

    def _seconds(self, image: NDArray[np.uint8], threads: int) -> float:
        """The faster of two."""
        best = float("inf")
        with torch_threads(threads):
            for _ in range(2):
                started = time.perf_counter()
                for _ in self.run.maps(image):
                    pass
                best = min(best, time.perf_counter() - started)
        return best
