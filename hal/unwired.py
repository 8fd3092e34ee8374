"""What a machine has in place of the stack's wires that it lacks: it is alone, truthfully."""

from __future__ import annotations

import queue
import threading

from hal.base import HardwareError
from hal.link import DATAGRAM_BYTES


class UnwiredAlertLine:
    """A line that only this module pulls."""

    def __init__(self) -> None:
        self._pulled = False
        self._changes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def raised(self) -> bool:
        return self._pulled

    def wait(self, timeout: float) -> bool | None:
        try:
            return self._changes.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def pull(self, pulled: bool) -> None:
        if pulled != self._pulled:
            self._pulled = pulled
            self._changes.put(pulled)


class UnwiredLoadSwitch:
    """Remembers what it was told; nothing hangs on it."""

    def __init__(self) -> None:
        self._on = False

    def enabled(self) -> bool:
        return self._on

    def enable(self, on: bool) -> None:
        self._on = on


class UnwiredLink:
    """A link that reaches nobody."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def send(self, datagram: bytes) -> None:
        if len(datagram) > DATAGRAM_BYTES:
            raise HardwareError(f"a datagram of {len(datagram)} bytes is too long", f"{DATAGRAM_BYTES} is the most")

    def receive(self, timeout: float) -> tuple[bytes, str] | None:
        self._closed.wait(max(0.0, timeout))
        return None

    def address(self) -> str:
        return "127.0.0.1"

    def carrier(self) -> bool | None:
        return False

    def gigabits(self) -> float | None:
        return None

    def close(self) -> None:
        self._closed.set()
