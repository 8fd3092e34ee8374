"""What this node can say of itself.

Every number of the hardware comes from hal with its quality; a sensor that fails is a check that fails, never a number.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping

from agent.cluster.client_address import ClientAddress
from agent.cluster.power.look import available
from agent.cluster.power.wire import Grant
from agent.cluster.report.parts import stack_parts
from agent.cluster.report.values import NodeReport, PowerState
from agent.cluster.state import Node
from agent.models.host import ModelHost
from agent.models.memory import available_bytes
from agent.models.store import ModelStore
from hal.base import Hardware, Reading, answer_of


class OwnReport:
    """This node in detail, and in short. Thread-safe."""

    def __init__(
        self,
        node_id: str,
        address: ClientAddress,
        version: str,
        hardware: Hardware,
        host: ModelHost,
        store: ModelStore,
        grants: Callable[[], tuple[Grant, ...]],
        faults: Callable[[], Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``grants``: the contracts on what is plugged into this node. ``faults``: of what else is to be checked, by
        its name what is wrong with it; empty where nothing is."""
        self._node_id, self._address, self._version = node_id, address, version
        self._hardware, self._host, self._store, self._clock = hardware, host, store, clock
        self._grants, self._faults = grants, faults
        self._began = clock()

    def facts(self) -> Node:
        """What the others hear of this node five times a second."""
        supply = self._hardware.supply
        return self._node(answer_of(supply.external), answer_of(supply.battery))

    def _node(self, external: bool | None, battery: Reading | None) -> Node:
        board = self._hardware.board
        return Node(
            id=self._node_id,
            address=self._address(),
            ram_bytes=board.memory_bytes,
            tops=board.tops,
            external_power=bool(external),
            battery_percent=None if battery is None or battery.value is None else round(battery.value, 1),
            version=self._version,
        )

    def report(self) -> NodeReport:
        power, zones, board = self._power(), answer_of(self._hardware.thermal.zones) or {}, self._hardware.board
        return NodeReport(
            node=self._node(power.external, power.battery),
            board=board.name,
            cores=board.cores,
            simulated=self._hardware.simulated,
            uptime_s=self._clock() - self._began,
            zones=zones,
            power=power,
            grants=self._grants(),
            faces=answer_of(self._hardware.lines.closed) or {},
            machine=self._hardware.machine,
            memory_available=available_bytes(),
            memory_free=self._memory_free(),
            models=tuple(self._host.states()),
            active_model=self._host.active,
            kinds=frozenset(model.kind for model in self._store.models() if not model.broken),
            versions={"agent": self._version, "python": platform.python_version(), "kernel": platform.release()},
            checks=self._checks(power, zones),
        )

    def _memory_free(self) -> int:
        """Within the board's memory, too: where that is simulated, the machine may have more."""
        taken = sum(model.memory.total for model in self._host.states() if model.memory is not None)
        return max(0, min(self._host.memory_free(), self._hardware.board.memory_bytes - taken))

    def _power(self) -> PowerState:
        hardware = self._hardware
        return PowerState(
            total=answer_of(hardware.power.total),
            rails=answer_of(hardware.power.rails) or {},
            cap_w=answer_of(hardware.cap.applied),
            floor_w=hardware.cap.floor_w,
            peak_w=hardware.cap.peak_w,
            external=answer_of(hardware.supply.external),
            supply=available(hardware),
            battery=answer_of(hardware.supply.battery),
        )

    def _checks(self, power: PowerState, zones: Mapping[str, Reading]) -> dict[str, str]:
        """By part: ``ok``, or what is wrong."""
        failed = [name for name, zone in zones.items() if zone.quality != "ok"]
        broken = [model.name for model in self._host.states() if model.state == "failed"]
        faults = dict(self._faults())
        return {
            "thermometers": f"no reading of {', '.join(failed)}" if failed else "ok" if zones else "no answer",
            "power_meter": _checked(power.total),
            "power_supply": "no answer" if power.external is None else _checked(power.supply),
            "power_cap": faults.pop("power_cap", "") or ("no answer" if power.cap_w is None else "ok"),
            **{each.part.replace("-", "_"): each.detail or each.state for each in stack_parts(self._hardware)},
            **{name: fault or "ok" for name, fault in faults.items()},
            "models": f"{', '.join(broken)} could not be loaded" if broken else "ok",
        }


def _checked(reading: Reading | None) -> str:
    return "no answer" if reading is None else "ok" if reading.quality == "ok" else reading.quality
