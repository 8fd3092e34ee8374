"""How long a pull may take over what, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    connect_s: float = 15.0
    silence_s: float = 30.0  # of a connection that says nothing
    slow_s: float = 60.0  # a connection that brings less than ...
    slow_bytes: int = 64 * 1024  # ... so much in that time is as good as silent
    tries: int = 5  # in a row that bring nothing
    backoff_s: float = 1.0  # after the first of them; each further one waits twice as long
    longest_wait_s: float = (
        60.0  # a server that asks for more patience is given up, and the client told when to come back
    )
    parallel: int = 4  # blobs of one model at the same time
    reserve_bytes: int = 256 * 1024 * 1024  # left free on the disk for logs and keys
    report_s: float = 0.25  # how often a listener is told where a pull is
    heartbeat_s: float = 1.0  # and how often when nothing moves: only so is a client that left noticed

    def delay(self, failures: int, wished_s: float = 0.0) -> float:
        """The wait before the next try, after so many in a row that failed; a server may wish for more."""
        return min(self.longest_wait_s, max(wished_s, self.backoff_s * 2 ** (failures - 1) if failures else 0.0))


class Stopped(Exception):
    """The pull was told to stop."""


class BusyError(UnavailableError):
    """The server said 429 or 5xx. ``wished_s`` is its Retry-After, 0.0 where it has none."""

    def __init__(self, message: str, wished_s: float) -> None:
        super().__init__(message, retry_after=wished_s or 30.0)
        self.wished_s = wished_s


class Stop:
    """Ends a pull from another thread: its waits at once, and its reads, too."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._breaks: set[Callable[[], None]] = set()

    def set(self) -> None:
        with self._lock:
            self._event.set()
            breaks = list(self._breaks)
        for break_off in breaks:
            break_off()

    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises Stopped once the pull is to end."""
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Let the time pass. Raises Stopped as soon as the pull is to end."""
        if self._event.wait(seconds):
            raise Stopped

    @contextmanager
    def breaking(self, break_off: Callable[[], None]) -> Iterator[None]:
        """Within the block ``set`` also calls ``break_off``, from the thread that it is called in."""
        with self._lock:
            self._breaks.add(break_off)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._breaks.discard(break_off)
