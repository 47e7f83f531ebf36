"""A study on Ray: the records of one process, whatever dies on the way.

Ray is started once for most of these, as a caller who has it running would; the driver that is
killed starts its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_study import SMALL, table

from destseg_lib.drawn.dataset import ImageCounts, write_category
from destseg_lib.studies.cluster import ADDRESS, Share, connected
from destseg_lib.studies.ray_workers import run_study_on_ray
from destseg_lib.studies.records import RECORDS, STUDENTS, missing_trials, read_records
from destseg_lib.studies.run import run_study
from destseg_lib.studies.study import Study, read_study

# Not importorskip: the library says how Ray is to be imported.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install -e .[ray]",
    ),
]

TWO = Share(workers=2, threads=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    category = write_category("metal", folder, 64, ImageCounts(6, 3, 1), progress=False)
    file = folder / "small.toml"
    steps = {"student.steps": 8, "segmentation.steps": 8}  # long enough to be killed in
    file.write_text(table(category, **SMALL | steps, teacher="random"))
    return file


@pytest.fixture(scope="module")
def study(file: Path) -> Study:
    return read_study(file)


@pytest.fixture(scope="module")
def alone(study: Study, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The records of one process, one thread a run: what every other way must give."""
    return in_process(study, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ADDRESS, raising=False)
        with connected(TWO) as running:
            yield running


def on_ray(study: Study, out: Path, share: Share = TWO, **options: Any) -> list[dict]:
    return run_study_on_ray(study, out, out / "world", "cpu", share, progress=False, **options)


def in_process(study: Study, out: Path, **options: Any) -> list[dict]:
    device = torch.device("cpu")
    return run_study(study, out, out / "world", device, threads=1, progress=False, **options)


def timeless(records: list[dict]) -> list[dict]:
    """Records without time and worker; another commit may be made while these tests run."""
    kept = json.loads(json.dumps(records))
    for record in kept:
        del record["seconds"], record["worker"]
        del record["provenance"]["finished"], record["provenance"]["commit"]
    return kept


def lines(out: Path) -> list[str]:
    return (out / RECORDS).read_text().splitlines() if (out / RECORDS).exists() else []


def children(name: str, of: int | None = None) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if process.cmdline()[:1] == [name] or not name:
                found.append(process)
        except psutil.Error:
            continue
    return found


def lives(process: psutil.Process) -> bool:
    """Whether it still runs: a zombie has ended, only nobody has asked how."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def killer() -> Iterator[list[int]]:
    """Kills the first worker that is seen in the middle of a run; its process id is told."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not killed and not over.wait(0.02):
            for process in children("ray::_run")[:1]:
                process.kill()
                killed.append(process.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_nothing_listens_beyond_this_machine_and_no_dashboard_is_served(ray):
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in children("")
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_two_workers_give_the_records_of_one_process(study, alone, tmp_path):
    records = on_ray(study, tmp_path)
    assert timeless(records) == timeless(alone)
    assert {r["provenance"]["threads"] for r in records} == {1}
    assert {r["worker"] for r in records} <= {0, 1}
    assert len(lines(tmp_path)) == 6
    # Each student was trained once, though three trials share it.
    assert sum(r["seconds"]["student"] > 0 for r in records) == 2
    assert len(list((tmp_path / STUDENTS).glob("*.safetensors"))) == 2
    # Nothing is left to do, so nothing is done.
    assert on_ray(study, tmp_path) == records


@pytest.mark.parametrize("retries", [1, 0])
def test_a_worker_killed_in_the_middle_of_a_run_costs_that_run(study, alone, tmp_path, retries):
    with killer() as killed:
        records = on_ray(study, tmp_path, retries=retries)
    assert len(killed) == 1
    assert len(lines(tmp_path)) == 6
    failures = [(r["tries"], r["error"]) for r in records if r["status"] == "failed"]
    died = "WorkerDiedError: the worker's process ended (killed, or out of memory)"
    assert failures == ([] if retries else [(1, died)])
    records = in_process(study, tmp_path, retry_failed=True)  # either engine continues
    assert timeless(records) == timeless(alone)


def test_a_killed_driver_goes_on_with_what_is_missing(study, file, alone, tmp_path):
    command = [
        sys.executable, "-m", "destseg_lib.cli", "study", "run", str(file), "--out", str(tmp_path),
        "--engine", "ray", "--workers", "2", "--threads", "1", "--device", "cpu", "--quiet",
    ]  # fmt: skip
    driver = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 600
    while not lines(tmp_path) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert driver.poll() is None, "it ended before it could be killed"
    left_behind = children("", driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = lines(tmp_path)
    assert 1 <= len(before) < 6
    assert len(missing_trials(study, tmp_path)) == 6 - len(before)
    records = on_ray(study, tmp_path)
    assert lines(tmp_path)[: len(before)] == before
    assert len(lines(tmp_path)) == 6
    assert timeless(records) == timeless(alone)
    assert read_records(study, tmp_path) == records
    # Ray ends what belonged to the killed driver.
    deadline = time.monotonic() + 60
    while alive := [process for process in left_behind if lives(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
