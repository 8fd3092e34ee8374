"""What a PC draws, from its processors' own energy counters (RAPL: /sys/class/powercap/intel-rapl:*, in µJ).

The counters are for root alone (they tell too much about what is computed): a udev rule may give them to the group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hal.base import MissingPartError, Reading
from hal.sysfs import Sysfs, measure

MOST_W = 2000.0
SHORTEST_S = 0.05  # a counter that ticks every millisecond says nothing over less


class RaplMeter:
    """Watts between two looks, of each package; the total is their sum and leaves out everything but processors and
    their memory. Raises MissingPartError without counters that may be read."""

    def __init__(self, sysfs: Sysfs, clock: Callable[[], float] = time.monotonic) -> None:
        self._sysfs, self._clock = sysfs, clock
        self._folders = {
            sysfs.text_or(f"{folder}/name", folder): folder
            for folder in sysfs.names("sys/class/powercap/intel-rapl:*")
            if folder.count(":") == 1  # intel-rapl:0:1 is a part of intel-rapl:0
        }
        self._before = {name: (clock(), self._count(name)) for name in self._folders}
        self._last: dict[str, Reading] = {}
        if not self._folders or any(count is None for _, count in self._before.values()):
            raise MissingPartError(
                "no power meter: /sys/class/powercap has no energy counter that may be read",
                "modprobe intel_rapl_common, and see the udev rules of the agent",
            )

    def total(self) -> Reading:
        rails = self.rails()
        source = "rapl:" + "+".join(rails)
        values = [reading.value for reading in rails.values() if reading.value is not None]
        if len(values) < len(rails):
            quality = next(reading.quality for reading in rails.values() if reading.value is None)
            return Reading(None, "W", quality, self._clock(), source)
        return Reading(sum(values), "W", "ok", self._clock(), source)

    def rails(self) -> Mapping[str, Reading]:
        return {name: self._rail(name) for name in self._folders}

    def _rail(self, name: str) -> Reading:
        (then, before), now, count = self._before[name], self._clock(), self._count(name)
        if now - then < SHORTEST_S:
            return self._last.get(name, Reading(None, "W", "stale", now, f"rapl:{name}"))
        self._before[name] = (now, count)

        def watts() -> float:
            if before is None or count is None:
                raise ValueError("a counter that cannot be read")
            spent = count - before
            if spent < 0:  # it wrapped
                spent += self._sysfs.number(f"{self._folders[name]}/max_energy_range_uj")
            return spent / 1e6 / (now - then)

        self._last[name] = measure("W", f"rapl:{name}", watts, 0.0, MOST_W)
        return self._last[name]

    def _count(self, name: str) -> int | None:
        try:
            return self._sysfs.number(f"{self._folders[name]}/energy_uj")
        except (OSError, ValueError):
            return None
