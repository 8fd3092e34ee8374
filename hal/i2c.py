"""Chips that no kernel driver looks after, over /dev/i2c-*. A chip that a driver holds is the driver's alone.

Only SMBus transfers: they are what every adapter can do, and what the kernel's stand-in for a bus can, too.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import TracebackType

from smbus2 import SMBus

from hal.base import HardwareError, MissingPartError
from hal.sysfs import Sysfs

BLOCK_BYTES = 32  # the most that one SMBus block transfer carries
_SILENT = {errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT, errno.ENODEV}


class I2cChip:
    """One chip: ``bus`` as :func:`bus_number` takes it, ``address`` of 7 bits; ``part`` is its name in errors.

    Raises MissingPartError when the bus is not there, may not be opened, or a driver holds the chip; every transfer
    raises it when the chip does not answer. Not thread-safe.
    """

    def __init__(self, part: str, bus: str, address: int, sysfs: Sysfs) -> None:
        self._part, self._address = part, address
        number = bus_number(bus, sysfs)
        self._where = f"i2c-{number} at {address:#04x}"
        driver = sysfs.path(f"sys/bus/i2c/devices/{number}-{address:04x}/driver")
        if driver.exists():
            raise self._held(driver.resolve().name)
        device = sysfs.path(f"dev/i2c-{number}")
        try:
            self._bus = SMBus(str(device))
        except PermissionError as error:
            raise MissingPartError(
                f"{part}: {device} may not be opened", "the udev rules give the stack's buses to the group thox"
            ) from error
        except OSError as error:
            raise MissingPartError(
                f"{part}: {device} cannot be opened: {error.strerror}", "modprobe i2c-dev"
            ) from error

    def _asked(self) -> SMBus:
        # The kernel looks whether a driver holds the chip when the address is set, so it is set for each transfer.
        self._bus.address = None
        return self._bus

    def receive_byte(self) -> int:
        """One byte, with no register named in the same transfer."""
        try:
            return int(self._asked().read_byte(self._address))
        except OSError as error:
            raise self._failed(error) from error

    def read_byte(self, register: int) -> int:
        try:
            return int(self._asked().read_byte_data(self._address, register))
        except OSError as error:
            raise self._failed(error) from error

    def write_byte(self, register: int, value: int) -> None:
        try:
            self._asked().write_byte_data(self._address, register, value)
        except OSError as error:
            raise self._failed(error) from error

    def read_block(self, register: int, length: int) -> bytes:
        """``length`` bytes, at most BLOCK_BYTES, from ``register`` on."""
        try:
            return bytes(self._asked().read_i2c_block_data(self._address, register, length))
        except OSError as error:
            raise self._failed(error) from error

    def write_block(self, register: int, data: Sequence[int]) -> None:
        """At most BLOCK_BYTES, from ``register`` on."""
        try:
            self._asked().write_i2c_block_data(self._address, register, list(data))
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        self._bus.close()

    def __enter__(self) -> I2cChip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> HardwareError:
        if error.errno == errno.EBUSY:
            return self._held("of the kernel")
        if error.errno in _SILENT:
            return MissingPartError(
                f"{self._part} does not answer on {self._where}", "check its power, its two wires and its address"
            )
        return HardwareError(f"{self._part} on {self._where}: {error.strerror}")

    def _held(self, driver: str) -> MissingPartError:
        return MissingPartError(
            f"{self._part} on {self._where} is held by the driver {driver}",
            "read it through that driver in /sys, or correct its address under [hardware.wiring]",
        )


def bus_number(bus: str, sysfs: Sysfs) -> int:
    """N of i2c-N for a bus that is named by its controller (``c250000.i2c``) or by its adapter's own words
    (``SMBus stub driver``): numbers change with the kernel, those do not. Raises MissingPartError."""
    known = []
    for folder in sysfs.names("sys/bus/i2c/devices/i2c-*"):
        controller = sysfs.path(folder).resolve().parent.name
        words = sysfs.text_or(f"{folder}/name")
        if bus in (controller, words):
            return int(folder.rpartition("-")[2])
        known.append(f"{controller} ({words})")
    raise MissingPartError(f"there is no I2C bus {bus}", f"known are: {', '.join(known) or 'none'}")
