"""The drivers of a simulated module: each stands on a Port, and so on a World in this process or in another."""

from __future__ import annotations

import base64
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from hal.base import (
    BoardFacts,
    Edge,
    Face,
    Hardware,
    HardwareError,
    MissingPartError,
    PartState,
    Reading,
    Sighting,
    TagRecord,
)
from hal.boards import ORIN_NX_16
from hal.world import DATAGRAM_BYTES, World
from hal.world_port import LocalPort, Port
from hal.world_state import FAULTS, LADDER_W, RAILS, READER_FACE, TAG_FACE, View, tag_from_json, tag_to_json

MODULE = "module-1"  # the name of a module that is alone in its World
NOISE = 0.2
LINK_GIGABITS = 10.0  # of the pogo contact


class SimPart:
    """A driver over a port."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def _look(self) -> View:
        view = self._port.look()
        if not view.powered:
            raise MissingPartError("the simulated module has no power", "plug a supply into its stack: thox sim plug")
        return view

    def _sound(self, fault: str) -> View:
        """Raises MissingPartError where the part is broken."""
        view = self._look()
        if fault in view.faults:
            raise MissingPartError(FAULTS[fault], f"it was broken by hand: thox sim mend {fault}")
        return view

    def _state(self, part: str, *faults: str) -> PartState:
        """Of a part, which is at fault when one of ``faults`` is there."""
        try:
            view = self._look()
        except HardwareError as error:
            return PartState(part, "fault", str(error))
        wrong = [FAULTS[fault] for fault in faults if fault in view.faults]
        return PartState(part, "fault" if wrong else "ok", "; ".join(wrong))


class SimLines(SimPart):
    """Hall switches behind a kernel's debouncing."""

    def closed(self) -> Mapping[Face, bool]:
        return dict(self._sound("lines").closed)

    def wait(self, timeout: float) -> Edge | None:
        event = self._port.wait("edge", timeout)
        return None if event is None else Edge(event.body["face"], event.body["closed"], event.at)


class SimAlertLine(SimPart):
    """One line through the stack that is there now."""

    def raised(self) -> bool:
        return self._look().alert

    def wait(self, timeout: float) -> bool | None:
        event = self._port.wait("alert", timeout)
        return None if event is None else bool(event.body["raised"])

    def pull(self, pulled: bool) -> None:
        self._port.tell("pull", pulled)


class SimLoadSwitch(SimPart):
    """Decides how much the module takes from the stack; what is plugged into itself it takes anyway."""

    def enabled(self) -> bool:
        return self._look().load_switch

    def enable(self, on: bool) -> None:
        self._look()
        self._port.tell("load-switch", on)


class SimReader(SimPart):
    """Reads the tag of the module above."""

    face: Face = READER_FACE

    def seen(self) -> TagRecord | None:
        return self._look().seen

    def wait(self, timeout: float) -> Sighting | None:
        event = self._port.wait("sighting", timeout)
        return None if event is None else Sighting(tag_from_json(event.body["record"]), event.at)

    def state(self) -> PartState:
        return self._state(f"nfc-reader-{self.face}", "reader")


class SimOwnTag(SimPart):
    """Keeps what was written last, without power, too."""

    face: Face = TAG_FACE

    def publish(self, record: TagRecord) -> None:
        self._sound("tag")
        self._port.tell("tag", tag_to_json(record))

    def state(self) -> PartState:
        return self._state("nfc-tag", "tag")


class SimLink(SimPart):
    """Datagrams between the modules of a stack."""

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._closed = threading.Event()

    def send(self, datagram: bytes) -> None:
        if len(datagram) > DATAGRAM_BYTES:
            raise HardwareError(f"a datagram of {len(datagram)} bytes is too long", f"{DATAGRAM_BYTES} is the most")
        self._port.tell("send", base64.b64encode(datagram).decode())

    def receive(self, timeout: float) -> tuple[bytes, str] | None:
        if self._closed.is_set():
            raise HardwareError("the link is closed")
        event = self._port.wait("datagram", timeout)
        return None if event is None else (base64.b64decode(event.body["data"]), str(event.body["sender"]))

    def address(self) -> str:
        return self._port.look().address

    def carrier(self) -> bool | None:
        return self._look().carrier

    def gigabits(self) -> float | None:
        return LINK_GIGABITS

    def close(self) -> None:
        self._closed.set()


