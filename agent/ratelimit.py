"""How many requests a key may send to a port in a minute: an exact sliding log.

The times of the accepted requests of the last minute are kept, so that no burst over a bucket's edge gets through and
Retry-After is exact. Memory is bounded: at most ``limit`` times for each key and port, keys are few (only those that
were verified get here), and the log of a key that fell silent is dropped. A refused request is not counted: a client
that keeps trying is served again as soon as one of its earlier requests is a minute old.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agent.errors import RateLimitError

PortKind = Literal["inference", "cluster"]


@dataclass(frozen=True, slots=True)
class RateState:
    """What the x-ratelimit-* headers say."""

    limit: int  # requests a minute
    remaining: int
    reset_s: float  # until the oldest request of the window is forgotten, which is when ``remaining`` grows


@dataclass(slots=True)
class _Ring:
    """The times of the last ``limit`` accepted requests, oldest first from ``head``."""

    limit: int
    times: array[float] = field(init=False)
    head: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        self.times = array("d", bytes(8 * self.limit))

    def oldest(self) -> float:
        return self.times[self.head]

    def newest(self) -> float:
        return self.times[(self.head + self.count - 1) % self.limit]

    def forget(self, before: float) -> None:
        while self.count and self.oldest() <= before:
            self.head = (self.head + 1) % self.limit
            self.count -= 1

    def add(self, now: float) -> None:
        self.times[(self.head + self.count) % self.limit] = now
        self.count += 1

    def resized(self, limit: int) -> _Ring:
        """The same window under another limit; of more times than fit, the newest stay."""
        ring = _Ring(limit)
        for i in range(max(0, self.count - limit), self.count):
            ring.add(self.times[(self.head + i) % self.limit])
        return ring


class RateLimiter:
    """Counts the requests of every key on every port. Safe to call from many threads."""

    def __init__(self, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._rings: dict[tuple[str, PortKind], _Ring] = {}
        self._sweep_at = clock() + window_s

    def check(self, key_id: str, port: PortKind, limit: int) -> RateState | None:
        """Count one request. None where ``limit`` is 0: no limit. Raises RateLimitError with ``retry_after``."""
        if limit <= 0:
            return None
        now = self._clock()
        with self._lock:
            self._sweep(now)
            ring = self._rings.get((key_id, port))
            if ring is None:
                ring = self._rings[key_id, port] = _Ring(limit)
            elif ring.limit != limit:
                ring = self._rings[key_id, port] = ring.resized(limit)
            ring.forget(now - self._window_s)
            if ring.count >= limit:
                wait = ring.oldest() + self._window_s - now
                raise RateLimitError(
                    f"Rate limit exceeded: {limit} requests a minute on the {port} port",
                    retry_after=wait,
                    hint=f"Try again in {wait:.1f} seconds.",
                    limit=limit,
                )
            ring.add(now)
            return RateState(limit, limit - ring.count, ring.oldest() + self._window_s - now)

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._window_s
        old = [name for name, ring in self._rings.items() if not ring.count or ring.newest() <= now - self._window_s]
        for name in old:
            del self._rings[name]
