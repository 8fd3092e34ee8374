"""Devices that trust, or not, in one process: real keys, real files, real sockets on loopback."""

from __future__ import annotations

import contextlib
import itertools
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.cluster.link.connection import MutualTls
from agent.cluster.link.frames import Json
from agent.cluster.trust.identity import KnownIdentity
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.touch import TouchHost, meet
from hal.base import TagRecord


@dataclass
class WornTag:
    """A tag, and what lies on it, as the test says."""

    written: str = field(default_factory=lambda: uuid.uuid4().hex)
    touched: bool = True
    spent_by: str = ""

    def nonce(self) -> str:
        return self.written

    def refusal(self, fingerprint: str, nonce: str) -> str:
        if self.spent_by not in ("", fingerprint):
            return "spent"
        return "" if self.touched else "nothing touches it"

    def spend(self, fingerprint: str) -> None:
        self.spent_by = fingerprint


class Device:
    """A device that answers on a port of its own."""

    def __init__(self, folder: Path, wall: Callable[[], float] | None = None, device_id: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.trust = TrustService(folder, device_id or str(uuid.uuid4()), **({"wall": wall} if wall else {}))
        self.id = self.trust.device_id
        self.worn = WornTag()
        self.heard: list[tuple[str, Json]] = []
        self.answer: Callable[[str, Json], Json] = self._echo
        self.links = MutualTls(self.trust, lambda *asked: self.answer(*asked), TouchHost(self.trust, self.worn))
        self.address = self.links.listen("127.0.0.1", 0)

    def record(self, **changes: object) -> TagRecord:
        """What the tag says."""
        fields: dict[str, object] = {
            "device_id": self.id,
            "fingerprint": self.trust.fingerprint,
            "face": "bottom",
            "firmware": "0.1.0",
            "ram_bytes": 16 << 30,
            "tops": 100.0,
            "floor_w": 10.0,
            "peak_w": 40.0,
            "addresses": (self.address[0],),
            "boot_nonce": self.worn.written,
        }
        return TagRecord(**{**fields, **changes})  # type: ignore[arg-type]

    def touch(self, other: Device, record: TagRecord | None = None, closed: bool = True) -> KnownIdentity:
        """This device's reader reads the other's tag."""
        seen = record or other.record()
        return meet(self.trust, seen, self.worn.nonce(), other.address, lambda: closed)

    def members(self) -> set[str]:
        return {each.device_id for each in self.trust.roster().members}

    def ask(self, other: Device, body: Json | None = None) -> Json:
        connection = self.links.connect(other.id, other.address)
        try:
            return connection.request(body or {"say": "hello"})
        finally:
            connection.close()

    def _echo(self, node_id: str, body: Json) -> Json:
        self.heard.append((node_id, body))
        return {"to": node_id, "said": body}


def together(*devices: Device) -> None:
    """Each touches the next; then all tell each other, as documents do."""
    for lower, upper in itertools.pairwise(devices):
        lower.touch(upper)
        upper.worn.spent_by = ""
    for _ in devices:
        for teller in devices:
            for hearer in devices:
                if hearer is not teller and teller.id in hearer.members():
                    hearer.trust.take(teller.trust.document())


@contextlib.contextmanager
def devices(folder: Path) -> Iterator[Callable[..., Device]]:
    """Makes devices, and closes them at the end."""
    made: list[Device] = []

    def make(name: str, **how: object) -> Device:
        made.append(Device(folder / name, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.links.close()


def say(address: tuple[str, int], data: bytes, timeout_s: float = 10.0) -> bytes:
    """Send bytes to a port, and return all that comes back until the other side closes."""
    with socket.create_connection(address, timeout_s) as plain:
        plain.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := plain.recv(65536):
                answer += piece
        return answer
