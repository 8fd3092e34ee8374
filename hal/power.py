"""What the module draws, from the power monitors that the kernel's own drivers read (hwmon: ina3221, ina2xx, ina238).

Units of the attributes: mV, mA and µW (Documentation/hwmon/sysfs-interface.rst of the kernel).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from hal.base import MissingPartError, Reading
from hal.sysfs import Sysfs, measure

MOST_W = 400.0  # more than any module or carrier draws: such a reading is a fault
_LEAST_W = 0.2  # a module that reads this is running, so less in total is a fault, too
_DRIVERS = ("ina3221", "ina2xx", "ina226", "ina238", "ina228", "ina219")
_UNUSED = ("", "NC")  # labels of channels that lead nowhere
_SHUNT_CHANNELS = 3  # an ina3221's; the kernel numbers what it derives from them behind


class HwmonPowerMeter:
    """Total and rails. ``driver`` and ``label`` say which channel is the total; without a label it is the sum of all
    channels of that driver's chips. Raises MissingPartError where there is no such channel."""

    def __init__(self, sysfs: Sysfs, driver: str, label: str) -> None:
        self._sysfs, self._driver, self._label = sysfs, driver, label
        found = self._channels((driver,))
        if not found:
            raise MissingPartError(
                f"no power monitor: /sys/class/hwmon has no {driver} chip",
                f"modprobe {driver}, or enable it in the device tree; dmesg says why it did not bind",
            )
        if label and label not in found:
            raise MissingPartError(
                f"the {driver} has no channel {label}, only {', '.join(sorted(found))}",
                "set meter_label under [hardware.wiring] to the channel that the whole module draws from",
            )

    def total(self) -> Reading:
        channels = self._channels((self._driver,))
        if self._label:
            channels = {name: folder for name, folder in channels.items() if name == self._label}
        watts = 0.0
        for name, (folder, channel) in channels.items():
            part = self._reading(name, folder, channel)
            if part.value is None:
                return part
            watts += part.value
        source = f"{self._driver}:{self._label or '+'.join(channels)}"
        if not channels or watts < _LEAST_W:
            return Reading(None, "W", "fault", time.monotonic(), source)
        return Reading(watts, "W", "ok", time.monotonic(), source)

    def rails(self) -> Mapping[str, Reading]:
        channels = self._channels(_DRIVERS)
        return {name: self._reading(name, folder, channel) for name, (folder, channel) in channels.items()}

    def _channels(self, drivers: tuple[str, ...]) -> dict[str, tuple[str, int]]:
        """Name of each rail, with its chip's folder and its channel there; channel 0 where the chip computes watts."""
        found: dict[str, tuple[str, int]] = {}
        for driver in drivers:
            for folder in self._sysfs.chips(driver):
                if self._sysfs.exists(f"{folder}/power1_input"):
                    found[self._name(folder, f"{driver} {self._sysfs.target(f'{folder}/device')}", 1)] = (folder, 0)
                    continue
                for channel in range(1, _SHUNT_CHANNELS + 1):
                    switched_off = self._sysfs.text_or(f"{folder}/in{channel}_enable") == "0"
                    name = self._name(folder, f"{driver} {self._sysfs.target(f'{folder}/device')}#{channel}", channel)
                    wired = self._sysfs.text_or(f"{folder}/in{channel}_label", name) not in _UNUSED
                    if wired and not switched_off and self._sysfs.exists(f"{folder}/curr{channel}_input"):
                        found[name] = (folder, channel)
        return found

    def _name(self, folder: str, otherwise: str, channel: int) -> str:
        for attribute in (f"power{channel}_label", f"in{channel}_label", "label"):
            name = self._sysfs.text_or(f"{folder}/{attribute}")
            if name not in _UNUSED:
                return name
        return otherwise

    def _reading(self, name: str, folder: str, channel: int) -> Reading:
        def watts() -> float:
            if channel == 0:
                return self._sysfs.number(f"{folder}/power1_input") / 1e6
            milliamperes = self._sysfs.number(f"{folder}/curr{channel}_input")
            return self._sysfs.number(f"{folder}/in{channel}_input") * milliamperes / 1e6

        return measure("W", f"hwmon:{name}", watts, 0.0, MOST_W)
