"""The client's end of the connection: is it still there, and how long may it stall."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Connection:
    """One client's socket, if the server tells us which it is."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock

    @classmethod
    def of(cls, environ: Mapping[str, object]) -> Connection:
        """gunicorn puts the socket into the WSGI environment; a test client has none, and never leaves."""
        sock = environ.get("gunicorn.socket")
        return cls(sock if isinstance(sock, socket.socket) else None)

    def limit_stalls(self, seconds: float) -> None:
        """A single read or write that makes no headway for this long fails with TimeoutError."""
        if self._sock is not None:
            self._sock.settimeout(seconds)

    def gone(self) -> bool:
        """Whether the client has closed its end.

        A client that only half-closes (shuts down its writing side) counts as gone: no HTTP library in use does that
        and still reads. POLLRDHUP sees the end even behind bytes of a further request that nobody has read yet.
        """
        if self._sock is None:
            return False
        try:
            poller = select.poll()
            poller.register(self._sock, select.POLLRDHUP)
            return bool(poller.poll(0))
        except (OSError, ValueError):  # closed on our side
            return True
