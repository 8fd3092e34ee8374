"""What feeds the module, a supply or a battery: as the kernel knows it (/sys/class/power_supply, µV and µA).

Where the port's controller has a driver (tcpm, ucsi, tps6598x), the contract of USB Power Delivery stands there, too.
"""

from __future__ import annotations

import contextlib
import time

from hal.base import HardwareError, Reading
from hal.i2c import I2cChip
from hal.sysfs import Sysfs, measure

MOST_W = 240.0  # of USB Power Delivery 3.1
_OUTSIDE = ("Mains", "USB")
# Ports whose voltage_now and current_now are what was agreed upon, not what happens to flow.
_AGREED = ("tcpm-source-psy", "ucsi-source-psy")


class SysfsSupply:
    """Mains and USB inputs, and the battery, of the power_supply class.

    ``stated_w`` is what a supply gives that cannot say so itself, as one behind a barrel jack; it counts when no input
    says anything. A machine whose kernel knows no input at all and that has no battery lives on such a supply.
    """

    def __init__(self, sysfs: Sysfs, stated_w: float = 0.0) -> None:
        self._sysfs, self._stated_w = sysfs, stated_w

    def external(self) -> bool:
        inputs = self._of(_OUTSIDE)
        if not inputs:
            return not self._batteries()
        return any(self._sysfs.text_or(f"{folder}/online") not in ("", "0") for folder in inputs)

    def available(self) -> Reading:
        best = Reading(None, "W", "fault", time.monotonic(), "power_supply")
        for folder in self._of(_OUTSIDE):
            if self._sysfs.text_or(f"{folder}/online") in ("", "0"):
                continue
            now = folder.rpartition("/")[2].startswith(_AGREED)
            reading = self._watts(folder, "now" if now else "max")
            if best.value is None or (reading.value is not None and reading.value > best.value):
                best = reading
        if best.value is None and self._stated_w > 0 and self.external():
            return Reading(self._stated_w, "W", "ok", time.monotonic(), "stated")
        return best

    def battery(self) -> Reading | None:
        found = self._batteries()
        if not found:
            return None
        # Several packs: the fullest cannot carry the emptiest, so the emptiest speaks.
        readings = [self._charge(folder) for folder in found]
        return min(readings, key=lambda reading: -1.0 if reading.value is None else reading.value)

    def _of(self, kinds: tuple[str, ...]) -> list[str]:
        folders = self._sysfs.names("sys/class/power_supply/*")
        return [folder for folder in folders if self._sysfs.text_or(f"{folder}/type") in kinds]

    def _batteries(self) -> list[str]:
        """The module's own: a mouse's battery is of scope Device."""
        packs = (f for f in self._of(("Battery",)) if self._sysfs.text_or(f"{f}/scope") != "Device")
        return [folder for folder in packs if self._sysfs.text_or(f"{folder}/present", "1") != "0"]

    def _watts(self, folder: str, which: str) -> Reading:
        def watts() -> float:
            microvolts = self._sysfs.number(f"{folder}/voltage_{which}")
            return microvolts * self._sysfs.number(f"{folder}/current_{which}") / 1e12

        return measure("W", f"power_supply:{folder.rpartition('/')[2]}", watts, 0.5, MOST_W)

    def _charge(self, folder: str) -> Reading:
        source = f"power_supply:{folder.rpartition('/')[2]}"
        return measure("%", source, lambda: float(self._sysfs.number(f"{folder}/capacity")), 0.0, 100.0)


class Stusb4500:
    """A USB Power Delivery sink of the STUSB4500's kind; ``rest`` tells of the battery, unknown to the chip.

    Registers (ST's data sheet DS12499; little-endian): 0x0E PORT_STATUS_1, bit 0 attached; 0x70 DPM_PDO_NUMB, bits 2:0;
    0x85 DPM_SNK_PDO1, then one of 4 bytes each: 19:10 in 50 mV, 9:0 in 10 mA; 0x91 RDO_REG_STATUS: 30:28 the source's
    object that was asked for, 19:10 operating current in 10 mA. Raises MissingPartError when it does not answer.
    """

    def __init__(self, chip: I2cChip, rest: SysfsSupply) -> None:
        self._chip, self._rest = chip, rest
        self.external()

    def external(self) -> bool:
        return bool(self._chip.read_byte(0x0E) & 1)

    def available(self) -> Reading:
        at, watts = time.monotonic(), None
        with contextlib.suppress(HardwareError):
            watts = self._agreed() if self.external() else None
        if watts is None or not 0.5 <= watts <= MOST_W:
            return Reading(None, "W", "fault", at, "stusb4500")
        return Reading(watts, "W", "ok", at, "stusb4500")

    def battery(self) -> Reading | None:
        return self._rest.battery()

    def _agreed(self) -> float | None:
        """W of the contract. The chip keeps the position of the source's offer but not the offer: the first is always
        5 V; a later one is one of its own further wishes, of which the lowest voltage is assumed, never too much."""
        request = int.from_bytes(self._chip.read_block(0x91, 4), "little")
        position, amperes = request >> 28 & 7, (request >> 10 & 0x3FF) / 100
        if position == 0:
            return None  # no contract yet: what a plain USB-C port gives is for the port's resistors to say
        if position == 1:
            return 5.0 * amperes
        wishes = max(2, min(3, self._chip.read_byte(0x70) & 7))
        objects = (int.from_bytes(self._chip.read_block(0x85 + 4 * i, 4), "little") for i in range(1, wishes))
        return min((value >> 10 & 0x3FF) / 20 for value in objects) * amperes
