"""An NT3H2111 in memory, with both its sides: Type 2 Tag on the air, 16-byte blocks on I2C. A driver of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hal.base import MissingPartError

SESSION, NS_REG = 0xFE, 6
EEPROM_WR_BUSY, RF_LOCKED, I2C_LOCKED = 0x02, 0x20, 0x40
LAST_PAGE = 0xE1

NAK, ACK = b"\x00", b"\x0a"


class NtagChip:
    """One memory that a host writes over I2C while a reader reads it over the air. ``written`` lists the blocks."""

    sens_res, sel_res = b"\x44\x00", b"\x00"

    def __init__(self, uid: bytes = bytes.fromhex("04a1b2c3d4e5f6")) -> None:
        self.uid = uid
        self.memory = bytearray(0x3B * 16)
        self.memory[0:10] = uid + bytes((0,)) + self.sens_res[::-1]
        self.memory[12:16] = bytes((0xE1, 0x10, 0x6D, 0x00))
        self.memory[16:19] = bytes((0x03, 0x00, 0xFE))
        self.written: list[int] = []
        self.reads = 0
        self.rf_holds = 0  # how many looks at NS_REG find the air in possession
        self.write_errors = 0  # how many of the next writes fail inside
        self.busy_polls = 2  # how often NS_REG says busy after a write
        self.torn_writes = 0  # how many of the next writes keep only their first half
        self.absent = False
        self.before_read: Callable[[int], None] = lambda page: None
        self.before_write: Callable[[int], None] = lambda block: None
        self._locked = False
        self._busy = 0
        self._pointer = 0
        self._mutex = threading.RLock()

    # The I2C side, as hal.i2c.I2cChip has it.

    def write_byte(self, register: int, value: int) -> None:
        self._answer()
        assert register == SESSION, "one byte is not a block"
        self._pointer = value

    def receive_byte(self) -> int:
        with self._mutex:
            self._answer()
            assert self._pointer == NS_REG
            status = I2C_LOCKED if self._locked else 0
            if self._busy:
                self._busy -= 1
                status |= EEPROM_WR_BUSY
            if self.rf_holds and not self._locked:
                self.rf_holds -= 1
                status |= RF_LOCKED
            return status

    def read_block(self, register: int, length: int) -> bytes:
        with self._mutex:
            self._own()
            assert length == 16
            assert register <= 0x3A
            return bytes(self.memory[register * 16 : register * 16 + 16])

    def write_block(self, register: int, data: Sequence[int]) -> None:
        if register == SESSION:
            self._write_register(*data)
            return
        self.before_write(register)
        with self._mutex:
            self._own()
            assert len(data) == 16
            self.written.append(register)
            self._busy = self.busy_polls
            if self.write_errors:
                self.write_errors -= 1
                return
            kept = 8 if self.torn_writes else 16
            self.torn_writes = max(0, self.torn_writes - 1)
            self.memory[register * 16 : register * 16 + kept] = bytes(data[:kept])

    def watchdog(self) -> None:
        """The chip's own timer takes the memory away from a host that holds it for too long."""
        self._locked = False

    def _write_register(self, register: int, mask: int, value: int) -> None:
        with self._mutex:
            self._answer()
            assert register == NS_REG
            if mask & I2C_LOCKED:
                self._locked = bool(value & I2C_LOCKED) and not self.rf_holds

    def _answer(self) -> None:
        if self.absent:
            raise MissingPartError("the tag does not answer")

    def _own(self) -> None:
        """Memory NAKs while it is being written, and while the air holds it."""
        self._answer()
        if self._busy or (self.rf_holds and not self._locked):
            raise MissingPartError("the tag does not answer")
        self._locked = True

    # The air: what a reader sends, without CRC, and what comes back; None is silence.

    def rf(self, frame: bytes) -> bytes | None:
        if frame[0] == 0x30 and len(frame) == 2:
            self.before_read(frame[1])
            with self._mutex:
                self.reads += 1
                if frame[1] > LAST_PAGE or self._locked:
                    return NAK
                return bytes(self.memory[frame[1] * 4 : frame[1] * 4 + 16])
        if frame[0] == 0xA2 and len(frame) == 6:
            with self._mutex:
                if not 4 <= frame[1] <= LAST_PAGE or self._locked:
                    return NAK
                self.memory[frame[1] * 4 : frame[1] * 4 + 4] = frame[2:6]
                return ACK
        if frame[0] == 0x60:
            return bytes.fromhex("0004040502021303")
        return None

    @property
    def ndef(self) -> bytes:
        """The NDEF message of the TLV at the start of the user memory."""
        assert self.memory[16] == 0x03
        if self.memory[17] < 255:
            return bytes(self.memory[18 : 18 + self.memory[17]])
        return bytes(self.memory[20 : 20 + int.from_bytes(self.memory[18:20], "big")])

    @ndef.setter
    def ndef(self, message: bytes) -> None:
        length = bytes((len(message),)) if len(message) < 255 else b"\xff" + len(message).to_bytes(2, "big")
        tlv = b"\x03" + length + message + b"\xfe"
        with self._mutex:
            self.memory[16 : 16 + len(tlv)] = tlv
