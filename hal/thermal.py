"""How warm the module is, from the kernel's thermal zones (/sys/class/thermal: type, and temp in m°C)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hal.base import MissingPartError, Reading
from hal.sysfs import Sysfs, measure

_COLDEST_C, _HOTTEST_C = -40.0, 150.0  # a junction outside of this is a broken sensor


class SysfsThermometers:
    """Every thermal zone. Zones of the same type are told apart by a number. Raises MissingPartError without any."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        if not self._zones():
            raise MissingPartError(
                "no thermometer: /sys/class/thermal has no zone",
                "the module's own kernel has them; a kernel of another board was booted",
            )

    def zones(self) -> Mapping[str, Reading]:
        found = self._zones()
        return {name: measure("degC", f"thermal:{name}", read, _COLDEST_C, _HOTTEST_C) for name, read in found.items()}

    def _zones(self) -> dict[str, Callable[[], float]]:
        found: dict[str, Callable[[], float]] = {}
        for folder in self._sysfs.names("sys/class/thermal/thermal_zone*"):
            kind = self._sysfs.text_or(f"{folder}/type") or folder.rpartition("/")[2]
            same = sum(name == kind or name.startswith(f"{kind}#") for name in found)
            found[f"{kind}#{same + 1}" if same else kind] = self._reader(folder)
        return found

    def _reader(self, folder: str) -> Callable[[], float]:
        return lambda: self._sysfs.number(f"{folder}/temp") / 1000
