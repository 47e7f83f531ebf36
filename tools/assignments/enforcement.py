"""Tries what the sandbox keeps here, by programs that break each limit in a small, harmless way."""

from __future__ import annotations

import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from judge import PROGRAM, read_answer
from sandbox import MIB, Limits, Outcome, run_confined

SMALL = Limits(seconds=10, memory=256 * MIB, processes=16, file=MIB, space=4 * MIB)
WHAT = {
    "network": "no connection, not even to this machine",
    "others' files": "neither read nor written outside its own empty folder",
    "processes": "a number of processes and threads",
    "memory": "of all its processes together",
    "size of a file": "of what it writes and prints",
    "time": "after which it is ended with all that it started",
}


def forking(count: int, seconds: float) -> str:
    """A program that starts so many processes, which sleep so long, and ends them."""
    return f"""
import os, time
started = []
try:
    for _ in range({count}):
        pid = os.fork()
        if pid == 0:
            time.sleep({seconds})
            os._exit(0)
        started.append(pid)
finally:
    for pid in started:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
"""


def holding(mebibytes: int, seconds: float) -> str:
    """A program of three processes that each hold so much memory so long."""
    return f"""
import os, time
for _ in range(3):
    if os.fork() == 0:
        held = bytearray({mebibytes} * 2**20)
        held[::4096] = bytes(len(held[::4096]))
        time.sleep({seconds})
        os._exit(0)
for _ in range(3):
    os.wait()
"""


# Each returns 1 where the limit does not hold. Few processes, little memory, a second of sleep.
PROBES = {
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\nreturn 1",
    "others' files": """
try:
    open(TOKEN).read()
except OSError:
    open(TOKEN + '.new', 'w').write('x')
return 1""",
    "processes": f"{forking(20, 1)}return 1",
    "size of a file": "with open('big', 'wb') as file:\n    file.write(bytes(2**21))\nreturn 1",
}
MEMORY = f"{holding(110, 1.5)}return 1"
# Deaf to the time that a submission's own process gives it: the end comes from outside.
TIME = "import signal, time\nsignal.signal(14, signal.SIG_IGN)\ntime.sleep(2.5)\nreturn 1"


def enforced(*, confined: bool = True) -> dict[str, bool]:
    """By limit, whether a program that breaks it is stopped on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        token.write_text("an instructor's file")
        token.chmod(0o644)
        Path(folder).chmod(0o777)
        values = f"PORT, TOKEN = {server.getsockname()[1]}, {str(token)!r}\n"
        # Pages that forked processes share count for each of them: no memory limit here.
        first = run_probes(
            list(PROBES.values()), replace(SMALL, memory=2048 * MIB), values, confined=confined
        )
    memory = run_probes([MEMORY], SMALL, confined=confined)
    slow = run_probes([TIME], replace(SMALL, seconds=1.5), confined=confined)
    # The program must have run: one that never started has broken nothing, and proves nothing.
    answer = read_answer(first.answer)
    ran = answer.ended and not first.reason
    results = [answer.values.get((number, 0), {}) for number in range(len(PROBES))]
    held = {name: ran and "error" in result for name, result in zip(PROBES, results, strict=True)}
    held["memory"] = ran and "memory" in memory.reason
    held["time"] = ran and "longer" in slow.reason
    return {name: held[name] for name in WHAT}


def run_probes(
    bodies: list[str], limits: Limits, values: str = "", *, confined: bool = True
) -> Outcome:
    """Run bodies of functions as a submission's cells, and call each once."""
    cells = [values]
    calls: list[Any] = []
    for number, body in enumerate(bodies):
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        cells.append(f"def probe{number}():\n{lines}\n")
        calls.append([f"probe{number}", [[]]])
    return run_confined(PROGRAM, {"cells": cells, "calls": calls}, limits, confined=confined)


def report(held: dict[str, bool]) -> str:
    """A line for each limit."""
    return "\n".join(f"{'yes' if held[k] else 'NO':4}{k}: {what}" for k, what in WHAT.items())
