"""Membership at work: one thread that hears and sends beacons, watches the stack's lines, and tells who wants to know.

Everything that is decided is decided in run.py; here are the link, the disk and the listeners.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

from agent import private_file
from agent.cluster.membership.beacon import Beacon, BeaconError, Touch, decode, encode
from agent.cluster.membership.epoch import HIGHEST_TERM, Stored, Verdict
from agent.cluster.membership.run import BEACON_S, Membership
from agent.cluster.membership.snapshot import snapshot
from agent.cluster.report.changes import changes
from agent.cluster.state import Cluster, Node, Side, node_id
from hal.base import HardwareError, StackLines, StackLink, TagReader, answer_of

TICK_S = 0.03
LOOK_S = 0.1  # between looks at tags and carrier
LATELY_S = 5.0  # how long an address is worth trying

_log = logging.getLogger(__name__)


class Seal(Protocol):
    """What beacons need of trust. Device ids are UUIDs."""

    def seal(self, data: bytes) -> bytes: ...

    def open(self, datagram: bytes) -> tuple[str, bytes] | None:
        """The sender's device id and what it said; None for a stranger, a forgery or a replay."""
        ...


class EpochStore(Protocol):
    def load(self) -> Stored: ...

    def save(self, stored: Stored) -> None:
        """On the disk when it returns. Raises OSError."""
        ...


