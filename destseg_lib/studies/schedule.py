"""Which run a free worker takes next, and how long a whole study takes by that rule.

Runs that share a student wait for whoever trains it, so a worker is given a run whose student is
not in training elsewhere, as long as there is one. The Ray engine and the simulation use the same
``choose``, so that what is simulated is what is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from destseg_lib.errors import DeSTSegError


class NeedsStudent(Protocol):
    """Whatever trains a student or waits for one: a trial, or a job of the simulation."""

    @property
    def student(self) -> str:
        """The same for those that share a trained student."""
        ...


@dataclass(frozen=True)
class Job:
    """A run as the simulation sees it.

    Attributes:
        student: the same for jobs that share a trained student.
        training: seconds to train that student, spent by whichever job comes first.
        rest: seconds of everything else.
    """

    student: str
    training: float
    rest: float


@dataclass(frozen=True)
class Simulated:
    """A schedule's outcome.

    Attributes:
        workers: devices that ran at once.
        makespan: seconds until the last job ended.
        work: seconds of work in all jobs, each student counted once.
        waited: seconds that workers held a job and waited for its student.
    """

    workers: int
    makespan: float
    work: float
    waited: float

    @property
    def efficiency(self) -> float:
        """The share of the workers' time that is work, in (0, 1]."""
        return self.work / (self.workers * self.makespan) if self.makespan else 1.0


def choose(waiting: Sequence[NeedsStudent], in_training: Collection[str]) -> int:
    """Index of what a free worker takes: the first whose student nobody trains just now.

    Where every student is in training, the first: it waits no longer than any other would.

    Args:
        waiting: in the order they should be run; at least one.
        in_training: students that are being trained.
    """
    return next((i for i, one in enumerate(waiting) if one.student not in in_training), 0)


def simulate(jobs: Sequence[Job], workers: int) -> Simulated:
    """Run jobs in order on equal workers, event by event, by ``choose``.

    Args:
        jobs: in the order they should be run.
        workers: how many there are.

    Raises:
        DeSTSegError: no worker, or a time is negative.
    """
    if workers < 1:
        raise DeSTSegError(f"{workers} workers cannot run anything; give one or more")
    if any(job.training < 0 or job.rest < 0 for job in jobs):
        raise DeSTSegError("a job's seconds are negative; measured times cannot be")
    waiting = list(jobs)
    trained: dict[str, float] = {}  # when each student is ready, also if that lies ahead
    free = [(0.0, worker) for worker in range(workers)]
    work = waited = makespan = 0.0
    while waiting:
        now, worker = heapq.heappop(free)
        job = waiting.pop(choose(waiting, {s for s, ready in trained.items() if ready > now}))
        if job.student in trained:
            begin = max(now, trained[job.student])
            waited += begin - now
        else:
            begin = trained[job.student] = now + job.training
            work += job.training
        work += job.rest
        heapq.heappush(free, (begin + job.rest, worker))
        makespan = max(makespan, begin + job.rest)
    return Simulated(workers, makespan, work, waited)
