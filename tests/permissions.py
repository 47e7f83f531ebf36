"""What an unprivileged user is told; the tests may run as root, who may do anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from destseg_lib.errors import DeSTSegError

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="permissions are told by fork")


def message_as_nobody(call: Callable[[], object]) -> str:
    """The DeSTSegError's text when an unprivileged user makes the call."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            call()
            text = "no error"
        except DeSTSegError as error:
            text = str(error)
        except BaseException as error:
            text = f"not a DeSTSegError: {error!r}"
        os.write(send, text.encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as pipe:
        return pipe.read()
