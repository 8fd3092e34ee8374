"""The bench whose NFC parts are the real drivers on emulated chips; all else is the simulated World's."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from hands import WorldHands
from ntag_chip import NtagChip
from pn532_pty import Pn532

from hal.base import Face, Hardware, TagRecord
from hal.nfc_reader import open_reader
from hal.tag import Nt3hTag
from hal.tag_record import encode

OPEN_S = 60.0  # an interpreter and nfcpy start, on a busy machine


class WireHands(WorldHands):
    """A neighbour on the top face holds its tag into the field of a PN532 behind a pseudo-terminal."""

    def __init__(self, path: Path, module: str) -> None:
        super().__init__(path, module)
        self._chip = Pn532()
        self._neighbours = NtagChip()
        self._reader = open_reader("top", self._chip.path)
        end = time.monotonic() + OPEN_S
        while self._reader.state().state != "ok":
            assert time.monotonic() < end, str(self._reader.state())
            time.sleep(0.02)

    def wired(self, hardware: Hardware) -> Hardware:
        """The same hardware, with this reader and an NT3H2111 of its own."""
        return replace(hardware, readers={"top": self._reader}, tag=Nt3hTag(NtagChip()))

    def contact(self, face: Face, closed: bool) -> None:
        super().contact(face, closed)
        if face == "top":
            if closed:
                self._chip.place(self._neighbours)
            else:
                self._chip.remove()

    def tag(self, record: TagRecord | None) -> None:
        self._neighbours.ndef = b"" if record is None else encode(record)

    def close(self) -> None:
        self._reader.close()
        self._chip.unplug()
        super().close()
