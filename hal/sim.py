"""A device in memory: drivers of their own, not stand-ins. It heats, draws, obeys its cap, and its parts can fail.

What it models: an Orin NX 16 GB on a 65 W USB-C supply.

* Power: ``idle + load * (worst(step) - idle)``; the step is the cap's, the load is given from outside, 0 to 1.
* Heat: one RC element a zone, ``dT/dt = (ambient + R * P - T) / tau``, integrated exactly between two looks.
* Faults: a part that fails answers with quality ``fault`` and no value; a stuck cap keeps its step whatever is asked,
  as NVIDIA's own tool does over ssh when a mode needs a reboot.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from hal.base import BoardFacts, Edge, Face, Hardware, MissingPartError, Reading
from hal.boards import ORIN_NX_16
from hal.sim_stack import SimAlertLine, SimLink, SimLoadSwitch, SimOwnTag, SimReader

Part = Literal["meter", "cap", "thermal", "supply"]

# The worst watts of each step of the ladder. The lowest is what the module may need whatever is asked of it.
LADDER_W = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
IDLE_W = 4.6
SUPPLY_W = 65.0
AMBIENT_C = 25.0
TAU_S = 90.0  # a heat sink of some 60 J/K
ZONES_K_PER_W = {"cpu-thermal": 1.10, "gpu-thermal": 1.15, "soc0-thermal": 1.0, "tj-thermal": 1.2}
RAILS = {"VDD_CPU_GPU_CV": 0.65, "VDD_SOC": 0.35}  # shares of VDD_IN, as an INA3221 on this module tells them apart


class SimLines:
    """Hall switches that a hand drives."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._closed: dict[Face, bool] = {"top": False, "bottom": False}
        self._edges: queue.SimpleQueue[Edge] = queue.SimpleQueue()

    def closed(self) -> Mapping[Face, bool]:
        return dict(self._closed)

    def wait(self, timeout: float) -> Edge | None:
        try:
            return self._edges.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def drive(self, face: Face, closed: bool) -> None:
        """A magnet comes or goes. Driving a line to where it is gives no edge."""
        if self._closed[face] != closed:
            self._closed[face] = closed
            self._edges.put(Edge(face, closed, self._clock()))


class Plant:
    """The physics behind the sensors: one state, read through several drivers."""

    def __init__(self, clock: Callable[[], float], load: Callable[[], float]) -> None:
        self.clock = clock
        self.broken: set[Part] = set()
        self._load = load
        self._lock = threading.Lock()
        self._step = len(LADDER_W) - 1
        self._celsius = dict.fromkeys(ZONES_K_PER_W, AMBIENT_C)
        self._at = clock()
        self._kept_until = math.inf

    def watts(self) -> float:
        share = min(1.0, max(0.0, self._load()))
        return IDLE_W + share * (LADDER_W[self._step] - IDLE_W)

    def worst_watts(self) -> float:
        with self._lock:
            self._advance()
            return LADDER_W[self._step]

    def keep_step(self, seconds: float) -> None:
        with self._lock:
            self._advance()
            self._kept_until = self.clock() + seconds

    def take_step(self, watts: float) -> None:
        with self._lock:
            self._advance()  # until now it drew what the old step allowed
            if "cap" not in self.broken:
                self._step = max((i for i, worst in enumerate(LADDER_W) if worst <= watts), default=0)

    def celsius(self) -> dict[str, float]:
        with self._lock:
            self._advance()
            return dict(self._celsius)

    def reading(self, part: Part, value: float, unit: Literal["W", "degC"], source: str) -> Reading:
        if part in self.broken:
            return Reading(None, unit, "fault", self.clock(), source)
        return Reading(value, unit, "ok", self.clock(), source)

    def _advance(self) -> None:
        now, watts = self.clock(), self.watts()
        kept = math.exp(-max(0.0, now - self._at) / TAU_S)
        for zone, resistance in ZONES_K_PER_W.items():
            end = AMBIENT_C + resistance * watts
            self._celsius[zone] = end + (self._celsius[zone] - end) * kept
        self._at = now
        if now >= self._kept_until and "cap" not in self.broken:
            self._step = 0


class SimPowerMeter:
    """An INA3221's three channels."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def total(self) -> Reading:
        return self._plant.reading("meter", self._plant.watts(), "W", "sim:VDD_IN")

    def rails(self) -> Mapping[str, Reading]:
        watts = self._plant.watts()
        return {rail: self._plant.reading("meter", watts * share, "W", f"sim:{rail}") for rail, share in RAILS.items()}


class SimPowerCap:
    """The ladder of LADDER_W."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    @property
    def floor_w(self) -> float:
        return LADDER_W[0]

    @property
    def peak_w(self) -> float:
        return LADDER_W[-1]

    def apply(self, watts: float) -> float:
        self._plant.take_step(watts)
        return self.applied()

    def applied(self) -> float:
        return self._plant.worst_watts()

    def feed(self, ttl_s: float) -> None:
        self._plant.keep_step(ttl_s)


class SimThermometers:
    """Thermal zones under the names that Tegra's kernel gives them."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def zones(self) -> Mapping[str, Reading]:
        celsius = self._plant.celsius()
        return {zone: self._plant.reading("thermal", value, "degC", f"sim:{zone}") for zone, value in celsius.items()}


class SimSupply:
    """A USB-C supply of 65 W, plugged in; no battery."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def external(self) -> bool:
        if "supply" in self._plant.broken:
            raise MissingPartError("the power supply's controller does not answer", "unplug the supply and plug it in")
        return True

    def available(self) -> Reading:
        return self._plant.reading("supply", SUPPLY_W, "W", "sim:usb-c")

    def battery(self) -> Reading | None:
        return None


class SimDevice:
    """One device on a desk. The agent sees ``hardware``; everything else is what hands and bad luck do to it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        load: Callable[[], float] = lambda: 0.0,
        machine: BoardFacts = ORIN_NX_16,
    ) -> None:
        self._plant = Plant(clock, load)
        self.lines = SimLines(clock)
        self.hardware = Hardware(
            board=ORIN_NX_16,
            machine=machine,
            simulated=True,
            lines=self.lines,
            alert=SimAlertLine(),
            load_switch=SimLoadSwitch(),
            readers={"top": SimReader()},
            tag=SimOwnTag(),
            link=SimLink(),
            power=SimPowerMeter(self._plant),
            cap=SimPowerCap(self._plant),
            thermal=SimThermometers(self._plant),
            supply=SimSupply(self._plant),
        )

    def fail(self, part: Part) -> None:
        self._plant.broken.add(part)

    def mend(self, part: Part) -> None:
        self._plant.broken.discard(part)


def stack(lower: SimDevice, upper: SimDevice) -> None:
    """Put one device on another."""
    lower.lines.drive("top", True)
    upper.lines.drive("bottom", True)


def unstack(lower: SimDevice, upper: SimDevice) -> None:
    """Take it off again."""
    lower.lines.drive("top", False)
    upper.lines.drive("bottom", False)
