"""The module's own NFC tag, an NT3H2111: a Type 2 Tag on the air whose memory the host writes over I2C.

Registers and memory as NXP's data sheet NT3H2111_2211 has them. In 16-byte blocks:

    0x00         serial number, static lock bytes, capability container. Never written: its first byte would change the
                 chip's I2C address, its lock bits do not go back
    0x01..0x37   user memory: the NDEF message in one TLV, from the start
    0x38..0x3A   the last 8 bytes of user memory, dynamic lock bytes, passwords, configuration. Never written
    0xFE         session registers, one byte at a time; NS_REG is byte 6

The order of writing is what keeps a reader from a torn record: first the length goes to 0, then the body, which is read
back, and the length last. A reader that comes in between finds an empty tag; one that began before finds a wrong CRC.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from hal.base import Face, HardwareError, MissingPartError, PartState, TagRecord
from hal.tag_record import MAX_NDEF_BYTES, encode

ADDRESS = 0x55  # of 7 bits, as the chip is delivered
BLOCK = 16
LAST_BLOCK = 0x37
SESSION, NS_REG = 0xFE, 6
EEPROM_WR_BUSY, RF_LOCKED, I2C_LOCKED = 0x02, 0x20, 0x40

EMPTY = bytes((0x03, 0x00, 0xFE)) + bytes(BLOCK - 3)

ARBITRATION_S = 1.0  # a reader that reads the whole tag is done by then
POLL_S = 0.003  # writing a block takes some 5 ms
TRIES = 4  # for one block

# The EEPROM endures 500,000 writes of a block. So many records at once, and then one in so many seconds: at that rate,
# day and night, it lasts for nine years, for the first block is written twice.
BURST = 8
REFILL_S = 1200.0

T = TypeVar("T")


class Chip(Protocol):
    """The tag on its I2C bus; hal.i2c.I2cChip is one. Transfers raise HardwareError, MissingPartError for silence."""

    def receive_byte(self) -> int:
        """One byte, with no register named in the same transfer."""
        ...

    def write_byte(self, register: int, value: int) -> None: ...

    def read_block(self, register: int, length: int) -> bytes: ...

    def write_block(self, register: int, data: Sequence[int]) -> None: ...


class TagWearError(HardwareError):
    """Writing now would wear the tag's EEPROM out; ``retry_after_s`` says when it would not."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "the NFC tag was rewritten too often in the last minutes; it keeps the record that it has",
            f"write it again in {retry_after_s:.0f} s, and find out what keeps changing",
        )
        self.retry_after_s = retry_after_s


class Nt3hTag:
    """An OwnTag. Looks for the chip once; whether it is there is in ``state``. Safe to use from several threads."""

    def __init__(
        self,
        chip: Chip,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        face: Face = "bottom",
    ) -> None:
        self.face: Face = face
        self._chip = chip
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._budget = float(BURST)
        self._budget_at = clock()
        self._state = PartState("nfc-tag", "ok")
        with self._lock, contextlib.suppress(HardwareError):
            self._tell(self._formatted)

    def publish(self, record: TagRecord) -> None:
        """Write it, unless it is there already. Raises TagRecordError for a record that no reader would take,
        TagWearError when it comes too soon after others, HardwareError when the tag cannot be written."""
        blocks = _blocks(encode(record))
        with self._lock:
            self._tell(lambda: self._publish(blocks))

    def state(self) -> PartState:
        """How the last access went."""
        return self._state

    def _tell(self, act: Callable[[], None]) -> None:
        """Do it with the memory in our hands, and keep how it went."""
        try:
            act()
        except TagWearError:
            raise
        except HardwareError as error:
            state: Literal["missing", "fault"] = "missing" if isinstance(error, MissingPartError) else "fault"
            self._state = PartState("nfc-tag", state, str(error))
            raise
        finally:
            # The chip's own watchdog does the same 20 ms later.
            with contextlib.suppress(HardwareError):
                self._chip.write_block(SESSION, (NS_REG, I2C_LOCKED, 0))
        self._state = PartState("nfc-tag", "ok")

    def _formatted(self) -> None:
        container = self._read(0)[12:16]
        if container[0] != 0xE1 or container[1] >> 4 != 1 or container[2] * 8 < MAX_NDEF_BYTES + 4:
            raise HardwareError(
                f"the tag's capability container is {container.hex(' ')}, which is no NFC Forum tag of this size",
                "exchange the tag: the container can be written only once",
            )

    def _publish(self, blocks: Sequence[bytes]) -> None:
        self._formatted()
        changed = [at for at, block in enumerate(blocks, 1) if self._read(at) != block]
        if not changed:
            return
        self._spend()
        # Whatever fails from here on leaves an empty tag or one whose CRC is wrong, never a wrong record.
        self._write(1, EMPTY)
        for at in changed:
            if at != 1:
                self._write(at, blocks[at - 1])
        self._write(1, blocks[0])

    def _spend(self) -> None:
        now = self._clock()
        self._budget = min(float(BURST), self._budget + (now - self._budget_at) / REFILL_S)
        self._budget_at = now
        if self._budget < 1:
            raise TagWearError((1 - self._budget) * REFILL_S)
        self._budget -= 1

    def _read(self, at: int) -> bytes:
        return self._owning(lambda: self._chip.read_block(at, BLOCK))

    def _write(self, at: int, block: bytes) -> None:
        """One block, read back. Writes nothing that is there already."""
        assert 1 <= at <= LAST_BLOCK
        for _ in range(TRIES):
            if self._read(at) == block:
                return
            self._owning(lambda: self._chip.write_block(at, block))
        if self._read(at) != block:
            raise HardwareError(f"block {at:#04x} of the NFC tag does not keep what is written", "exchange the tag")

    def _owning(self, transfer: Callable[[], T]) -> T:
        """Do it while the memory is ours. A reader may have it: then it does not answer us for some milliseconds."""
        for _ in range(TRIES - 1):
            self._take()
            try:
                return transfer()
            except MissingPartError:
                self._sleep(POLL_S)
        self._take()
        return transfer()

    def _take(self) -> None:
        """Until the EEPROM has taken the last block, no reader has the memory, and we do."""
        end = self._clock() + ARBITRATION_S
        while True:
            status = self._status()
            if not status & (RF_LOCKED | EEPROM_WR_BUSY):
                if status & I2C_LOCKED:
                    return
                self._chip.write_block(SESSION, (NS_REG, I2C_LOCKED, I2C_LOCKED))
                if self._status() & I2C_LOCKED:
                    return
            if self._clock() >= end:
                if status & EEPROM_WR_BUSY:
                    raise HardwareError("the NFC tag does not finish writing", "exchange the tag")
                raise HardwareError(
                    f"a reader has held the NFC tag for {ARBITRATION_S:g} s", "is a phone lying on the module?"
                )
            self._sleep(POLL_S)

    def _status(self) -> int:
        """NS_REG: the address of the register in one transfer, its byte in the next."""
        self._chip.write_byte(SESSION, NS_REG)
        return self._chip.receive_byte()


def _blocks(message: bytes) -> list[bytes]:
    """What stands in the user memory: the message in its TLV, the terminator, and zeros up to a whole block."""
    length = bytes((len(message),)) if len(message) < 255 else b"\xff" + len(message).to_bytes(2, "big")
    tlv = b"\x03" + length + message + b"\xfe"
    tlv += bytes(-len(tlv) % BLOCK)
    return [tlv[at : at + BLOCK] for at in range(0, len(tlv), BLOCK)]
