"""Names that only one device of a network may have: asked for, held, defended, or left to another. Pure.

RFC 6762, sections 8 and 9: three questions 250 ms apart whether anybody has the names; without an answer they are held
and told twice. Who asks at the same time and has the later data goes first. Who holds a name keeps it: a device that is
told of a holder leaves it alone, and asks again when that one says goodbye, or every RETRY_S.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, Literal

from zeroconf import DNSRecord

from agent.cluster.mdns.records import order

PROBES: Final = 3
PROBE_S: Final = 0.25
ANNOUNCEMENTS: Final = 2
ANNOUNCE_S: Final = 1.0
DEFER_S: Final = 1.0  # after losing to one that asks at the same time
RETRY_S: Final = 10.0  # while another has the names

Step = Literal["ask", "tell"]


class Claim:
    """Every moment is in seconds of one clock that only goes forward."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """``chance``: a number from 0 to 1, so that devices that start together do not ask together."""
        self._chance = chance
        self.records: tuple[DNSRecord, ...] = ()
        self.held = False
        self.rival = ""  # address of who has the names, while it is not this device
        self.due = math.inf  # when ``step`` has something to do
        self._done = 0  # questions asked, or announcements made

    @property
    def names(self) -> frozenset[str]:
        """In lower case."""
        return frozenset(record.key for record in self.records)

    def want(self, records: tuple[DNSRecord, ...], now: float) -> tuple[DNSRecord, ...]:
        """These from now on; empty: the names no more. Returns what others are to forget."""
        before, self.records = self.records, records
        if records == before:
            return ()
        kept = {(record.key, record.type) for record in records}
        gone = tuple(record for record in before if (record.key, record.type) not in kept) if self.held else ()
        if not records:
            self.held, self.rival, self.due = False, "", math.inf
        elif not before:
            self._ask(now + PROBE_S * self._chance())
        elif self.held:
            self._done, self.due = 0, now  # the names are ours: the new data is told, and replaces the old
        return gone

    def step(self, now: float) -> Step | None:
        """What to send now: the question whether anybody has the names, or all the records."""
        if now < self.due:
            return None
        if not self.held:
            if self._done < PROBES:
                self._done += 1
                self.due = now + PROBE_S
                return "ask"
            self.held, self.rival, self._done = True, "", 0
        self._done += 1
        self.due = now + ANNOUNCE_S if self._done < ANNOUNCEMENTS else math.inf
        return "tell"

    def answered(self, record: DNSRecord, sender: str, now: float) -> None:
        """Another device says that it has this record, under one of the names, and it is not this device's data."""
        if self.held:  # both believe to have it: ask again, and who has the earlier data will hear of the other
            self.held = False
            self._ask(now + PROBE_S * self._chance())
        else:
            self.rival, self._done, self.due = sender, 0, now + RETRY_S

    def asked(self, theirs: Iterable[DNSRecord], now: float) -> None:
        """Another device asks for the names, to hold these records."""
        if self.held or not self._done:
            return  # the answer says that they are held; or this device has not asked yet, and will hear
        for name in self.names:
            others = sorted(order(record) for record in theirs if record.key == name)
            if others and others > sorted(order(record) for record in self.records if record.key == name):
                self._ask(now + DEFER_S)
                return

    def forgotten(self, record: DNSRecord, now: float) -> None:
        """Somebody said goodbye to a record under one of the names."""
        if self.held:
            if record in self.records:  # not this device's word, or it would not want it: say that it is there
                self._done, self.due = 0, min(self.due, now + PROBE_S)
        elif self.rival:
            self._ask(min(self.due, now + PROBE_S * self._chance()))

    def _ask(self, at: float) -> None:
        self._done, self.due = 0, at
