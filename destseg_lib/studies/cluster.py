"""Ray: starting it on this machine or joining a cluster, and how many runs fit there at once.

On this machine Ray listens on the loopback address alone, serves no dashboard and reports nothing
to anyone. A cluster is joined where RAY_ADDRESS names one.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from destseg_lib.errors import DeSTSegError

ADDRESS = "RAY_ADDRESS"
SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns where nothing is said
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # two workers with one trouble are one message
}
# Ray's own name for "one machine, so bind to the loopback address": it asks for a firewall's
# blessing otherwise. It is read as Ray is imported.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
STORE = 128 * 2**20  # bytes of shared memory; trials and records are small
STARTS = 2  # on a busy machine Ray may give up waiting for its own processes


@dataclass(frozen=True)
class Wish:
    """What each run gets, and how many run at once.

    Attributes:
        workers: runs at once; None is as many as fit.
        gpus: share of a GPU for each run; None is one on a GPU, none on a CPU.
        threads: of torch in each run; None is one beside a GPU; on a CPU an equal share of the
            processors, where the number of workers is given, else two.
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
        if self.gpus is not None and not (0 < self.gpus <= 1 or self.gpus == 0):
            raise DeSTSegError(
                f"a run cannot use {self.gpus:g} GPUs: it computes on one, or on a share of one "
                "such as --gpus-per-run 0.5"
            )


@dataclass(frozen=True)
class Share:
    """What was made of a wish: ``workers`` runs at once, each with ``gpus`` and ``threads``."""

    device: str
    workers: int
    gpus: float
    threads: int


def cluster_address() -> str | None:
    """Where RAY_ADDRESS says a cluster is; None starts Ray on this machine."""
    address = os.environ.get(ADDRESS, "")
    return None if address in ("", "local") else address


@contextmanager
def connected(wish: Wish) -> Iterator[Any]:
    """Ray, running: joined if there is a cluster, else started here and stopped again.

    Raises:
        DeSTSegError: Ray is not installed, does not start, or no cluster answers.
    """
    address = cluster_address()
    ray = _import(alone=address is None)
    if ray.is_initialized():  # by whoever called, who also stops it
        yield ray
        return
    if address is None:
        _start(ray, wish)
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises many kinds, and bare ones
            raise DeSTSegError(
                f"no Ray cluster answers at {ADDRESS}={address} ({first_line(error)}); start it "
                f"with 'ray start --head', or unset {ADDRESS} to use this machine alone"
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def share_out(wish: Wish, device: str, nodes: list[dict[str, float]]) -> Share:
    """How many runs fit at once, and what each of them gets.

    Args:
        wish: what was asked for.
        device: ``cuda``, ``mps`` or ``cpu``.
        nodes: of each machine what it has, ``CPU`` and ``GPU``, as Ray counts.

    Raises:
        DeSTSegError: not even one run fits, or fewer than were asked for.
    """
    gpus = (1.0 if device == "cuda" else 0.0) if wish.gpus is None else wish.gpus
    if (device == "cuda") != (gpus > 0):
        raise DeSTSegError(
            f"--gpus-per-run {gpus:g} and --device {device} contradict each other; leave one out"
        )
    processors = int(sum(node.get("CPU", 0) for node in nodes))
    threads = wish.threads or 1
    if wish.threads is None and device != "cuda":
        threads = max(1, processors // wish.workers) if wish.workers else 2
    threads = min(threads, max((int(node.get("CPU", 0)) for node in nodes), default=1) or 1)

    def fit(node: dict[str, float]) -> int:
        runs = int(node.get("CPU", 0)) // threads
        # Ray gives a run its share of one GPU, never parts of two.
        return min(runs, int(node.get("GPU", 0)) * int(1 / gpus + 1e-9)) if gpus else runs

    room = sum(map(fit, nodes))
    if room < (wish.workers or 1):
        has = f"{processors} processors and {int(sum(n.get('GPU', 0) for n in nodes))} GPUs"
        raise DeSTSegError(
            f"{wish.workers or 1} runs at once, each on {threads} processors"
            f"{f' and {gpus:g} GPU' if gpus else ''}, do not fit: Ray has {has}; give fewer "
            "--workers, fewer --threads or a smaller --gpus-per-run"
        )
    return Share(device, wish.workers or room, gpus, threads)


def _import(*, alone: bool) -> Any:
    os.environ.update(SILENT)
    if alone:
        os.environ.update(ALONE)
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise DeSTSegError(
            "--engine ray needs Ray, which is not installed; install it with "
            "'pip install destseg_lib[ray]' ('pip install -e .[ray]' in a checkout), or leave "
            "--engine out to run in this process"
        ) from None


def _start(ray: Any, wish: Wish) -> None:
    here = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(here).is_loopback:
        raise DeSTSegError(
            f"Ray would listen on {here}, where other machines reach it, because something "
            "imported it before; start a new process, or set "
            f"{next(iter(ALONE))}=0 before importing ray"
        )
    # Whoever asks for more than there is gets it; else Ray counts, within a container's limits.
    asked = (wish.workers or 1) * (wish.threads or 1)
    processors = asked if asked > (os.cpu_count() or 1) else None
    for left in range(STARTS - 1, -1, -1):
        try:
            ray.init(
                address="local",
                num_cpus=processors,
                include_dashboard=False,
                object_store_memory=STORE,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address="127.0.0.1",
            )
            break
        except Exception as error:  # Ray raises many kinds, and bare ones
            ray.shutdown()
            if left == 0:
                raise DeSTSegError(
                    f"Ray did not start on this machine ({first_line(error)}); give the command "
                    "again when the machine is less busy, or leave --engine out"
                ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the remote traceback that Ray puts below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
