"""Ports that nobody uses right now."""

from __future__ import annotations

import socket


def two_free_ports() -> tuple[int, int]:
    """Two loopback ports, free a moment ago; held together, so that they differ."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])
