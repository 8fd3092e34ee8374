"""A module's end of a World: what its drivers stand on, wherever the World is."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol, get_args

from hal.world import World
from hal.world_state import Channel, Event, View

MOST_EVENTS = 1024  # that wait for a driver; the oldest go first, as in a kernel


class Port(Protocol):
    """Raises HardwareError where the World is gone, or an order makes no sense."""

    def look(self) -> View: ...

    def tell(self, order: str, value: object) -> None: ...

    def wait(self, channel: Channel, timeout: float) -> Event | None:
        """The next event of that channel; None when the time is up."""
        ...

    def close(self) -> None: ...


class Mailbox:
    """Events that nobody has taken yet, by channel. ``arrived`` guards it and is notified at each."""

    def __init__(self, arrived: threading.Condition) -> None:
        self.arrived = arrived
        self._events: dict[Channel, deque[Event]] = {each: deque(maxlen=MOST_EVENTS) for each in get_args(Channel)}

    def put(self, event: Event) -> None:
        with self.arrived:
            self._events[event.channel].append(event)
            self.arrived.notify_all()

    def take(self, channel: Channel) -> Event | None:
        with self.arrived:
            waiting = self._events[channel]
            return waiting.popleft() if waiting else None


class LocalPort:
    """Of a World in this process. Who waits keeps its time going."""

    def __init__(self, world: World, name: str) -> None:
        """Raises HardwareError when the World has no such module."""
        self._world, self._name = world, name
        self._mail = Mailbox(world.changed)
        self._detach = world.attach(name, self._mail.put)

    def look(self) -> View:
        return self._world.look(self._name)

    def tell(self, order: str, value: object) -> None:
        self._world.tell(self._name, order, value)

    def wait(self, channel: Channel, timeout: float) -> Event | None:
        end = time.monotonic() + max(0.0, timeout)
        with self._world.changed:
            while True:
                due = self._world.advance()
                event = self._mail.take(channel)
                left = end - time.monotonic()
                if event is not None or left <= 0:
                    return event
                self._world.changed.wait(left if due is None else min(left, max(due, 0.001)))

    def close(self) -> None:
        self._detach()
