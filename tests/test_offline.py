"""Tiny mode needs no network: the tests run under a guard that refuses other machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parent / "offline"


def guarded(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(OFFLINE)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_guard_is_in_force_here():
    # 192.0.2.0/24 belongs to nobody: it is set aside for documentation.
    with pytest.raises(OSError, match="refused by tests/offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import socket; socket.getaddrinfo('example.com', 80)",
        "import urllib.request; urllib.request.urlopen('https://example.com', timeout=1)",
    ],
)
def test_every_way_off_the_machine_is_refused_in_child_processes_too(attempt):
    ran = guarded(attempt)
    assert ran.returncode != 0
    assert "refused by tests/offline" in ran.stderr


def test_this_machine_may_be_talked_to():
    program = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(('localhost', server.getsockname()[1]), timeout=5)\n"
    )
    assert guarded(program).returncode == 0
