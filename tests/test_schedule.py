"""Which run is taken next, and how long a study takes by that rule."""

from __future__ import annotations

import itertools

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.schedule import Job, choose, simulate


def jobs(text: str, training: float = 1, rest: float = 2) -> list[Job]:
    return [Job(student, training, rest) for student in text]


def test_a_worker_takes_the_first_run_whose_student_is_not_in_training():
    assert choose(jobs("aab"), set()) == 0
    assert choose(jobs("aab"), {"a"}) == 2
    assert choose(jobs("aa"), {"a"}) == 0  # waiting for it here is as good as anywhere


def test_one_worker_does_all_the_work_and_nothing_else():
    alone = simulate(jobs("aabbb"), 1)
    assert alone.makespan == alone.work == 2 * 1 + 5 * 2
    assert (alone.efficiency, alone.waited) == (1.0, 0.0)


def test_cases_worked_out_by_hand():
    # a: 0-1-3 on one worker; the other waits for the student until 1, and ends at 3.
    both = simulate(jobs("aa"), 2)
    assert (both.makespan, both.work, both.waited) == (3, 5, 1)
    assert both.efficiency == 5 / 6
    # The second worker takes b first and finds a's student ready.
    assert simulate(jobs("aab"), 2).makespan == 5
    assert simulate(jobs("abcd"), 4).efficiency == 1.0
    assert simulate(jobs("ab"), 64).efficiency == 2 / 64
    assert simulate([], 3).efficiency == 1.0


def test_more_workers_never_do_more_than_share_the_work():
    every = [Job(s, t, r) for s, t, r in itertools.product("abcde", (3,), (0.1, 5, 7))]
    bounds = [simulate(every, n) for n in range(1, 20)]
    for found in bounds:
        assert found.work == bounds[0].work
        assert found.work / found.workers <= found.makespan <= bounds[0].makespan
        assert found.makespan >= 3 + 7


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(DeSTSegError, match="0 workers"):
        simulate(jobs("a"), 0)
    with pytest.raises(DeSTSegError, match="negative"):
        simulate([Job("a", -1, 2)], 1)
