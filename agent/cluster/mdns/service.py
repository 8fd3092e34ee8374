"""mDNS at work: one thread that tells the LAN of this device, and of the leader while it leads.

The package that reads and writes DNS takes a tenth of a second to import, so only a device that has something to tell
imports it: this file does not.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from agent.cluster.state import Cluster
from agent.config import ServerConfig

if TYPE_CHECKING:
    from agent.cluster.mdns.announcer import Announcer

CLOSE_S: Final = 2.0


class Mdns:
    """Thread-safe. It starts no server."""

    def __init__(self, node_id: str, version: str, server: ServerConfig, cluster: Cluster, *, simulated: bool) -> None:
        """``server``: what is served where. ``cluster``: as it is now; of changes ``update`` is told."""
        self._node_id, self._version, self._server, self._simulated = node_id, version, server, simulated
        self._cluster = cluster
        self._announcer: Announcer | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None

    def start(self) -> None:
        """Its names are this device's about a second later. Of a server on loopback nobody is told."""
        if ip_address(self._server.bind).is_loopback:
            return
        from agent.cluster.mdns.announcer import Announcer

        node, version, server = self._node_id, self._version, self._server
        self._announcer = Announcer(node, version, server, lambda: self._cluster, simulated=self._simulated)
        woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        run = self._announcer.run
        self._thread = threading.Thread(target=run, args=(woken, self._closing), name="mdns", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why the LAN cannot find this device as it should; empty when it can, or is not to."""
        return "" if self._announcer is None else self._announcer.fault

    def update(self, cluster: Cluster) -> None:
        """The cluster is like that now. Returns at once."""
        self._cluster = cluster
        self._nudge()

    def close(self) -> None:
        """Say goodbye, so that nobody looks for this device here any more."""
        self._closing.set()
        self._nudge()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        if self._wake is not None:
            self._wake.close()

    def _nudge(self) -> None:
        if self._wake is not None:
            with suppress(OSError):  # full of nudges, or closed
                self._wake.send(b"\0")
