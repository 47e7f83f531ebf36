"""Ray: starting it on this machine or joining a cluster, and how many runs fit there at once.

On this machine Ray listens on the loopback address only, serves no dashboard and sends no usage
reports. Where the variable RAY_ADDRESS names a cluster, that is joined instead.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from destseg_lib.errors import DeSTSegError

ADDRESS = "RAY_ADDRESS"
SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns where it is not set
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of several workers with one problem, one is reported
}
# Ray's own switch for "one machine, so bind to the loopback address", which also keeps firewalls
# from asking. It is read when Ray is imported.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
STORE = 128 * 2**20  # bytes of shared memory; trials and records are small


@dataclass(frozen=True)
class Share:
    """How many runs are made at once, and what each of them gets.

    Attributes:
        workers: number of runs at once; None is as many as fit.
        gpus: GPUs for each run, at most 1; None is one on a GPU and 0 on a CPU.
        threads: threads of torch in each run; None is one on a GPU; on a CPU those that the study
            began with, and for a new one an equal share of the processors if the number of
            workers is given, else two.
    """

    workers: int | None = None
    gpus: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        if self.workers is not None and self.workers < 1:
            raise DeSTSegError(f"{self.workers} workers cannot run anything; give 1 or more")
        if self.threads is not None and self.threads < 1:
            raise DeSTSegError(f"{self.threads} threads cannot compute; give --threads 1 or more")
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise DeSTSegError(
                f"a run cannot use {self.gpus:g} GPUs: it computes on one, or on a share of one "
                "such as --gpus-per-run 0.5"
            )


def threads_of_a_run(wanted: Share, device: str, processors: int) -> int:
    """The threads that each run gets where nothing else limits or keeps them, as ``Share`` says.

    Args:
        wanted: what was asked for.
        device: ``cuda``, ``mps`` or ``cpu``.
        processors: how many there are in all.
    """
    if wanted.threads:
        return wanted.threads
    if device == "cuda":
        return 1
    return max(1, processors // wanted.workers) if wanted.workers else 2


def share_out(wanted: Share, device: str, nodes: list[dict[str, float]]) -> tuple[int, float, int]:
    """How many runs fit at once, and the GPUs and threads that each of them gets.

    Args:
        wanted: what was asked for.
        device: ``cuda``, ``mps`` or ``cpu``.
        nodes: the ``CPU`` and ``GPU`` that each machine has, as Ray counts them.

    Raises:
        DeSTSegError: not even one run fits, or fewer than were asked for.
    """
    gpus = float(device == "cuda") if wanted.gpus is None else wanted.gpus
    if (device == "cuda") != (gpus > 0):
        raise DeSTSegError(
            f"--gpus-per-run {gpus:g} and --device {device} contradict each other; leave one out"
        )
    processors = [int(node.get("CPU", 0)) for node in nodes]
    there = sum(int(node.get("GPU", 0)) for node in nodes)
    threads = threads_of_a_run(wanted, device, sum(processors))
    threads = max(1, min(threads, max(processors)))  # of one machine
    room = sum(count // threads for count in processors)
    if gpus:  # Ray gives a run its share of one GPU, never parts of two
        room = min(room, there * int(1 / gpus + 1e-9))
    workers = wanted.workers or max(1, room)
    if room < workers:
        raise DeSTSegError(
            f"{workers} runs at once, each on {threads} processors"
            f"{f' and {gpus:g} GPU' if gpus else ''}, do not fit: Ray has {sum(processors)} "
            f"processors and {there} GPUs; give fewer --workers, fewer --threads or a smaller "
            "--gpus-per-run"
        )
    return workers, gpus, threads


def cluster_address() -> str | None:
    """The address of a cluster in RAY_ADDRESS; None starts Ray on this machine."""
    address = os.environ.get(ADDRESS, "")
    return None if address in ("", "local") else address


@contextmanager
def connected(wanted: Share) -> Iterator[Any]:
    """Ray, running: joined if there is a cluster, else started here and stopped again.

    Raises:
        DeSTSegError: Ray is not installed, does not start, or no cluster answers.
    """
    address = cluster_address()
    os.environ.update(SILENT if address else SILENT | ALONE)
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise DeSTSegError(
            "--engine ray needs Ray, which is not installed; install it with "
            "'pip install destseg_lib[ray]' ('pip install -e .[ray]' in a checkout), or leave "
            "--engine out to run in this process"
        ) from None
    if ray.is_initialized():  # by the caller, who also stops it
        yield ray
        return
    try:
        if address is None:
            _start_here(ray, wanted)
        else:
            ray.init(address=address, **QUIET)
    except DeSTSegError:
        raise
    except Exception as error:  # Ray raises many kinds, and bare ones
        problem = (
            f"Ray did not start on this machine ({first_line(error)}); give the command again when "
            "the machine is less busy, or leave --engine out"
            if address is None
            else f"no Ray cluster answers at {ADDRESS}={address} ({first_line(error)}); start it "
            f"with 'ray start --head', or unset {ADDRESS} to use this machine alone"
        )
        raise DeSTSegError(problem) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start_here(ray: Any, wanted: Share) -> None:
    here = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(here).is_loopback:
        raise DeSTSegError(
            f"Ray would listen on {here}, where other machines reach it, because something "
            "imported it before; start a new process, or set "
            f"{next(iter(ALONE))}=0 before importing ray"
        )
    # More processors than there are can be asked for; else Ray counts, within a container's limits.
    asked = (wanted.workers or 1) * (wanted.threads or 1)
    start = partial(
        ray.init,
        address="local",
        num_cpus=asked if asked > (os.cpu_count() or 1) else None,
        include_dashboard=False,
        object_store_memory=STORE,
        _node_ip_address="127.0.0.1",
        **QUIET,
    )
    try:
        start()
    except Exception:  # on a busy machine Ray may give up waiting for its own processes
        ray.shutdown()
        start()


def first_line(error: BaseException) -> str:
    """The message of an error, without the remote traceback that Ray puts below it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
