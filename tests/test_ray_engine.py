"""Joining or starting Ray, what fits, and what follows from deaths: on a stand-in for Ray."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.studies import ray_workers
from destseg_lib.studies.cluster import ADDRESS, ALONE, SILENT, Share, connected, share_out
from destseg_lib.studies.ray_workers import next_trial, run_study_on_ray
from destseg_lib.studies.records import DECODED, RECORDS
from destseg_lib.studies.study import Study

LAPTOP = {"CPU": 2.0, "memory": 1e9}
GPU_MACHINE = {"CPU": 16.0, "GPU": 8.0}


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a long remote traceback")
        self.cause = cause


class Asked:
    """A task; ``died`` if its worker's process ends before it answers."""

    def __init__(self, run: Any, died: bool) -> None:
        self.run, self.died = run, died


class StandIn:
    """Ray as far as the library knows it; tasks run here, in order, when their result is asked for.

    Args:
        fails: how often it does not start.
        listens: the address it would listen on.
        running: whether it is running already.
        dies: for calls of a function by name, in order, whether its worker dies.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(
        self, fails: int = 0, listens: str = "127.0.0.1", running: bool = True, **dies: list[bool]
    ) -> None:
        self.fails, self.running, self.dies = fails, running, dies
        self.starts: list[dict] = []
        self.asked: list[dict] = []
        self.stopped = self.cancelled = 0
        self.util = SimpleNamespace(get_node_ip_address=lambda: listens)

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options: Any) -> None:
        self.starts.append(options)
        if len(self.starts) <= self.fails:
            raise Exception("timed out during startup\nof something")

    def shutdown(self) -> None:
        self.stopped += 1

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": LAPTOP}, {"Alive": False, "Resources": {}}]

    def remote(self, **resources: float) -> Any:
        self.asked.append(resources)

        def decorate(function: Any) -> Any:
            left = self.dies.get(function.__name__, [])

            def ask(*arguments: Any) -> Asked:
                return Asked(lambda: function(*arguments), left.pop(0) if left else False)

            return SimpleNamespace(remote=ask, options=lambda **_: SimpleNamespace(remote=ask))

        return decorate

    def wait(self, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
        return tasks[:1], tasks[1:]

    def get(self, asked: Any) -> Any:
        if isinstance(asked, list):
            return [self.get(one) for one in asked]
        if asked.died:
            raise RayError("The worker died\nbecause of this and that")
        try:
            return asked.run()
        except Exception as error:
            raise RayTaskError(error) from error

    def cancel(self, task: Any, force: bool) -> None:
        assert force
        self.cancelled += 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Any:
    """Installs a stand-in; trials give a record at once and leave what real ones leave."""

    def record(trial: Any, bench: Any) -> dict:
        bench.decoded.mkdir(exist_ok=True)
        key = dict(zip(("variant", "category", "seed"), trial.key, strict=True))
        teacher, config = {"name": trial.teacher}, {"precision": trial.config.precision}
        return key | {"status": "done", "config": config, "teacher": teacher}

    monkeypatch.setattr(ray_workers, "run_trial", record)
    monkeypatch.setattr(ray_workers, "keep_freed_memory", lambda: None)  # this is not a worker
    for variable in (*SILENT, *ALONE):
        monkeypatch.setenv(variable, "before")  # so that it is put back afterwards
    monkeypatch.delenv(ADDRESS, raising=False)

    def install(stand_in: StandIn) -> StandIn:
        ray_workers._workbench.cache_clear()
        monkeypatch.setattr(importlib, "import_module", lambda name: stand_in)
        return stand_in

    return install


# Sharing out


@pytest.mark.parametrize(
    ("wanted", "device", "nodes", "expected"),
    [
        (Share(), "cpu", [LAPTOP], (1, 0, 2)),
        (Share(workers=2), "cpu", [LAPTOP], (2, 0, 1)),
        (Share(threads=1), "cpu", [LAPTOP], (2, 0, 1)),
        (Share(), "cuda", [GPU_MACHINE], (8, 1, 1)),
        (Share(gpus=0.5), "cuda", [GPU_MACHINE], (16, 0.5, 1)),
        (Share(gpus=0.7), "cuda", [GPU_MACHINE], (8, 0.7, 1)),  # never parts of two
        (Share(gpus=0.1), "cuda", [{"CPU": 64.0, "GPU": 1.0}], (10, 0.1, 1)),
        (Share(threads=4), "cuda", [GPU_MACHINE], (4, 1, 4)),
        (Share(), "cuda", [LAPTOP, GPU_MACHINE, GPU_MACHINE], (16, 1, 1)),
        (Share(), "cpu", [{"CPU": 1.0}], (1, 0, 1)),
        (Share(workers=2), "cpu", [LAPTOP, LAPTOP, LAPTOP], (2, 0, 2)),  # no machine has three
    ],
)
def test_where_nothing_is_asked_for_as_many_runs_as_fit_are_made(wanted, device, nodes, expected):
    assert share_out(wanted, device, nodes) == expected


@pytest.mark.parametrize(
    ("wanted", "device", "message"),
    [
        (Share(workers=3, threads=1), "cpu", "3 runs at once, each on 1 processors, do not fit"),
        (Share(), "cuda", "and 1 GPU, do not fit: Ray has 2 processors and 0 GPUs"),
        (Share(gpus=1), "cpu", "--gpus-per-run 1 and --device cpu contradict"),
        (Share(gpus=0), "cuda", "--gpus-per-run 0 and --device cuda contradict"),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_what_there_is(wanted, device, message):
    with pytest.raises(DeSTSegError, match=message):
        share_out(wanted, device, [LAPTOP])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"workers": 0}, "0 workers"), ({"threads": 0}, "0 threads"), ({"gpus": 1.5}, "1.5 GPUs")],
)
def test_a_share_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(DeSTSegError, match=message):
        Share(**values)


# Starting and joining


def refused(message: str) -> None:
    with pytest.raises(DeSTSegError, match=message), connected(Share()):
        pass


def test_ray_that_is_not_installed_is_named_with_what_to_do(monkeypatch, ray):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    refused(r"pip install destseg_lib\[ray\]")


def test_on_this_machine_it_is_silent_and_alone_and_stopped_afterwards(ray):
    stand_in = ray(StandIn(running=False))
    with connected(Share(workers=64, threads=100)) as found:
        assert found is stand_in
        assert not stand_in.stopped
    (options,) = stand_in.starts
    assert options["include_dashboard"] is False
    assert (options["address"], options["num_cpus"]) == ("local", 6400)
    assert stand_in.stopped == 1


def test_a_start_that_fails_is_tried_again_then_reported(ray):
    stand_in = ray(StandIn(fails=1, running=False))
    with connected(Share()):
        assert len(stand_in.starts) == 2
    ray(StandIn(fails=2, running=False))
    refused(r"did not start on this machine \(timed out [a-z ]+\);")


def test_a_start_that_other_machines_could_reach_is_refused(ray):
    stand_in = ray(StandIn(listens="192.0.2.7", running=False))
    refused(r"would listen on 192\.0\.2\.7")
    assert stand_in.starts == []


def test_a_cluster_is_joined_by_its_address(ray, monkeypatch):
    monkeypatch.setenv(ADDRESS, "192.0.2.9:6379")
    stand_in = ray(StandIn(listens="192.0.2.7", running=False))
    with connected(Share()):
        assert stand_in.starts[0]["address"] == "192.0.2.9:6379"
    ray(StandIn(fails=1, running=False))
    refused(r"no Ray cluster answers at RAY_ADDRESS=192\.0\.2\.9")


def test_ray_that_runs_already_is_used_and_left_running(ray):
    stand_in = ray(StandIn())
    with connected(Share()):
        pass
    assert (stand_in.starts, stand_in.stopped) == ([], 0)


# Running


@pytest.fixture
def study() -> Study:
    variants = {"whole": {}, "plain": {"denoising": False}}
    return Study("small", "tiny", ("metal", "wood"), (0, 1), variants, "whole")


def run(study: Study, out: Path, **options: Any) -> list[dict]:
    share = Share(workers=2, threads=1)
    return run_study_on_ray(study, out, out / "world", "cpu", share, progress=False, **options)


def test_a_worker_takes_the_first_run_whose_student_is_not_in_training():
    def left(students: str) -> list[Any]:
        return [SimpleNamespace(student=student) for student in students]

    assert next_trial(left("aab"), set()) == 0
    assert next_trial(left("aab"), {"a"}) == 2
    assert next_trial(left("aa"), {"a"}) == 0  # waiting for it here is as good as anywhere


def test_every_trial_is_recorded_by_tasks_that_ray_does_not_retry(study, ray, tmp_path):
    stand_in = ray(StandIn())
    records = run(study, tmp_path)
    assert [r["status"] for r in records] == ["done"] * 8
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 8
    assert stand_in.asked == [{"num_cpus": 1, "num_gpus": 0.0, "max_retries": 0}]
    assert stand_in.cancelled == 0
    assert not (tmp_path / DECODED).exists()
    assert len({r["config"]["precision"] for r in records} & {"fp32", "bf16"}) == 1


def test_trials_whose_worker_died_are_run_again(study, ray, tmp_path):
    ray(StandIn(_run=[False, True, True]))
    assert [r["status"] for r in run(study, tmp_path)] == ["done"] * 8
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 8


def test_a_trial_that_takes_every_worker_with_it_is_given_up(study, ray, tmp_path):
    ray(StandIn(_run=[True] * 6))
    records = run(study, tmp_path, retries=2)
    failures = [r for r in records if r["status"] == "failed"]
    assert len(records) == 8
    assert {r["tries"] for r in failures} == {3}
    assert {r["error"].split(":")[0] for r in failures} == {"WorkerDiedError"}
    ray(StandIn())
    assert {r["status"] for r in run(study, tmp_path, retry_failed=True)} == {"done"}


def test_workers_that_die_as_they_start_end_the_study(study, ray, tmp_path):
    ray(StandIn(_prepare=[True]))
    with pytest.raises(DeSTSegError, match=r"died 3 times as it started \(The worker died\)"):
        run(study, tmp_path)
    assert not (tmp_path / RECORDS).exists()


def test_a_worker_with_another_version_or_without_the_folder_is_refused(
    study, ray, tmp_path, monkeypatch
):
    ray(StandIn())
    gone = tmp_path / "gone"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: gone)
        with pytest.raises(DeSTSegError, match="cannot work: a worker's machine has no folder"):
            run(study, tmp_path)
    real = ray_workers.Place
    monkeypatch.setattr(ray_workers, "Place", lambda _, *others: real("0.0.1", *others))
    with pytest.raises(DeSTSegError, match=r"has destseg_lib \S+ and this process 0\.0\.1"):
        run(study, tmp_path)


def test_records_that_cannot_be_written_stop_the_study(study, ray, tmp_path):
    stand_in = ray(StandIn())
    (tmp_path / RECORDS).mkdir()
    with pytest.raises((DeSTSegError, OSError)):
        run(study, tmp_path)
    assert stand_in.cancelled <= 2
