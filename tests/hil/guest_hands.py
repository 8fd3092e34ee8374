"""The hands of the contract suite in the guest: they move the plant."""

from __future__ import annotations

from plant import plant

from hal.base import Face, Hardware, TagRecord
from hal.tag_record import encode


class GuestHands:
    """See tests/hal/hands.py."""

    def __init__(self, hardware: Hardware) -> None:
        self._plant = plant()
        self._plant.busy = 0.0
        for face in ("top", "bottom"):
            self._plant.contact(face, False)
        self._plant.wires.pull_alert(False)
        self._plant.plug(True)
        while self._plant.neighbours_link.receive(0.0) is not None:
            pass  # of the test before

    def contact(self, face: Face, closed: bool) -> None:
        self._plant.contact(face, closed)

    def tag(self, record: TagRecord | None) -> None:
        self._plant.neighbours_tag.ndef = b"" if record is None else encode(record)

    def busy(self, share: float) -> None:
        self._plant.busy = share
        self._plant.look()

    def pull_alert(self, pulled: bool) -> None:
        self._plant.wires.pull_alert(pulled)

    def send(self, datagram: bytes) -> None:
        self._plant.neighbours_link.send(datagram)

    def received(self, timeout: float) -> bytes | None:
        arrived = self._plant.neighbours_link.receive(timeout)
        return None if arrived is None else arrived[0]

    def plug(self, plugged: bool) -> None:
        self._plant.plug(plugged)

    def close(self) -> None:
        """The plant is made whole before each test."""
