"""The Ray engine's own decisions, on a stand-in for Ray that runs everything here, in order."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.studies import ray_workers as ray_engine
from destseg_lib.studies.cluster import Wish
from destseg_lib.studies.ray_workers import run_study_on_ray
from destseg_lib.studies.run import DECODED, RECORDS
from destseg_lib.studies.study import Study


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a long remote traceback")
        self.cause = cause


class Asked:
    """What an actor was asked; ``died`` if its process ends before it answers."""

    def __init__(self, ask: Any, died: bool) -> None:
        self.ask, self.died = ask, died


class StandIn:
    """Ray as far as the engine knows it; ``dies`` says of which calls, in order, a worker dies."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **dies: list[bool]) -> None:
        self.dies, self.killed, self.hired = dies, 0, []

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {}}]

    def remote(self, **resources: float) -> Any:
        def actor_class(cls: type) -> Any:
            return SimpleNamespace(remote=lambda *arguments: self.hire(cls(*arguments), resources))

        return actor_class

    def hire(self, worker: Any, resources: dict[str, float]) -> Any:
        self.hired.append(resources)

        def asking(name: str) -> Any:
            def ask(*arguments: Any) -> Asked:
                left = self.dies.get(name, [])
                call = getattr(worker, name)
                return Asked(lambda: call(*arguments), left.pop(0) if left else False)

            return SimpleNamespace(remote=ask)

        return SimpleNamespace(ready=asking("ready"), run=asking("run"))

    def wait(self, asked: list[Asked]) -> tuple[list[Asked], list[Asked]]:
        return asked[:1], asked[1:]

    def get(self, asked: Asked) -> Any:
        if asked.died:
            raise RayError("The actor died\nbecause of this and that")
        try:
            return asked.ask()
        except Exception as error:
            raise RayTaskError(error) from error

    def kill(self, actor: Any) -> None:
        self.killed += 1


@pytest.fixture
def study() -> Study:
    variants = {"whole": {}, "plain": {"denoising": False}}
    return Study("small", "tiny", ("metal", "wood"), (0, 1), variants, "whole")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Any:
    """Installs a stand-in; trials give a record at once and leave what real ones leave."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def record(trial: Any, bench: Any) -> dict:
        bench.decoded.mkdir(exist_ok=True)
        return {
            "variant": trial.variant,
            "category": trial.category,
            "seed": trial.seed,
            "status": "done",
            "config": {"precision": trial.config.precision},
        }

    monkeypatch.setattr(ray_engine, "run_trial", record)
    monkeypatch.setattr(ray_engine, "keep_freed_memory", lambda: None)  # this process is no worker

    def install(stand_in: StandIn) -> StandIn:
        monkeypatch.setattr(importlib, "import_module", lambda name: stand_in)
        return stand_in

    return install


def run(study: Study, out: Path, **options: Any) -> list[dict]:
    wish = Wish(workers=2, threads=1)
    return run_study_on_ray(study, out, out / "world", "cpu", wish, progress=False, **options)


def test_every_trial_is_recorded_and_the_workers_are_dismissed(study, ray, tmp_path):
    stand_in = ray(StandIn())
    records = run(study, tmp_path)
    assert [r["status"] for r in records] == ["done"] * 8
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 8
    assert stand_in.hired == [{"num_cpus": 1, "num_gpus": 0.0}] * 2
    assert stand_in.killed == 2
    assert not (tmp_path / DECODED).exists()
    assert len({r["config"]["precision"] for r in records} & {"fp32", "bf16"}) == 1


def test_workers_that_die_are_replaced_and_their_trials_run_again(study, ray, tmp_path):
    stand_in = ray(StandIn(run=[False, True, True], ready=[True]))
    records = run(study, tmp_path)
    assert [r["status"] for r in records] == ["done"] * 8
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 8
    assert len(stand_in.hired) == 2 + 3


def test_a_trial_that_takes_every_worker_with_it_is_given_up(study, ray, tmp_path):
    ray(StandIn(run=[True] * 6))
    records = run(study, tmp_path, retries=2)
    failures = [r for r in records if r["status"] == "failed"]
    assert len(records) == 8
    assert {r["tries"] for r in failures} == {3}
    assert {r["error"].split(":")[0] for r in failures} == {"WorkerDiedError"}
    ray(StandIn())
    assert {r["status"] for r in run(study, tmp_path, retry_failed=True)} == {"done"}


def test_workers_that_die_as_they_start_end_the_study(study, ray, tmp_path):
    stand_in = ray(StandIn(ready=[True] * 9))
    with pytest.raises(DeSTSegError, match=r"died 3 times as it started \(The actor died\)"):
        run(study, tmp_path)
    assert not (tmp_path / RECORDS).exists()
    assert stand_in.killed == len(stand_in.hired)


def test_a_worker_with_another_version_is_refused(study, ray, tmp_path, monkeypatch):
    ray(StandIn())
    real = ray_engine.Worker.ready
    monkeypatch.setattr(ray_engine.Worker, "ready", lambda self: ("0.0.1", real(self)[1]))
    with pytest.raises(DeSTSegError, match=r"has destseg_lib 0\.0\.1 and this process"):
        run(study, tmp_path)


def test_records_that_cannot_be_written_stop_the_study(study, ray, tmp_path):
    stand_in = ray(StandIn())
    (tmp_path / RECORDS).touch()
    run(study, tmp_path)
    (tmp_path / RECORDS).unlink()
    (tmp_path / RECORDS).mkdir()
    with pytest.raises((DeSTSegError, OSError)):
        run(study, tmp_path)
    assert stand_in.killed == len(stand_in.hired)
