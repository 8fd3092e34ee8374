"""Modules of a World in this process, each with a real MembershipService on its simulated hardware."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import queue
import struct
import time
import uuid
from collections.abc import Callable
from itertools import count
from pathlib import Path

from agent.cluster.membership.service import EpochFile, EpochStore, MembershipService
from agent.cluster.report.changes import Change, changes
from agent.cluster.state import Cluster, Node, node_id
from hal.base import TagRecord
from hal.sim import SimLines, SimLink, SimOwnTag, SimReader, SimSupply
from hal.world import World
from hal.world_port import LocalPort

WITHIN_S = 20.0  # the machine may be busy


class StampSeal:
    """One secret for the whole stack: enough to tell a member from a stranger, and who speaks."""

    def __init__(self, device_id: str, secret: bytes = b"of this stack") -> None:
        self._device, self._secret, self._numbers = device_id, secret, count(1)

    def seal(self, data: bytes) -> bytes:
        body = uuid.UUID(self._device).bytes + struct.pack(">Q", next(self._numbers)) + data
        return hmac.digest(self._secret, body, hashlib.sha256) + body

    def open(self, datagram: bytes) -> tuple[str, bytes] | None:
        stamp, body = datagram[:32], datagram[32:]
        if len(body) < 24 or not hmac.compare_digest(stamp, hmac.digest(self._secret, body, hashlib.sha256)):
            return None
        return str(uuid.UUID(bytes=body[:16])), body[24:]


class RunningNode:
    """One module with its agent's membership."""

    def __init__(
        self,
        world: World,
        number: int,
        state_dir: Path,
        secret: bytes = b"of this stack",
        store: EpochStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.device = f"module-{number}", str(uuid.UUID(int=number << 80 | 1))
        self.id = node_id(self.device)
        self.world, self.state_dir, self.secret = world, state_dir, secret
        self.state_dir.mkdir(exist_ok=True)
        self.store, self.clock = store or EpochFile(state_dir), clock
        self.start()

    def start(self) -> None:
        port = LocalPort(self.world, self.name)
        self.port, self.link = port, SimLink(port)
        supply = SimSupply(port)

        def facts() -> Node:
            battery = supply.battery()
            return Node(
                id=self.id,
                address=self.link.address(),
                ram_bytes=16 * 2**30,
                tops=100.0,
                external_power=supply.external(),
                battery_percent=None if battery is None or battery.value is None else round(battery.value, 1),
                version="0.0.0",
            )

        SimOwnTag(port).publish(self._record())
        self.service = MembershipService(
            facts,
            StampSeal(self.device, self.secret),
            self.link,
            self.store,
            SimLines(port),
            {"top": SimReader(port)},
            self.clock,
        )
        self.events: queue.Queue[Change] = queue.Queue()
        self._seen = self.service.cluster()
        self.service.listen(self._note)
        self.service.start()

    def stop(self) -> None:
        """As when its process ends: no word of goodbye."""
        self.service.close()
        self.port.close()

    def next(self, done: Callable[[Change], bool]) -> Change:
        end = time.monotonic() + WITHIN_S
        seen: list[Change] = []
        with contextlib.suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0:
                seen.append(self.events.get(timeout=left))
                if done(seen[-1]):
                    return seen[-1]
        raise AssertionError(f"{self.name} saw only {seen}")

    def _note(self, cluster: Cluster) -> None:
        for event in changes(self._seen, cluster):
            self.events.put(event)
        self._seen = cluster

    def _record(self) -> TagRecord:
        return TagRecord(
            device_id=self.device,
            fingerprint="0" * 64,
            face="bottom",
            firmware="0.0.0",
            ram_bytes=16 * 2**30,
            tops=100.0,
            floor_w=10.0,
            peak_w=40.0,
            addresses=(self.link.address(),),
            boot_nonce="0" * 32,
        )
