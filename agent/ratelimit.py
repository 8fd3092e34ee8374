"""How many requests a key may send to a port in a minute: an exact sliding log.

The times of the accepted requests of the last minute are kept, so that no burst over a bucket's edge gets through and
Retry-After is exact. Memory is bounded: at most ``limit`` times for each caller and port; one that was silent for a
minute is forgotten, and so is the longest silent one where there are too many. A refused request is not counted: a
client that keeps trying is served again as soon as one of its earlier requests is a minute old.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from agent.errors import RateLimitError

MOST_LOGS: Final = 10_000  # strangers are counted by address, and addresses are many

PortKind = Literal["inference", "cluster"]


@dataclass(frozen=True, slots=True)
class RateState:
    """What the x-ratelimit-* headers say."""

    limit: int  # requests a minute
    remaining: int
    reset_s: float  # until the oldest request of the window is forgotten, which is when ``remaining`` grows


class RateLimiter:
    """Counts the requests of every key on every port. Safe to call from many threads."""

    def __init__(self, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._logs: OrderedDict[tuple[str, PortKind], deque[float]] = OrderedDict()  # the longest silent first

    def check(self, key_id: str, port: PortKind, limit: int) -> RateState | None:
        """Count one request. None where ``limit`` is 0: no limit. Raises RateLimitError with ``retry_after``."""
        if limit <= 0:
            return None
        with self._lock:
            now = self._clock()
            times = self._logs.setdefault((key_id, port), deque())
            while times and times[0] <= now - self._window_s:
                times.popleft()
            if len(times) >= limit:
                # Under a limit that was lowered meanwhile more than one request must grow old.
                wait = times[len(times) - limit] + self._window_s - now
                raise RateLimitError(
                    f"Rate limit exceeded: {limit} requests a minute on the {port} port",
                    retry_after=wait,
                    hint=f"Try again in {wait:.1f} seconds.",
                    limit=limit,
                )
            times.append(now)
            self._logs.move_to_end((key_id, port))
            self._drop_silent(now)
            return RateState(limit, limit - len(times), times[0] + self._window_s - now)

    def _drop_silent(self, now: float) -> None:
        while self._logs:
            name, times = next(iter(self._logs.items()))
            if len(self._logs) <= MOST_LOGS and times and times[-1] > now - self._window_s:
                return
            del self._logs[name]
