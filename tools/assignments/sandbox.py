"""Runs somebody else's program in a process of its own, with limits, away from everybody's files.

Linux namespaces, through util-linux's ``unshare``: no network, a file system that holds nothing but
Python and the library, and its own process tree, which dies as a whole. Resource limits bound each
process; memory of the whole tree and time are watched from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parents[1] / "destseg_lib"
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: from start to end; also the CPU seconds of each process.
        memory: bytes, of all its processes together; what they share counts for each.
        processes: processes and threads at a time.
        file: bytes of a file, of its answer, and of what it prints.
        space: bytes of all its files together.
    """

    seconds: float = 15
    memory: int = 1536 * MIB
    processes: int = 48
    file: int = 16 * MIB
    space: int = 128 * MIB


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        answer: what the program wrote as its answer, at most ``Limits.file`` bytes.
        printed: the beginning of what it printed.
        reason: why there is no answer, as a sentence for the student; empty if it ended well.
        seconds: how long it took.
    """

    answer: bytes
    printed: str
    reason: str
    seconds: float


def run_confined(
    program: Path, given: dict[str, Any], limits: Limits, *, confined: bool = True
) -> Outcome:
    """Run a Python file that reads JSON from its input and answers on its output.

    Args:
        program: the file; the only one, next to Python and the library, that it can read.
        given: what it is given; ``limits`` are added, which the file must put into force, and
            ``end``, the reading of the monotonic clock when it will be ended.
        limits: what it may use.
        confined: without it there are no namespaces: the network, and everybody's files, are in
            reach, and a process that leaves its tree goes on.
    """
    with (
        tempfile.TemporaryFile() as given_file,
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() as printed,
        tempfile.TemporaryDirectory() as root,
    ):
        start = time.monotonic()
        given |= {"limits": asdict(limits), "end": start + limits.seconds}
        given_file.write(json.dumps(given).encode())
        given_file.seek(0)
        # -P: the file's folder is not on the path, so that nothing in it can be imported.
        python = [str(_executable()), "-P", "-s", "-B", str(program.resolve())]
        process = subprocess.Popen(
            _in_namespaces(python, program, Path(root), limits) if confined else python,
            stdin=given_file,
            stdout=answer,
            stderr=printed,
            cwd=root,
            env=_environment("/tmp" if confined else root),
            start_new_session=True,
        )
        reason = _watch(process, limits, start)
        seconds = time.monotonic() - start
        text = _beginning(printed, 4000).decode(errors="replace")
        if not reason and process.returncode:
            number = process.returncode % 128 if process.returncode > 128 else -process.returncode
            what = signal.Signals(number).name if number in set(signal.Signals) else "an error"
            reason = f"The program ended with {what}."
        return Outcome(_beginning(answer, limits.file), text, reason, seconds)


def _watch(process: subprocess.Popen[bytes], limits: Limits, start: float) -> str:
    """Wait for the end, or bring it about when a limit is passed; and say why."""
    reason = ""
    while process.poll() is None and not reason:
        time.sleep(0.02)
        if time.monotonic() - start > limits.seconds:
            reason = f"It took longer than {limits.seconds:g} seconds."
        elif _tree_memory(process.pid) > limits.memory:
            reason = f"It needed more memory than {limits.memory // MIB} MiB."
    children = _tree(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.wait()
    psutil.wait_procs(children, timeout=5)
    return reason


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _tree_memory(pid: int) -> int:
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _in_namespaces(python: list[str], program: Path, root: Path, limits: Limits) -> list[str]:
    """The command that runs ``python`` in namespaces; root gives its rights up inside."""
    root.chmod(0o755)
    readable = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"]
    prefixes = {os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)}
    readable += sorted(prefix for prefix in prefixes if not prefix.startswith("/usr"))
    readable = [folder for folder in readable if Path(folder).exists()]
    readable += [str(LIBRARY), str(program.resolve())]
    as_root = os.geteuid() == 0
    # A user of its own: the number of processes is counted by user.
    user = 2**20 + os.getpid()
    return [
        "unshare",
        *([] if as_root else ["--user", "--map-root-user"]),
        *("--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"),
        *("sh", str(HERE / "confine.sh"), str(root), str(limits.space), *readable, "--"),
        *("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
        *([f"--reuid={user}", f"--regid={user}", "--clear-groups"] if as_root else []),
        *python,
    ]


def _executable() -> Path:
    """This Python by a path without links outside its folders, so that its packages are found."""
    return Path(os.path.realpath(sys.prefix), Path(sys.executable).relative_to(sys.prefix))


def _environment(home: str) -> dict[str, str]:
    """Nothing of the instructor's environment, which may hold passwords."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(LIBRARY.parent),
        "MPLBACKEND": "agg",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }


def _beginning(file: IO[bytes], size: int) -> bytes:
    file.seek(0)
    return file.read(size)
