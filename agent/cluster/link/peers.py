"""What nodes ask of one another over their links: one port, one request at a time for each purpose.

A request is a JSON object whose one field names what is asked for: ``{"report": {}}``. Each purpose has connections of
its own, kept open, so that a slow answer to one question never delays another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from agent.cluster.link.connection import PORT, Address, LinkConnection, MutualTls
from agent.cluster.link.frames import Json, LinkError
from agent.cluster.state import node_id
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.touch import TouchHost

Serve = Callable[[str, object], Json]  # node id of who asks, and the body of its question, to the answer
ASK_S: Final = 2.0


class Links(Protocol):
    """What those who ask and answer need of Peers."""

    def serve(self, purpose: str, answer: Serve) -> None: ...

    def ask(self, node: str, purpose: str, body: object, timeout_s: float) -> Json: ...


class Peers:
    """Both ways of asking. Thread-safe. Nodes are named by their node ids, here and in all that is asked."""

    def __init__(
        self,
        trust: TrustService,
        touch: TouchHost | None,
        heard_at: Callable[[], Mapping[str, str]],
        port: int = PORT,
    ) -> None:
        """``heard_at``: by device id, the link address that a member was heard from lately. ``port``: of every node's
        links, this one's, too."""
        self._trust, self._heard_at, self._port = trust, heard_at, port
        self._links = MutualTls(trust, self._answer, touch)
        self._served: dict[str, Serve] = {}
        self._lock = threading.Lock()  # of the two below
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._closed = False

    @property
    def own_id(self) -> str:
        return node_id(self._trust.device_id)

    def serve(self, purpose: str, answer: Serve) -> None:
        """From now on. ``answer`` runs in a thread of its asker's connection; what ThoxError it raises is told."""
        self._served[purpose] = answer

    def listen(self, host: str) -> Address:
        """Raises LinkError."""
        return self._links.listen(host, self._port)

    def addresses(self) -> Mapping[str, Address]:
        """By device id, where members that are there listen."""
        return {device: (address, self._port) for device, address in self._heard_at().items()}

    def connect(self, device_id: str, address: Address) -> LinkConnection:
        """A connection of the caller's own. Raises LinkError or TrustError."""
        return self._links.connect(device_id, address)

    def ask(self, node: str, purpose: str, body: object, timeout_s: float = ASK_S) -> Json:
        """The answer of that node, which may be this one. Raises LinkError when it is not there, does not answer in
        time, or refuses; TrustError when it is no member."""
        if node == self.own_id:
            return self._serve(node, {purpose: body})
        ends = time.monotonic() + timeout_s
        device = next((each for each in self._heard_at() if node_id(each) == node), None)
        if device is None:
            raise LinkError(f"{node} is not to be heard")
        with self._lock:
            if self._closed:
                raise LinkError("this node stops")
            lane = self._lanes.setdefault((device, purpose), _Lane())
        return lane.ask(lambda left: self._connect(device, left), {purpose: body}, ends)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            lanes = tuple(self._lanes.values())
        for lane in lanes:
            lane.close()
        self._links.close()

    def _connect(self, device: str, left_s: float) -> LinkConnection:
        address = self.addresses().get(device)
        if address is None:
            raise LinkError(f"{node_id(device)} is not to be heard any more")
        return self._links.connect(device, address, left_s)

    def _answer(self, device_id: str, request: Json) -> Json:
        return self._serve(node_id(device_id), request)

    def _serve(self, asker: str, request: Json) -> Json:
        purpose, body = next(iter(request.items()), ("", None))
        served = self._served.get(purpose)
        if served is None or len(request) != 1:
            raise LinkError(f"nobody here answers {purpose[:40]!r}", hint="the nodes may run different versions")
        return served(asker, body)


class _Lane:
    """One connection to one node for one purpose, opened when it is needed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._connection: LinkConnection | None = None

    def ask(self, connect: Callable[[float], LinkConnection], request: Json, ends: float) -> Json:
        if not self._turn.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise LinkError("the node has not answered what was asked before")
        try:
            kept = self._connection
            if kept is not None and not kept.broken:
                try:
                    return kept.request(request, _left(ends))
                except LinkError:  # the other side may have been restarted since, or was silent for long: once more
                    if not kept.broken or time.monotonic() > ends:
                        raise
            self._connection = fresh = connect(_left(ends))
            return fresh.request(request, _left(ends))
        finally:
            self._turn.release()

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.close()


def _left(ends: float) -> float:
    return max(0.001, ends - time.monotonic())
