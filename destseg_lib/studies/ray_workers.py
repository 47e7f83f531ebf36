"""A study on Ray: many runs at once, on this machine or a cluster, with the records of one process.

Workers are actors, each with a Workbench of its own that lasts. This process hands them trials one
by one and alone writes the records, so whatever dies, a worker or this process, costs the runs
that it was in the middle of and nothing else.

On a cluster every machine must see the folder the command was given in, the study's own and the
data, at the same place.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from destseg_lib import __version__
from destseg_lib.config import Precision
from destseg_lib.device import keep_freed_memory, resolve_device, resolve_precision
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.cluster import (
    Share,
    Wish,
    cluster_address,
    connected,
    first_line,
    share_out,
)
from destseg_lib.studies.run import (
    DECODED,
    STUDENTS,
    Record,
    append,
    attempt,
    failed,
    missing,
    open_study,
    read_records,
    settle,
)
from destseg_lib.studies.schedule import choose
from destseg_lib.studies.study import Study, Trial
from destseg_lib.studies.trial import Workbench, run_trial, student_file

LIVES = 3  # how often a worker may die before it was ever ready


class WorkerDiedError(DeSTSegError):
    """A worker's process ended in the middle of a run."""


class Worker:
    """One process that runs trials, one after another.

    ``__init__`` does nothing that can fail: what a constructor raises, Ray does not tell.
    """

    def __init__(
        self, number: int, folder: str, out: str, world: str, share: Share, retries: int
    ) -> None:
        self.number, self.folder, self.share, self.retries = number, folder, share, retries
        self.out, self.world = Path(out), Path(world)

    def ready(self) -> tuple[str, Precision]:
        """Prepare: the folder, threads, device.

        Returns:
            the version of this library, and what precision ``auto`` is here.

        Raises:
            DeSTSegError: a folder is missing, or the device.
        """
        for folder in (self.folder, self.out):
            if not Path(folder).is_dir():
                raise DeSTSegError(
                    f"a worker's machine has no folder {folder}; the machines of a cluster must "
                    "share the folder the command is given in and the study's"
                )
        os.chdir(self.folder)  # categories may be given as relative paths
        torch.set_num_threads(self.share.threads)
        keep_freed_memory()
        self.bench = Workbench(
            self.out / STUDENTS,
            self.world,
            resolve_device(self.share.device),
            decoded=self.out / DECODED,
            progress=False,
        )
        return __version__, resolve_precision("auto", self.bench.device)

    def run(self, trial: Trial) -> Record:
        """Run a trial; one that keeps failing gives a record of its error."""
        return attempt(trial, lambda t: run_trial(t, self.bench), self.retries)


