"""Joining or starting Ray, and how many runs fit: by a stand-in for Ray, so that it need not be."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.cluster import ADDRESS, ALONE, SILENT, Share, Wish, connected, share_out

LAPTOP = {"CPU": 2.0, "memory": 1e9}
GPU_MACHINE = {"CPU": 16.0, "GPU": 8.0}


class StandIn:
    """Ray as far as ``connected`` knows it; ``fails`` is how often it does not start."""

    def __init__(self, fails: int = 0, listens: str = "127.0.0.1", running: bool = False) -> None:
        self.fails, self.running, self.calls, self.stopped = fails, running, [], 0
        self.util = SimpleNamespace(get_node_ip_address=lambda: listens)

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options: Any) -> None:
        self.calls.append(options)
        if len(self.calls) <= self.fails:
            raise Exception("timed out during startup\nof something")

    def shutdown(self) -> None:
        self.stopped += 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(stand_in: StandIn) -> StandIn:
        monkeypatch.setattr(importlib, "import_module", lambda name: stand_in)
        return stand_in

    for variable in (*SILENT, *ALONE):
        monkeypatch.setenv(variable, "before")  # so that it is put back afterwards
    monkeypatch.delenv(ADDRESS, raising=False)
    return install


# Sharing out


@pytest.mark.parametrize(
    ("wish", "device", "nodes", "expected"),
    [
        (Wish(), "cpu", [LAPTOP], (1, 0, 2)),
        (Wish(workers=2), "cpu", [LAPTOP], (2, 0, 1)),
        (Wish(threads=1), "cpu", [LAPTOP], (2, 0, 1)),
        (Wish(), "cuda", [GPU_MACHINE], (8, 1, 1)),
        (Wish(gpus=0.5), "cuda", [GPU_MACHINE], (16, 0.5, 1)),
        (Wish(gpus=0.7), "cuda", [GPU_MACHINE], (8, 0.7, 1)),  # never parts of two
        (Wish(gpus=0.1), "cuda", [{"CPU": 64.0, "GPU": 1.0}], (10, 0.1, 1)),
        (Wish(threads=4), "cuda", [GPU_MACHINE], (4, 1, 4)),
        (Wish(), "cuda", [LAPTOP, GPU_MACHINE, GPU_MACHINE], (16, 1, 1)),
        (Wish(), "cpu", [{"CPU": 1.0}], (1, 0, 1)),
    ],
)
def test_what_is_not_said_is_what_fits(wish, device, nodes, expected):
    assert share_out(wish, device, nodes) == Share(device, *expected)


@pytest.mark.parametrize(
    ("wish", "device", "message"),
    [
        (Wish(workers=3, threads=1), "cpu", "3 runs at once, each on 1 processors, do not fit"),
        (Wish(), "cuda", "and 1 GPU, do not fit: Ray has 2 processors and 0 GPUs"),
        (Wish(gpus=1), "cpu", "--gpus-per-run 1 and --device cpu contradict"),
        (Wish(gpus=0), "cuda", "--gpus-per-run 0 and --device cuda contradict"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(wish, device, message):
    with pytest.raises(DeSTSegError, match=message):
        share_out(wish, device, [LAPTOP])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"workers": 0}, "0 workers"), ({"threads": 0}, "0 threads"), ({"gpus": 1.5}, "1.5 GPUs")],
)
def test_a_wish_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(DeSTSegError, match=message):
        Wish(**values)


# Starting and joining


def test_ray_that_is_not_installed_is_named_with_what_to_do(monkeypatch, ray):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DeSTSegError, match=r"pip install destseg_lib\[ray\]"), connected(Wish()):
        pass


def test_on_this_machine_it_is_silent_and_alone_and_stopped_afterwards(ray):
    stand_in = ray(StandIn())
    with connected(Wish(workers=64, threads=100)) as found:
        assert found is stand_in
        assert not stand_in.stopped
    (options,) = stand_in.calls
    assert options["include_dashboard"] is False
    assert options["address"] == "local"
    assert options["num_cpus"] == 6400
    assert stand_in.stopped == 1


def test_a_start_that_fails_is_tried_again_then_told(ray):
    stand_in = ray(StandIn(fails=1))
    with connected(Wish()):
        assert len(stand_in.calls) == 2
    ray(StandIn(fails=2))
    with (
        pytest.raises(DeSTSegError, match=r"did not start on this machine \(timed out [a-z ]+\);"),
        connected(Wish()),
    ):
        pass


def test_a_start_that_other_machines_could_reach_is_refused(ray):
    stand_in = ray(StandIn(listens="192.0.2.7"))
    with pytest.raises(DeSTSegError, match=r"would listen on 192\.0\.2\.7"), connected(Wish()):
        pass
    assert stand_in.calls == []


def test_a_cluster_is_joined_by_its_address(ray, monkeypatch):
    monkeypatch.setenv(ADDRESS, "192.0.2.9:6379")
    stand_in = ray(StandIn(listens="192.0.2.7"))
    with connected(Wish()):
        assert stand_in.calls[0]["address"] == "192.0.2.9:6379"
    ray(StandIn(fails=1))
    with (
        pytest.raises(DeSTSegError, match=r"no Ray cluster answers at RAY_ADDRESS=192\.0\.2\.9"),
        connected(Wish()),
    ):
        pass


def test_ray_that_runs_already_is_used_and_left_running(ray):
    stand_in = ray(StandIn(running=True))
    with connected(Wish()):
        pass
    assert (stand_in.calls, stand_in.stopped) == ([], 0)
