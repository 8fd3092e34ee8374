"""What a simulated device has towards a stack: alert line, load switch, tag, reader and link, of a stack of one."""

from __future__ import annotations

import queue
import threading
import time

from hal.base import Face, HardwareError, PartState, Sighting, TagRecord

DATAGRAM_BYTES = 1200


class SimAlertLine:
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


class SimLoadSwitch:
    """Off until it is switched on."""

    def __init__(self) -> None:
        self._on = False

    def enabled(self) -> bool:
        return self._on

    def enable(self, on: bool) -> None:
        self._on = on


class SimReader:
    """A reader with nothing in its field."""

    face: Face = "top"

    def seen(self) -> TagRecord | None:
        return None

    def wait(self, timeout: float) -> Sighting | None:
        time.sleep(max(0.0, timeout))
        return None

    def state(self) -> PartState:
        return PartState("nfc-reader", "ok")


class SimOwnTag:
    """A tag that keeps what was written last."""

    def __init__(self) -> None:
        self.record: TagRecord | None = None

    def publish(self, record: TagRecord) -> None:
        self.record = record

    def state(self) -> PartState:
        return PartState("nfc-tag", "ok")


class SimLink:
    """A link without a partner: what is sent reaches nobody."""

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

    def close(self) -> None:
        self._closed.set()