def run_study_on_ray(
    study: Study,
    out: Path,
    world: Path,
    device: str = "auto",
    wish: Wish | None = None,
    *,
    retries: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run what is missing of a study on Ray's workers.

    Args:
        study: what to run.
        out: its folder, as for ``run_study``: either engine goes on with what the other began.
        world: where drawn products are kept.
        device: of every trial; ``auto`` is cuda where Ray counts a GPU.
        wish: how many workers, and what each gets.
        retries: how often a trial that fails, or whose worker dies, is tried again before its
            failure is recorded.
        retry_failed: also run what is recorded as failed.
        progress: show a bar.

    Returns:
        every record, in the order of ``trials``. They are those of ``run_study`` with the same
        number of threads, but for ``worker``, ``seconds`` and what provenance says of the machine.

    Raises:
        DeSTSegError: ``out`` holds another study, is in use, or cannot be written; Ray is missing
            or does not start; the workers do not fit or cannot work.
    """
    wish = wish or Wish()
    with open_study(study, out):
        waiting = missing(study, out, retry_failed=retry_failed)
        if waiting:
            begun = time.perf_counter()
            with connected(wish) as ray:
                share = share_out(wish, _device(ray, device), _nodes(ray))
                crew = _Crew(ray, share, out, world, retries, begun, progress)
                try:
                    crew.run(study, waiting)
                finally:
                    crew.dismiss()
            if not missing(study, out):
                shutil.rmtree(out / DECODED, ignore_errors=True)  # gigabytes, for MVTec AD
    return read_records(study, out)


class _Crew:
    """The workers of one study, and what each of them is doing."""

    def __init__(
        self,
        ray: Any,
        share: Share,
        out: Path,
        world: Path,
        retries: int,
        begun: float,
        progress: bool,
    ) -> None:
        self.ray, self.share, self.out, self.retries = ray, share, out.resolve(), retries
        self.world, self.begun, self.progress = world.resolve(), begun, progress
        self.deaths: Counter[object] = Counter()  # of trials by key, and of workers by number
        self.idle: set[int] = set()
        self.welcomed = 0
        self.precision: Precision = "auto"
        # What is asked of workers: (number, trial), or (number, None) to become ready.
        self.asked: dict[Any, tuple[int, Trial | None]] = {}
        self.actors = [self._hire(number) for number in range(share.workers)]

    def run(self, study: Study, waiting: tuple[Trial, ...]) -> None:
        """Run trials until none is left, writing each record as it comes."""
        with tqdm(
            desc=study.name, total=len(waiting), unit="run", disable=not self.progress
        ) as bar:
            while not self.idle:
                self._next()
            # What the first worker says is the precision of all.
            left = list(settle(waiting, study, self.out, lambda: self.precision))
            while left or any(trial for _, trial in self.asked.values()):
                while left and self.idle:
                    trial = left.pop(choose(left, self._in_training()))
                    number = self.idle.pop()
                    self.asked[self.actors[number].run.remote(trial)] = number, trial
                ended, record = self._next()
                if record is not None and ended is not None:
                    append(self.out, record)
                    bar.update()
                    bar.set_postfix_str(f"{ended.variant}, {ended.category}, seed {ended.seed}")
                elif ended is not None:
                    left.insert(0, ended)

    def dismiss(self) -> None:
        """End the workers; Ray itself may go on, where somebody else started it."""
        for actor in self.actors:
            self.ray.kill(actor)

    def _hire(self, number: int) -> Any:
        kind = self.ray.remote(num_cpus=self.share.threads, num_gpus=self.share.gpus)(Worker)
        actor = kind.remote(
            number, str(Path.cwd()), str(self.out), str(self.world), self.share, self.retries
        )
        self.asked[actor.ready.remote()] = number, None
        return actor

    def _in_training(self) -> set[str]:
        """Students that a worker trains just now: its trial runs and no file is there yet."""
        return {
            trial.student
            for _, trial in self.asked.values()
            if trial is not None and not student_file(self.out / STUDENTS, trial).exists()
        }

    def _next(self) -> tuple[Trial | None, Record | None]:
        """Wait for a worker: a trial and its record, or no record where the worker died.

        Raises:
            DeSTSegError: a worker cannot work.
        """
        errors = self.ray.exceptions
        done, _ = self.ray.wait(list(self.asked))
        number, trial = self.asked.pop(done[0])
        try:
            answer = self.ray.get(done[0])
        except errors.RayTaskError as error:
            # A trial never raises, so this is about the worker itself.
            raise DeSTSegError(f"worker {number} cannot work: {error.cause or error}") from error
        except errors.RayError as error:
            self.ray.kill(self.actors[number])  # it may be out of reach and still alive
            self.actors[number] = self._hire(number)
            return trial, self._died(number, trial, error)
        self.idle.add(number)
        if trial is None:
            self._welcome(number, *answer)
            return None, None
        return trial, {**answer, "worker": number}

    def _died(self, number: int, trial: Trial | None, error: Exception) -> Record | None:
        """The record of a trial that took too many workers with it; None to try once more."""
        who = number if trial is None else trial.key
        self.deaths[who] += 1
        if trial is None and self.deaths[who] >= LIVES:
            raise DeSTSegError(
                f"worker {number} died {LIVES} times as it started "
                f"({first_line(error)}); is this version of destseg_lib installed on "
                "every machine, and is there memory enough?"
            ) from error
        if trial is None or self.deaths[who] <= self.retries:
            return None
        died = WorkerDiedError("the worker's process ended (killed, or out of memory)")
        return {**failed(trial, died, tries=self.deaths[who]), "worker": number}

    def _welcome(self, number: int, version: str, precision: Precision) -> None:
        """Say that a worker is ready; refuse one that runs another version of this library."""
        if version != __version__:
            raise DeSTSegError(
                f"worker {number} has destseg_lib {version} and this process {__version__}; "
                "install the same on every machine"
            )
        self.deaths[number] = 0
        if self.welcomed == 0:
            self.precision = precision
        self.welcomed += 1
        if self.progress and self.welcomed == self.share.workers:
            gpu = f"{self.share.gpus:g} GPU and " if self.share.gpus else ""
            print(
                f"Ray: {self.share.workers} workers, each with {gpu}{self.share.threads} threads, "
                f"ready after {time.perf_counter() - self.begun:.1f} s",
                file=sys.stderr,
            )


def _device(ray: Any, wanted: str) -> str:
    """``auto`` on a cluster is what it has: the machine that commands it may have no GPU."""
    if cluster_address() is None:
        return resolve_device(wanted).type
    if wanted == "auto":
        return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"
    return wanted


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
