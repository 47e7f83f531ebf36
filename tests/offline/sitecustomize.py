"""Refuse to connect to other machines, in this process and in every Python it starts.

The Makefile puts this folder on PYTHONPATH for the tests, the notebooks and the book, so that
whatever would reach for the network there fails, and says to whom it wanted to talk.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

MARK = "refused by tests/offline"


class OffMachineError(OSError):
    """A connection to another machine was attempted."""


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = str(address[0]).partition("%")[0]
    if host in ("", "localhost", "<broadcast>"):
        return host != "<broadcast>"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Look at what Python is about to do; an audit hook sees every library's sockets."""
    if event in ("socket.connect", "socket.sendto") and not _local(arguments[1]):
        raise OffMachineError(f"{MARK}: a connection to {arguments[1]}")
    if event == "socket.getaddrinfo" and arguments[0] is not None:
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        if not _local((host, 0)) and host != socket.gethostname():
            raise OffMachineError(f"{MARK}: looking up {host}")


sys.addaudithook(_guard)
