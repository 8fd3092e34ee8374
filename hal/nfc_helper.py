"""The process that drives the NFC reader with nfcpy: run as ``python nfc_helper.py /dev/thox-nfc0``.

nfcpy blocks by design and is EUPL-licensed, so it lives here alone. This file imports nothing of the project and talks
in lines of JSON on stdout, each with an ``event``:

    ready   the reader answers; ``reader`` is its name
    tag     a tag came, or what it holds changed: ``uid`` and ``ndef`` in hex; ``ndef`` empty: nothing readable on it
    gone    no tag in the field (said once at the start, too)
    beat    still alive: ten a second
    fault   the reader cannot be used: ``reason``, and ``missing`` when its device file is not there; the process ends

It ends when its stdin does, so that it never outlives who started it, and kills itself when nfcpy hangs.
"""

from __future__ import annotations

import errno
import json
import logging
import select
import signal
import sys
import termios
import time

import nfc.clf.pn53x
import nfc.clf.pn532
import nfc.clf.transport
import nfc.tag.tt2

POLL_S = 0.1  # between two looks: a neighbour is noticed within 300 ms, its absence within 500 ms
REREAD_S = 0.5  # a tag that stays is read again: its owner may have written it
STUCK_S = 10  # one look takes a tenth of that at the very worst
LAST_PAGE = 0xE1  # of the user memory of an NT3H2111

# SetSerialBaudRate to 115200, as a frame.
SLOW_DOWN = bytes.fromhex("0000ff03fdd410041800")


class NodeTag(nfc.tag.tt2.Type2Tag):  # type: ignore[misc]  # nfcpy has no types
    """A Type 2 Tag no larger than a node's: however long it says its content is, reading it ends soon."""

    def read(self, page: int) -> bytearray:
        if page > LAST_PAGE:
            raise nfc.tag.tt2.Type2TagCommandError(nfc.tag.tt2.INVALID_PAGE_ERROR)
        data: bytearray = super().read(page)
        return data

    def answers(self) -> bool:
        """Whether it is still there: some 40 ms when it is not."""
        try:
            return len(self.transceive(b"\x30\x00", timeout=0.005)) == 16
        except nfc.tag.TagCommandError:
            return False

    def message(self) -> bytes:
        """Its NDEF message, read anew; empty where there is none."""
        self._ndef = None
        return self.ndef.octets if self.ndef is not None else b""


class Watch:
    """Looks for a tag again and again, and says what changed."""

    def __init__(self, reader: nfc.clf.ContactlessFrontend) -> None:
        self._reader = reader
        self._tag: NodeTag | None = None
        self._said: tuple[bytes, bytes] | None = None
        self._read_at = 0.0
        self._first = True

    def look(self) -> None:
        found = self._tag is not None and self._tag.answers()
        if not found:
            self._tag = self._find()
        if self._tag is None:
            if self._said is not None or self._first:
                say("gone")
            self._said = None
        elif not found or time.monotonic() - self._read_at >= REREAD_S:
            self._read(self._tag)
        self._first = False

    def _read(self, tag: NodeTag) -> None:
        message = tag.message()
        if not message and not tag.answers():
            return  # it went while it was read: the next look says so, if it is true
        self._read_at = time.monotonic()
        if self._said != (tag.identifier, message):
            self._said = (tag.identifier, message)
            say("tag", uid=tag.identifier.hex(), ndef=message.hex())

    def _find(self) -> NodeTag | None:
        target = self._reader.sense(nfc.clf.RemoteTarget("106A"))
        if target is None or target.rid_res or not target.sdd_res or target.sel_res[0] & 0x60:
            return None  # nobody, or no Type 2 Tag
        return NodeTag(self._reader, target)


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def open_reader(path: str) -> nfc.clf.ContactlessFrontend:
    """The PN532 on a serial line, by the path of its device file. Raises OSError."""
    transport = nfc.clf.transport.TTY(path)
    try:
        device = nfc.clf.pn532.init(transport)
    except OSError:
        _slow_down(transport, path)
        device = nfc.clf.pn532.init(transport)
    reader = nfc.clf.ContactlessFrontend()
    reader.device = device
    return reader


def _slow_down(transport: nfc.clf.transport.TTY, path: str) -> None:
    """Bring a chip back to the speed that the driver starts with: it keeps the high one when its host was killed."""
    for speed in (921600, 460800, 230400):
        transport.open(path, speed)
        try:
            transport.write(nfc.clf.pn532.Chipset.ACK)  # ends what it was doing
            transport.write(SLOW_DOWN)
            transport.read(timeout=100)
            transport.read(timeout=100)
            transport.write(nfc.clf.pn532.Chipset.ACK)  # from here on it is slow
            time.sleep(0.01)  # the ACK has to be out before our own speed changes
            return
        except OSError as error:
            if error.errno != errno.ETIMEDOUT:
                raise


def watch(path: str) -> int:
    """Until stdin ends (0) or the reader fails (1)."""
    signal.alarm(STUCK_S)  # nobody catches it: the process ends
    try:
        reader = open_reader(path)
        say("ready", reader=reader.device.chipset_name or "PN532")
        eyes = Watch(reader)
        while True:
            signal.alarm(STUCK_S)
            eyes.look()
            say("beat")
            if select.select([sys.stdin], [], [], POLL_S)[0]:
                reader.close()
                return 0
    except (OSError, termios.error, nfc.clf.Error, nfc.clf.pn53x.Chipset.Error) as error:
        missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENXIO)
        say("fault", reason=str(error) or type(error).__name__, missing=missing)
        return 1


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # what matters is said as an event
    sys.exit(watch(sys.argv[1]))
