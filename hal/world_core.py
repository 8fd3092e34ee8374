"""What happens in a World by itself, as time passes: debouncing, NFC fields, brown-outs, the cap's dead man's switch.

Time is the injected clock's. Nothing here runs in a thread of its own: ``advance`` does all that is due, and returns
when it must be called next at the latest.
"""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections.abc import Callable
from itertools import count

from hal.base import Face, TagRecord
from hal.world_power import (
    BROWN_S,
    BROWN_V,
    FINE_V,
    HICCUP_S,
    LOW_V,
    contacts,
    feeder,
    pass_time,
    supplied,
    volts,
)
from hal.world_state import FACES, LADDER_W, Channel, Event, Module, Source, WorldState, tag_to_json

DEBOUNCE_S = 0.05
NOTICE_S = 0.15  # from a tag that comes or goes to the reader's word for it
BOUNCES_S = (0.005, 0.010, 0.015, 0.020)  # an even number: the line ends where the magnet is
SPIKE_S = 0.005
CHATTER_S = 0.2

Sink = Callable[[Event], None]


class WorldCore:
    """State under a lock, a queue of what is to happen, and who wants to hear of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seed: int = 0) -> None:
        self.clock = clock
        self.state = WorldState()
        self.changed = threading.Condition(threading.RLock())  # notified at each event
        self.random = random.Random(seed)
        self._at = clock()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._sinks: dict[str, list[Sink]] = {}

    def attach(self, name: str, sink: Sink) -> Callable[[], None]:
        """Give a module's events to ``sink``, which must return at once; the result ends that."""
        with self.changed:
            self.state.module(name)
            sinks = self._sinks.setdefault(name, [])
            sinks.append(sink)

        def detach() -> None:
            with self.changed:
                if sink in sinks:
                    sinks.remove(sink)

        return detach

    def advance(self) -> float | None:
        """Do all that is due. Returns in how many seconds something more is; None when nothing is."""
        with self.changed:
            for module in self.state.modules.values():
                if module.ask_load is not None:
                    module.told_load = module.ask_load()
            now = self.clock()
            while self._due and self._due[0][0] <= now:
                at, _, happen = heapq.heappop(self._due)
                self._pass_time(at)
                happen(at)
                self.settle(at)
            self._pass_time(now)
            self.settle(now)
            return self._due[0][0] - now if self._due else None

    def later(self, at: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (at, next(self._order), happen))

    def emit(self, name: str, channel: Channel, at: float, **body: object) -> None:
        event = Event(channel, at, body)
        for sink in self._sinks.get(name, ()):
            sink(event)
        self.changed.notify_all()

    def settle(self, now: float) -> None:
        """Follow what has changed: who has power, what the supply's voltage does, who sees the alert line pulled."""
        for name, source in self.state.sources.items():
            self._settle_source(name, source, now)
        for name, module in self.state.modules.items():
            self._settle_power(name, module, now)
        for stack in self.state.stacks:
            raised = self._raised(stack, now)
            for name in stack:
                module = self.state.modules[name]
                seen = raised and module.powered
                if seen != module.alert:
                    module.alert = seen
                    self.emit(name, "alert", now, raised=seen)

    def touch(self, name: str, now: float) -> None:
        """The magnets of a module, or what is wrong with its lines, may have changed."""
        module = self.state.modules.get(name)
        if module is None:
            return
        for face in FACES:
            wanted = self.state.neighbour(name, face) is not None
            if wanted == module.raw[face] or f"{face}-stuck" in module.faults:
                continue
            self._set_raw(name, face, wanted, now)
            if f"{face}-bounce" in module.faults:
                for number, after in enumerate(BOUNCES_S):
                    self._set_raw_later(name, face, wanted if number % 2 else not wanted, now + after)
        self.poll_soon(name, now)

    def poll_soon(self, name: str, now: float) -> None:
        """A reader's view of the tag above it may have changed."""
        self.later(now + NOTICE_S, lambda at: self.poll(name, at))

    def poll(self, name: str, at: float) -> None:
        """What the reader finds now."""
        module = self.state.modules.get(name)
        if module is None:
            return
        record = self._in_field(module)
        if record != module.seen:
            module.seen = record
            self.emit(name, "sighting", at, record=tag_to_json(record))

    def disturb(self, name: str, face: Face, fault: str, now: float) -> None:
        """Keep a line noisy or chattering for as long as the fault lasts."""
        module = self.state.modules.get(name)
        if module is None or fault not in module.faults:
            return
        self._set_raw(name, face, not module.raw[face], now)
        if fault.endswith("-noise"):
            self.later(now + SPIKE_S, lambda at: self.touch(name, at))
        self.later(now + CHATTER_S, lambda at: self.disturb(name, face, fault, at))

    def _in_field(self, module: Module) -> TagRecord | None:
        above = self.state.neighbour(module.name, "top")
        if above is None or not module.powered or "reader" in module.faults:
            return None
        other = self.state.modules[above]
        return None if "torn-tag" in other.faults else other.tag

    def _set_raw_later(self, name: str, face: Face, closed: bool, at: float) -> None:
        def happen(now: float) -> None:
            if name in self.state.modules:
                self._set_raw(name, face, closed, now)

        self.later(at, happen)

    def _set_raw(self, name: str, face: Face, closed: bool, now: float) -> None:
        module = self.state.modules[name]
        module.raw[face] = closed
        module.raw_since[face] = now
        self.later(now + DEBOUNCE_S, lambda at: self._debounce(name, face, now, at))

    def _debounce(self, name: str, face: Face, since: float, at: float) -> None:
        module = self.state.modules.get(name)
        if module is None or module.raw_since[face] != since or module.level[face] == module.raw[face]:
            return
        module.level[face] = module.raw[face]
        if "lines" not in module.faults and module.powered:
            self.emit(name, "edge", at, face=face, closed=module.raw[face])

    def _settle_source(self, name: str, source: Source, now: float) -> None:
        level = volts(source, supplied(self.state, name, now), now)
        source.low = level < (FINE_V if source.low else LOW_V)
        if level >= BROWN_V or now < source.off_until:
            source.brown_since = None
        elif source.brown_since is None:
            source.brown_since = now
            self.later(now + BROWN_S, self.settle)
        elif now - source.brown_since >= BROWN_S - 1e-9:
            source.brown_since = None
            source.off_until = now + HICCUP_S
            self.later(source.off_until, self.settle)

    def _settle_power(self, name: str, module: Module, now: float) -> None:
        powered = feeder(self.state, name, now) is not None or module.charge_wh > 0
        if powered == module.powered:
            return
        module.powered = powered
        if not powered:
            module.pulls, module.load_switch, module.seen = False, False, None
            module.step, module.kept_until = len(LADDER_W) - 1, math.inf
        else:
            module.boots += 1
            self.touch(name, now)
        self.emit(name, "power", now, on=powered)

    def _raised(self, stack: list[str], now: float) -> bool:
        for name in stack:
            module, source = self.state.modules[name], self.state.sources.get(name)
            if module.powered and (module.pulls or "alert" in module.faults):
                return True
            if source is not None and source.low and feeder(self.state, name, now) in (name, None):
                return True
        return any(
            watts > self.state.contact_w + 1e-9 for lower, _, watts in contacts(self.state, now) if lower in stack
        )

    def _pass_time(self, to: float) -> None:
        """Modules whose cap nobody feeds drop to their floor at the moment when it runs out."""
        if to < self._at:
            return  # a happening that was due while the clock was looked at
        pass_time(self.state, self._at, to)
        self._at = to
        for module in self.state.modules.values():
            if to >= module.kept_until and "cap" not in module.faults:
                module.step, module.kept_until = 0, math.inf  # once: as the root helper of a board does
