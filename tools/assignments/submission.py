"""Runs a submission and calls its functions, inside the sandbox.

It is given, as JSON on its input, the limits, when it will be ended, the notebook's cells and the
arguments of the calls. It answers with lines of JSON on its output, each as soon as it is known:
what ends the program later does not cost the values before. It knows no expected value and imports
nothing of the project.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

LARGEST = 1_000_000  # numbers of one value


class Stopped(BaseException):
    """A cell or a call took too long; no ``except Exception`` of a submission stops this."""


def main() -> None:
    """Put the limits into force, run the cells, call the functions, answer."""
    given = json.load(sys.stdin)
    limit(given["limits"])
    answer, own = os.dup(1), os.getpid()
    os.dup2(2, 1)  # what the submission prints is no answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.modules["otter"] = silent_otter()

    def say(**what: Any) -> None:
        if os.getpid() == own:  # not a process that the submission forked
            os.write(answer, json.dumps(what).encode() + b"\n")

    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(given["cells"], start=1):
        say(at=f"code cell {number}")
        try:
            with most_of_what_is_left(given["end"]):
                exec(compile(without_magics(source), f"code cell {number}", "exec"), namespace)
        except BaseException as error:  # a cell that fails, or exits, must not cost the others
            say(error=f"code cell {number}: {describe(error)}")
    for part, (question, calls) in enumerate(given["calls"]):
        for number, arguments in enumerate(calls):
            say(at=f"a call of {question}")
            value = call(namespace, question, arguments, given["end"])
            say(part=part, call=number, value=value)
    say(ended=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # it may have printed all that it may
            stream.flush()
    os._exit(0)  # threads that the submission left behind are not waited for


@contextlib.contextmanager
def most_of_what_is_left(end: float) -> Iterator[None]:
    """Stop what runs after two thirds of the time until the end: some is left for the others."""
    seconds = max((end - time.monotonic()) * 2 / 3, 0.01)

    def stop(*_: Any) -> None:
        raise Stopped(f"stopped after {seconds:.1f} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)  # again, if a bare "except" swallowed it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit(limits: dict[str, Any]) -> None:
    """Put the limits of each process into force; they cannot be raised again."""
    seconds = int(limits["seconds"]) + 1
    for what, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, limits["memory"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def silent_otter() -> types.ModuleType:
    """Stands in for otter in a submission: its checks are the student's, not ours."""

    class Notebook:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: None

    module = types.ModuleType("otter")
    module.Notebook = Notebook  # type: ignore[attr-defined]
    return module


def without_magics(source: str) -> str:
    """The cell without lines of IPython's own, such as ``%matplotlib inline`` or ``!pip``."""
    if source.lstrip().startswith("%%"):
        return ""
    lines = source.splitlines()
    kept = ["" if line.startswith(("%", "!")) else line for line in lines]
    return "\n".join(kept)


def call(
    namespace: dict[str, Any], question: str, arguments: list[Any], end: float
) -> dict[str, Any]:
    """The value of one call, as ``{"shape", "numbers"}``, or ``{"error"}``."""
    try:
        with most_of_what_is_left(end):
            value = namespace[question](*map(decoded, arguments))
        if value is None:
            return {"error": "returned None"}
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        array = np.asarray(value, np.float64)
        if array.size > LARGEST:
            return {"error": f"returned {array.size} numbers"}
        return {"shape": array.shape, "numbers": array.ravel().tolist()}
    except KeyError as error:
        missing = error.args == (question,)
        return {"error": f"{question} is not defined" if missing else describe(error)}
    except BaseException as error:
        return {"error": describe(error)}


def decoded(value: Any) -> Any:
    """An argument from JSON: arrays are ``{"dtype", "shape", "numbers"}``."""
    if isinstance(value, dict):
        return np.array(value["numbers"], value["dtype"]).reshape(value["shape"])
    return [decoded(v) for v in value] if isinstance(value, list) else value


def describe(error: BaseException) -> str:
    """An error in a line; its own text may fail too."""
    if isinstance(error, Stopped):
        return str(error)
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__


if __name__ == "__main__":
    main()
