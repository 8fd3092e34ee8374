"""What mDNS tells the LAN: this node's name, its service, and the leader's name while it leads.

Only networks that ``server.bind`` serves hear of the device, each of its own addresses there. What is said and when is
decided in responder.py; here are the sockets, the networks that come and go, and the cluster that changes.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Final

from agent.cluster.mdns.link import MdnsLink
from agent.cluster.mdns.networks import Network, changes, networks, own_addresses
from agent.cluster.mdns.records import Shown, shown
from agent.cluster.mdns.responder import PORT, Packet, Responder
from agent.cluster.state import Cluster
from agent.config import ServerConfig

LOOK_S: Final = 5.0  # between looks at the networks; a change that the kernel tells of is looked at when it has settled
SETTLE_S: Final = 0.2
REST_S: Final = 1.0  # after an error that nobody foresaw
API: Final = "v1"

_log = logging.getLogger(__name__)


class Announcer:
    """For one thread, which calls ``run``."""

    def __init__(
        self, node_id: str, version: str, server: ServerConfig, cluster: Callable[[], Cluster], *, simulated: bool
    ) -> None:
        """``server``: what is served where. ``cluster``: as it is now."""
        self._node_id, self._version, self._server, self._simulated = node_id, version, server, simulated
        self._cluster, self._told = cluster, cluster()
        self._responders: dict[MdnsLink, Responder] = {}
        self._own: frozenset[bytes] = frozenset()  # addresses of this device
        self._look_at = 0.0
        self._untold: list[str] = []  # why some network hears nothing
        self.fault = ""  # why the LAN cannot find this device as it should, for /v1/health

    def run(self, woken: socket.socket, closing: threading.Event) -> None:
        """Until it is ``closing``. A byte to ``woken`` says so, or that the cluster is another."""
        with selectors.DefaultSelector() as self._selector, woken, _told_by_the_kernel() as changed:
            for each in (woken, changed):
                if each is not None:
                    each.setblocking(False)
                    self._selector.register(each, selectors.EVENT_READ)
            while not closing.is_set():
                try:
                    self._step(time.monotonic())
                except Exception as error:  # noqa: BLE001  a device that nobody finds must not be one that does not run
                    _log.exception("mDNS goes on after an error")
                    self._say(type(error).__name__)
                    closing.wait(REST_S)
            for link in list(self._responders):
                self._drop(link)

    def _step(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)
        cluster = self._cluster()
        if cluster is not self._told:
            self._told = cluster
            for link in self._responders:
                self._show(link, now)
        for link, responder in self._responders.items():
            _send(link, responder.tick(now))
        self._say("; ".join([*self._rivals(), *self._untold]))
        due = min([self._look_at, *(responder.due for responder in self._responders.values())])
        for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
            assert isinstance(key.fileobj, socket.socket)
            self._ready(key.fileobj, key.data, time.monotonic())

    def _ready(self, ready: socket.socket, link: MdnsLink | None, now: float) -> None:
        if link is not None:
            for data, source in link.receive(ready, self._own):
                _send(link, self._responders[link].hear(data, source, now))
            return
        with suppress(OSError):  # emptied, or the kernel has more to tell than fits
            while ready.recv(65536):
                pass
        if ready.family == socket.AF_NETLINK:
            self._look_at = min(self._look_at, now + SETTLE_S)

    def _look(self, now: float) -> None:
        """Follow the networks."""
        found = {network.index: network for network in networks(self._server.bind)}
        self._own, self._untold = own_addresses(), []
        for link in list(self._responders):
            network = found.get(link.network.index)
            if network is None or _versions(network) != _versions(link.network):
                self._drop(link)
            else:
                del found[link.network.index]
                if network != link.network:
                    link.network = network
                    self._show(link, now)
        for network in found.values():
            try:
                link = MdnsLink(network)
            except OSError as error:
                self._untold.append(f"no mDNS on {network.name}: port {PORT}: {error.strerror}")
                continue
            self._responders[link] = Responder(self._node_id)
            for each in link.sockets:
                self._selector.register(each, selectors.EVENT_READ, link)
            self._show(link, now)
        if not (self._responders or self._untold or ip_address(self._server.bind).is_unspecified):
            self._untold.append(f"no mDNS: no network has the address {self._server.bind}")

    def _show(self, link: MdnsLink, now: float) -> None:
        leads = self._told.role(self._node_id) == "leader"
        said = shown(self._node_id, link.network.packed, self._server.cluster_port, self._properties(), leads=leads)
        _send(link, self._responders[link].show(said, self._own, now))

    def _properties(self) -> Mapping[str, str]:
        """What a client needs, and nothing that is not for everybody."""
        return {
            "api": API,
            "version": self._version,
            "node": self._node_id,
            "cluster": self._told.id,
            "role": self._told.role(self._node_id),
            "inference": str(self._server.inference_port),
            **({"simulated": "1"} if self._simulated else {}),
        }

    def _drop(self, link: MdnsLink) -> None:
        """Goodbye, where it can still be heard."""
        responder = self._responders.pop(link)
        _send(link, responder.show(Shown(), self._own, time.monotonic()))
        for each in link.sockets:
            self._selector.unregister(each)
        link.close()

    def _rivals(self) -> list[str]:
        return [
            f"{name} is another device's ({address}) on {link.network.name}"
            for link, responder in self._responders.items()
            for name, address in responder.rivals.items()
        ]

    def _say(self, fault: str) -> None:
        if fault != self.fault:
            _log.log(logging.WARNING if fault else logging.INFO, "mDNS: %s", fault or "all is well")
        self.fault = fault


@contextmanager
def _told_by_the_kernel() -> Iterator[socket.socket | None]:
    """Readable when the networks change; None where the kernel does not tell: then every LOOK_S has to do."""
    try:
        changed = changes()
    except OSError as error:
        _log.info("the kernel does not tell of changes of the networks: %s", error)
        yield None
        return
    with changed:
        yield changed


def _versions(network: Network) -> set[int]:
    return {address.version for address in network.addresses}


def _send(link: MdnsLink, packets: list[Packet]) -> None:
    for packet in packets:
        link.send(packet)
