"""Tells everybody who listens what happens to the stack. One thread, which looks only while somebody does.

Changes of membership are told as they come, all else as it is seen: once a second every member is asked for its report.
Who does not keep up loses events, is told how many, and begins anew with a snapshot; so does a new listener.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.cluster.report.events import StackEvent, happened
from agent.cluster.report.values import MemberReport, StackReport
from agent.cluster.state import Cluster
from agent.errors import OverloadedError, UnavailableError

LOOK_S: Final = 1.0
MOST_LISTENERS: Final = 8  # each keeps a thread of the port busy
MOST_WAITING: Final = 256  # events, of one listener

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is true now; events that come later are newer."""

    number: int  # of the last event that it knows of
    stack: StackReport


@dataclass(frozen=True, slots=True)
class Numbered:
    """One event, and the how-manieth of this node since it started."""

    number: int
    event: StackEvent


@dataclass(frozen=True, slots=True)
class Lost:
    """So many events were not told; a Snapshot follows."""

    number: int
    count: int


Told = Snapshot | Numbered | Lost


class Listening:
    """What one listener is told, from a Snapshot on. For one thread; ``close`` from any."""

    def __init__(self, hub: EventHub, most: int) -> None:
        self._hub, self._most = hub, most
        self.waiting: deque[Numbered] = deque()
        self.behind, self.lost = True, 0

    def put(self, told: Numbered) -> None:
        """The hub's lock is held."""
        if not self.behind and len(self.waiting) < self._most:
            self.waiting.append(told)
        elif self.behind:
            self.lost += bool(self.lost)  # who waits for its first snapshot loses nothing
        else:
            self.behind, self.lost = True, len(self.waiting) + 1
            self.waiting.clear()

    def next(self, timeout: float) -> Told | None:
        """None when the time is up, or the hub was closed."""
        return self._hub.next(self, timeout)

    def close(self) -> None:
        self._hub.leave(self)


class EventHub:
    """Thread-safe."""

    def __init__(
        self,
        look: Callable[[], StackReport],
        cluster: Callable[[], Cluster],
        listen: Callable[[Callable[[Cluster], None]], Callable[[], None]],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """``look`` may take a second; ``cluster`` and ``listen`` are membership's."""
        self._look, self._cluster, self._listen, self._most_waiting = look, cluster, listen, most_waiting
        self._changed = threading.Condition()  # guards all that follows
        self._listeners: list[Listening] = []
        self._state = StackReport(cluster(), ())
        self._number = 0
        self._look_at = 0.0
        self._end_listening: Callable[[], None] = lambda: None
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        self._end_listening = self._listen(self._cluster_changed)
        self._thread.start()

    def close(self) -> None:
        """Every listener is woken."""
        self._end_listening()
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_S)

    def listen(self) -> Listening:
        """Raises OverloadedError when too many listen, UnavailableError when the node stops."""
        members = self._look().members
        listening = Listening(self, self._most_waiting)
        with self._changed:
            if self.closed:
                raise UnavailableError("the device is shutting down", retry_after=10)
            if len(self._listeners) >= MOST_LISTENERS:
                raise OverloadedError(
                    f"{MOST_LISTENERS} clients listen to the events of this node already",
                    retry_after=10,
                    hint="ask another node of the stack, or GET /v1/cluster from time to time",
                )
            self._listeners.append(listening)
            self._advance(members)
            self._look_at = time.monotonic() + LOOK_S
            self._changed.notify_all()  # the thread: somebody listens
        return listening

    def leave(self, listening: Listening) -> None:
        with self._changed:
            if listening in self._listeners:
                self._listeners.remove(listening)

    def next(self, listening: Listening, timeout: float) -> Told | None:
        with self._changed:
            self._changed.wait_for(lambda: self.closed or listening.behind or listening.waiting, timeout)
            if self.closed:
                return None
            if listening.lost:
                count, listening.lost = listening.lost, 0
                return Lost(self._number, count)
            if listening.behind:
                listening.behind = False
                return Snapshot(self._number, self._state)
            return listening.waiting.popleft() if listening.waiting else None

    # --- what happens ------------------------------------------------------------------------------------------------

    def _cluster_changed(self, _cluster: Cluster) -> None:
        """In membership's thread: returns at once. What others say of themselves is looked at soon."""
        with self._changed:
            if self._listeners:
                self._advance(self._state.members)
                self._look_at = 0.0
                self._changed.notify_all()

    def _advance(self, members: tuple[MemberReport, ...]) -> None:
        """To the cluster as it is now, so never back to an older one. The lock is held."""
        cluster = self._cluster()
        there = {node.id for node in cluster.nodes}
        before, self._state = self._state, StackReport(cluster, tuple(one for one in members if one.node.id in there))
        for event in happened(before, self._state):
            self._number += 1
            for listening in self._listeners:
                listening.put(Numbered(self._number, event))
        self._changed.notify_all()

    def _run(self) -> None:
        while self._wait():
            try:
                members = self._look().members
                with self._changed:
                    self._advance(members)
            except Exception:  # noqa: BLE001  whoever listens must not be left without a word for ever
                _log.exception("events go on after an error")

    def _wait(self) -> bool:
        """Until it is time to look; False when the hub was closed."""
        with self._changed:
            while not self.closed:
                left = self._look_at - time.monotonic()
                if self._listeners and left <= 0:
                    self._look_at = time.monotonic() + LOOK_S
                    return True
                self._changed.wait(left if self._listeners else None)
            return False
