"""A PN532 behind a pseudo-terminal: the chip's serial protocol as a driver meets it (UM0701-02), reader mode.

What it keeps to, because drivers trip over it: frames in normal, extended and ACK form; bytes at another speed than the
chip's own are noise, and the speed changes only after the host's ACK; a command's answer comes after its ACK, and a
ACK from the host cancels it; CRC_A is appended to what a tag says while CIU_RxMode leaves it to the host.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import termios
import threading
import tty
from collections.abc import Callable
from typing import Protocol

ACK = bytes.fromhex("0000ff00ff00")
SPEEDS = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
TERMIOS_SPEEDS = {getattr(termios, f"B{speed}", None): speed for speed in SPEEDS}

RX_MODE, FIFO_DATA = 0x6303, 0x6339


class Tag(Protocol):
    """Something in the reader's field."""

    uid: bytes
    sens_res: bytes
    sel_res: bytes

    def rf(self, frame: bytes) -> bytes | None: ...


def crc_a(data: bytes) -> bytes:
    """ISO/IEC 14443-3 CRC_A, as it follows every frame on the air."""
    crc = 0x6363
    for byte in data:
        byte = (byte ^ crc) & 0xFF
        byte = (byte ^ (byte << 4)) & 0xFF
        crc = ((crc >> 8) ^ (byte << 8) ^ (byte << 3) ^ (byte >> 4)) & 0xFFFF
    return crc.to_bytes(2, "little")


def frame(data: bytes) -> bytes:
    """An information frame around ``data``."""
    count = len(data)
    if count < 256:
        head = bytes((count, -count & 0xFF))
    else:
        head = b"\xff\xff" + count.to_bytes(2, "big") + bytes((-(count >> 8) - count & 0xFF,))
    return b"\x00\x00\xff" + head + data + bytes((-sum(data) & 0xFF, 0))


def take_frame(buffer: bytearray) -> bytes | None:
    """The next frame, taken off the buffer past all noise: ``b""`` for an ACK, None when no whole frame is there."""
    while True:
        start = buffer.find(b"\x00\xff")
        if start < 0:
            del buffer[:-1]
            return None
        rest = memoryview(buffer)[start + 2 :].tobytes()
        if len(rest) < 2:
            return None
        if rest[:2] == b"\x00\xff":
            del buffer[: start + 4]
            return b""
        if rest[:2] == b"\xff\xff":
            if len(rest) < 5:
                return None
            at, count, good = 5, int.from_bytes(rest[2:4], "big"), not sum(rest[2:5]) & 0xFF
        else:
            at, count, good = 2, rest[0], not sum(rest[:2]) & 0xFF
        if not good:
            del buffer[: start + 2]
            continue
        if len(rest) < at + count + 1:
            return None
        del buffer[: start + 2 + at + count + 1]
        data = rest[at : at + count]
        if not (sum(data) + rest[at + count]) & 0xFF and data[:1] == b"\xd4":
            return data