class SimPowerMeter(SimPart):
    """An INA3221's three channels."""

    def total(self) -> Reading:
        return self._reading(self._look(), 1.0, "VDD_IN")

    def rails(self) -> Mapping[str, Reading]:
        view = self._look()
        return {rail: self._reading(view, share, rail) for rail, share in RAILS.items()}

    def _reading(self, view: View, share: float, rail: str) -> Reading:
        if "meter" in view.faults:
            return Reading(None, "W", "fault", view.at, f"sim:{rail}")
        jump = random.uniform(-NOISE, NOISE) if "meter-noise" in view.faults else 0.0
        return Reading(view.watts * share * (1 + jump), "W", "ok", view.at, f"sim:{rail}")


class SimPowerCap(SimPart):
    """The ladder of LADDER_W."""

    @property
    def floor_w(self) -> float:
        return LADDER_W[0]

    @property
    def peak_w(self) -> float:
        return LADDER_W[-1]

    @property
    def steps_w(self) -> tuple[float, ...]:
        return LADDER_W

    def apply(self, watts: float) -> float:
        self._port.tell("step", watts)
        return self.applied()

    def applied(self) -> float:
        return self._look().worst_w

    def feed(self, ttl_s: float) -> None:
        self._port.tell("feed", ttl_s)


class SimThermometers(SimPart):
    """Thermal zones under the names that Tegra's kernel gives them."""

    def zones(self) -> Mapping[str, Reading]:
        view = self._look()
        dead = "thermal" in view.faults
        quality: Literal["ok", "fault"] = "fault" if dead else "ok"
        return {
            zone: Reading(None if dead else celsius, "degC", quality, view.at, f"sim:{zone}")
            for zone, celsius in view.celsius.items()
        }


class SimSupply(SimPart):
    """USB-C, and the module's battery."""

    def external(self) -> bool:
        return self._sound("supply").external

    def available(self) -> Reading:
        view = self._look()
        if "supply" in view.faults:
            return Reading(None, "W", "fault", view.at, "sim:usb-c")
        return Reading(view.available_w, "W", "ok", view.at, "sim:usb-c" if view.external else "sim:battery")

    def battery(self) -> Reading | None:
        view = self._look()
        percent = view.battery_percent
        return None if percent is None else Reading(percent, "%", "ok", view.at, "sim:battery")


def sim_hardware(port: Port, machine: BoardFacts, board: BoardFacts = ORIN_NX_16) -> Hardware:
    """Everything that a module has. Closing it closes the port."""
    return Hardware(
        board=board,
        machine=machine,
        simulated=True,
        lines=SimLines(port),
        alert=SimAlertLine(port),
        load_switch=SimLoadSwitch(port),
        readers={READER_FACE: SimReader(port)},
        tag=SimOwnTag(port),
        link=SimLink(port),
        power=SimPowerMeter(port),
        cap=SimPowerCap(port),
        thermal=SimThermometers(port),
        supply=SimSupply(port),
        close=port.close,
    )


class SimDevice:
    """A module alone in a World of its own, a supply plugged in. The agent sees ``hardware``; the rest are hands."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        load: Callable[[], float] | None = None,
        machine: BoardFacts = ORIN_NX_16,
    ) -> None:
        self.world, self.name = World(clock), MODULE
        self.world.add(MODULE, load=load)
        self.world.plug(MODULE)
        self.hardware = sim_hardware(LocalPort(self.world, MODULE), machine)

    def fail(self, fault: str) -> None:
        self.world.fail(fault, self.name)

    def mend(self, fault: str) -> None:
        self.world.mend(fault, self.name)
