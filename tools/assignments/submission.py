"""Runs a submission and calls its functions, inside the sandbox.

It is given, as JSON on its input, the limits, the notebook's cells and the arguments of the calls.
It answers with values on its output. It knows no expected value and imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import types
from typing import Any

import numpy as np

LARGEST = 1_000_000  # numbers of one value


def main() -> None:
    """Put the limits into force, run the cells, call the functions, answer."""
    given = json.load(sys.stdin)
    limit(given["limits"])
    own = os.getpid()
    answer = os.dup(1)
    os.dup2(2, 1)  # what the submission prints is no answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.modules["otter"] = silent_otter()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    errors = []
    for number, source in enumerate(given["cells"]):
        try:
            exec(compile(without_magics(source), f"cell {number + 1}", "exec"), namespace)
        except BaseException as error:  # a cell that fails, or exits, must not cost the others
            errors.append(f"cell {number + 1}: {describe(error)}")
    values = [
        [call(namespace, question, arguments) for arguments in calls]
        for question, calls in given["calls"]
    ]
    if os.getpid() == own:  # not a process that the submission forked
        with os.fdopen(answer, "w") as file:
            json.dump({"errors": errors[:20], "values": values}, file)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # it may have printed all that it may
                stream.flush()
    os._exit(0)  # threads that the submission left behind are not waited for


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


def call(namespace: dict[str, Any], question: str, arguments: list[Any]) -> dict[str, Any]:
    """The value of one call, as ``{"shape", "numbers"}``, or ``{"error"}``."""
    try:
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
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__


if __name__ == "__main__":
    main()