class Pn532:
    """The chip. ``place`` a tag in its field, take it away, ``unplug`` the chip; ``path`` is its terminal."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.speed = 115200
        self.commands: list[int] = []
        self.unknown: list[int] = []
        self.silent = False  # a chip that hangs: takes bytes and says nothing
        self._next_speed: int | None = None
        self._tag: Tag | None = None
        self._selected: Tag | None = None
        self._registers: dict[int, int] = {}
        self._answer_s = 0.05  # how long InCommunicateThru waits for a tag
        self._told = threading.Condition()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="pn532", daemon=True)
        self._thread.start()

    def place(self, tag: Tag) -> None:
        self._tag = tag

    def remove(self) -> None:
        self._tag = None

    def unplug(self) -> None:
        """Pull the cable: whoever has the terminal open gets an error."""
        if self._thread.is_alive():
            os.write(self._wake_write, b"!")
            self._thread.join(10)
            for fd in (self._master, self._slave, self._wake_read, self._wake_write):
                os.close(fd)

    def wait_for(self, done: Callable[[], bool], timeout: float = 30.0) -> bool:
        """Whether it came true by the end of some command."""
        with self._told:
            return self._told.wait_for(done, timeout)

    def _serve(self) -> None:
        buffer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while all(key.fd != self._wake_read for key, _ in selector.select()):
                arrived = os.read(self._master, 4096)
                if self.silent or not self._hears():
                    continue
                buffer += arrived
                while (data := take_frame(buffer)) is not None:
                    self._take(data)

    def _hears(self) -> bool:
        """Whether the host speaks at the chip's speed, as far as a pseudo-terminal tells.

        It tells the speed of now. The host's ACK to a change of speed is written at the old one and read here when the
        host may have gone over to the new one, so while that is awaited both are heard.
        """
        return self._host_speed() in (self.speed, self._next_speed)

    def _host_speed(self) -> int | None:
        return TERMIOS_SPEEDS.get(termios.tcgetattr(self._slave)[5])

    def _take(self, data: bytes) -> None:
        """A frame from the host. That nfcpy's ACK to a change of speed got lost is usual: it flushes what it wrote."""
        if self._next_speed is not None and (not data or self._host_speed() == self._next_speed):
            self.speed, self._next_speed = self._next_speed, None
        if not data:
            return
        self._send(ACK)
        answer = self._do(data[1], data[2:])
        self._send(frame(b"\x7f") if answer is None else frame(bytes((0xD5, data[1] + 1)) + answer))
        with self._told:
            self.commands.append(data[1])
            self._told.notify_all()

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody has the terminal open
            os.write(self._master, data)

    def _do(self, command: int, data: bytes) -> bytes | None:
        commands: dict[int, Callable[[], bytes]] = {
            0x00: lambda: data if data[:1] == b"\x00" else b"\x00",  # Diagnose
            0x02: lambda: b"\x32\x01\x06\x07",  # GetFirmwareVersion
            0x04: lambda: b"\x00\x00\x00\x80",  # GetGeneralStatus
            0x06: lambda: self._read_registers(data),
            0x08: lambda: self._write_registers(data),
            0x10: lambda: self._set_speed(data[0]),
            0x12: lambda: b"",  # SetParameters
            0x14: lambda: b"",  # SAMConfiguration
            0x16: lambda: b"\x00",  # PowerDown
            0x32: lambda: self._configure_rf(data),
            0x42: lambda: self._communicate(data),
            0x44: lambda: self._deselect(),
            0x46: lambda: b"\x01",  # InJumpForPSL: no such partner
            0x4A: lambda: self._list(data),
            0x52: lambda: self._deselect(),  # InRelease
            0x56: lambda: b"\x01",  # InJumpForDEP: no such partner
        }
        if command not in commands:
            self.unknown.append(command)
            return None
        return commands[command]()

    def _read_registers(self, data: bytes) -> bytes:
        return bytes(self._registers.get(int.from_bytes(data[i : i + 2], "big"), 0) for i in range(0, len(data), 2))

    def _write_registers(self, data: bytes) -> bytes:
        for i in range(0, len(data), 3):
            self._registers[int.from_bytes(data[i : i + 2], "big")] = data[i + 2]
        return b""

    def _set_speed(self, index: int) -> bytes:
        self._next_speed = SPEEDS[index]
        return b""

    def _configure_rf(self, data: bytes) -> bytes:
        if data[0] == 0x01 and not data[1] & 1:  # field off: tags forget that they were selected
            self._selected = None
        if data[0] == 0x02:
            self._answer_s = (100 << (data[3] - 1)) / 1e6 if data[3] else 1.0
        return b""

    def _list(self, data: bytes) -> bytes:
        """InListPassiveTarget: one Type A target at most."""
        self._selected, self._registers[FIFO_DATA] = None, 0x26  # the SENS_REQ that nobody answered
        tag = self._tag
        wanted = data[2:].removeprefix(b"\x88")
        if data[1] != 0 or tag is None or (wanted and wanted != tag.uid):
            return b"\x00"
        self._selected = tag
        self._registers[RX_MODE] = 0x80
        return b"\x01\x01" + tag.sens_res[::-1] + tag.sel_res + bytes((len(tag.uid),)) + tag.uid

    def _communicate(self, data: bytes) -> bytes:
        """InCommunicateThru: status and what the tag said. Status 1: it said nothing in time."""
        tag = self._selected
        answer = tag.rf(data) if tag is not None and tag is self._tag else None
        if answer is None:
            threading.Event().wait(self._answer_s)
            return b"\x01"
        if len(answer) > 1 and not self._registers.get(RX_MODE, 0) & 0x80:
            answer += crc_a(answer)
        return b"\x00" + answer

    def _deselect(self) -> bytes:
        self._selected = None
        return b"\x00"