class EpochFile:
    """``membership.json`` in the state folder, replaced whole."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "membership.json"

    def load(self) -> Stored:
        """Zeros where there is none, or it cannot be read: the others know how far this node had come."""
        try:
            body = json.loads(self._file.read_bytes())
            stored = Stored(body["incarnation"], body["term"])
            if all(type(each) is int and 0 <= each < HIGHEST_TERM for each in (stored.incarnation, stored.term)):
                return stored
            raise ValueError("a number is out of range")
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s cannot be read, membership begins anew: %s", self._file, error)
        return Stored()

    def save(self, stored: Stored) -> None:
        private_file.replace(self._file, json.dumps(asdict(stored)).encode())


class MembershipService:
    """Thread-safe. It closes no part of the hardware."""

    def __init__(
        self,
        facts: Callable[[], Node],
        seal: Seal,
        link: StackLink,
        store: EpochStore,
        lines: StackLines,
        readers: Mapping[Side, TagReader],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``facts``: this node as it is now; asked five times a second."""
        self._facts, self._seal, self._link, self._store = facts, seal, link, store
        self._lines, self._readers, self._clock = lines, readers, clock
        self._saved = store.load()
        self._lock = threading.Lock()  # of what follows
        self._membership = Membership(facts(), self._saved)
        self._cluster = snapshot(self._membership)
        self._listeners: list[Callable[[Cluster], None]] = []
        self._sources: dict[str, str] = {}  # by device id: where its last beacon came from
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="membership", daemon=True)
        self._told: object = None
        self._looked_at = self._asked_at = self._ticked_at = clock() - 1.0
        self._seen: dict[Side, str | None] = {}
        self._carrier: bool | None = None
        self.fault = ""  # why membership does not work as it should, for /v1/health

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def cluster(self) -> Cluster:
        """As it is now, with the newest numbers of the members."""
        with self._lock:
            return snapshot(self._membership)

    def admits(self, token: str) -> Verdict:
        """Whether an order that carries this token of an epoch is one to follow; only ``current`` is."""
        with self._lock:
            return self._membership.admits(token)

    def silent_s(self) -> Mapping[str, float]:
        """By node that was heard lately, member or not: seconds since its last word."""
        with self._lock:
            now = self._clock()
            return {name: now - peer.at for name, peer in self._membership.peers.items()}

    def addresses(self) -> Mapping[str, str]:
        """By device id, of whoever was heard in the last five seconds, member or not: where its last beacon came from.

        What the link says, not what the beacon says: a place to try, no proof of who is there.
        """
        with self._lock:
            now, peers = self._clock(), self._membership.peers
            lately = {name for name, peer in peers.items() if now - peer.at <= LATELY_S}
            return {device: source for device, source in self._sources.items() if node_id(device) in lately}

    def differing(self, digest: str) -> Mapping[str, str]:
        """Who, of those that hear this node, has other shared documents than these, and their digest by node. Their
        beacons are told of ours.
        """
        with self._lock:
            self._membership.documents = digest
            said = {name: peer.beacon.documents for name, peer in self._membership.mutual.items()}
            return {name: theirs for name, theirs in sorted(said.items()) if theirs != digest}

    def listen(self, listener: Callable[[Cluster], None]) -> Callable[[], None]:
        """Call ``listener``, which must return at once, with each changed snapshot from now on; the result ends that.

        Batteries and round trips alone are no change. What is true already, ``cluster`` says.
        """
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except HardwareError as error:
                self._broken(str(error))
            except Exception as error:  # noqa: BLE001  a node without this thread would be lost to its stack
                _log.exception("membership goes on after an error")
                self._broken(f"{type(error).__name__}")

    def _broken(self, why: str) -> None:
        if why != self.fault:
            _log.error("membership: %s", why)
        self.fault = why
        self._closing.wait(BEACON_S)

    def _step(self) -> None:
        got = self._link.receive(TICK_S)
        opened = None if got is None else self._seal.open(got[0])
        if got is not None and opened is not None:
            self._hear(*opened, got[1])
        now = self._clock()
        felt = self._feel(now)
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look(now)
        if now - self._ticked_at >= TICK_S or opened is not None or felt:
            self._ticked_at = now
            self._tick(now)
        self._tell()

    def _hear(self, device: str, data: bytes, source: str) -> None:
        try:
            beacon = decode(data)
            if beacon.id == node_id(device):  # nobody speaks for another, though both are trusted
                with self._lock:
                    self._membership.hear(beacon, self._clock())
                    self._note(device, beacon, source)
                    self._save()
        except (BeaconError, ValueError) as error:
            _log.debug("a datagram of %s was dropped: %s", device, error)

    def _note(self, device: str, beacon: Beacon, source: str) -> None:
        """Of a beacon that was taken: an old one says nothing of where its sender is."""
        peers = self._membership.peers
        if beacon.id in peers and peers[beacon.id].beacon is beacon:
            self._sources = {each: at for each, at in self._sources.items() if node_id(each) in peers}
            self._sources[device] = source

    def _tick(self, now: float) -> None:
        facts = None
        if now - self._asked_at >= BEACON_S:
            self._asked_at, facts = now, self._facts()
        with self._lock:
            self._membership.node = facts or self._membership.node
            beacon = self._membership.tick(now)
            self._save()
        if beacon is not None:
            self._link.send(self._seal.seal(encode(beacon)))
            if self.fault and self._saved == self._membership.stored:
                self.fault = ""

    def _save(self) -> None:
        """Before anybody hears of it. A disk that fails keeps no node out: after a restart the others tell the term."""
        stored = self._membership.stored
        if stored == self._saved:
            return
        try:
            self._store.save(stored)
            self._saved = stored
        except OSError as error:
            if not self.fault:
                _log.error("the epoch cannot be kept over a restart: %s", error)
            self.fault = f"the epoch cannot be kept over a restart: {error.strerror}"

    def _feel(self, now: float) -> bool:
        """Whether a line opened, as its driver tells at once."""
        felt = False
        while (edge := answer_of(partial(self._lines.wait, 0.0))) is not None:
            if not edge.closed:
                felt = True
                with self._lock:
                    self._membership.hint(edge.face, now)
        return felt

    def _look(self, now: float) -> None:
        """Tags and carrier: what went is a hint, what is read is a link."""
        opened: list[Side | None] = []
        touched: list[Touch] = []
        gigabits = answer_of(self._link.gigabits)
        for side, reader in self._readers.items():
            record = answer_of(reader.seen)
            if record is not None:
                try:
                    other = node_id(record.device_id)
                except ValueError:
                    continue  # a tag that anybody may have written
                touched.append(Touch(side, other, record.face, gigabits=gigabits))
            before = self._seen.get(side)
            self._seen[side] = touched[-1].other if record is not None else None
            if before is not None and self._seen[side] != before:
                opened.append(side)
        carrier = answer_of(self._link.carrier)
        if self._carrier and carrier is False:
            opened.append(None)
        self._carrier = carrier
        with self._lock:
            for each in opened:
                self._membership.hint(each, now)
            self._membership.touched = tuple(touched)

    def _tell(self) -> None:
        with self._lock:
            before, after = self._cluster, snapshot(self._membership)
            told = (
                after.token, after.settled, after.leader_reached,
                tuple((node.id, node.address, node.external_power) for node in after.nodes),
                tuple((link.lower, link.upper) for link in after.links),
            )  # fmt: skip
            if told == self._told:
                return
            self._told, self._cluster = told, after
            listeners = tuple(self._listeners)
        for event in changes(before, after):
            _log.info("%s", event)
        for listener in listeners:
            listener(after)
