"""The stack's time: what certificates are dated by on devices of which some have no clock of their own.

The latest of: this machine's wall clock, what was kept on the disk, what a member said in a signed word; and it runs on
by the monotonic clock. It never goes back. A device that wakes up in 1970 is in the present as soon as it hears one
member. A member whose clock is ahead takes the whole stack along, which harms nothing: the time is used for the 24
hours of link certificates, the 30 seconds of sealed datagrams and the order of shared documents, and all move along.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

LAST: Final = 7_258_118_400.0  # 2200-01-01: here the time stands still, rather than run out of years


class StackClock:
    """Safe to use from many threads."""

    def __init__(
        self,
        kept: float = 0.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._at, self._base = monotonic(), kept

    def now(self) -> float:
        """Seconds since the epoch."""
        with self._lock:
            return self._now()

    def heard(self, time_s: float) -> None:
        """A member says that it is this late. Call it for what is authenticated alone."""
        with self._lock:
            self._set(max(self._now(), time_s))

    def _now(self) -> float:
        self._set(max(self._base + self._monotonic() - self._at, self._wall()))
        return self._base

    def _set(self, time_s: float) -> None:
        self._base, self._at = min(time_s, LAST), self._monotonic()
