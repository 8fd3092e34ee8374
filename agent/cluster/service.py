"""What this node can say of itself and its stack.

Every number of the hardware comes from hal with its quality; a sensor that fails is a check that fails, never a number.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.cluster.contracts import PowerContracts, available
from agent.cluster.parts import stack_parts
from agent.cluster.stack import StackService
from agent.cluster.state import MOST_NODES, Cluster, Node, node_id
from agent.models.host import ModelHost
from agent.models.lease import HostedModel
from agent.models.memory import available_bytes
from agent.models.store import ModelStore
from hal.base import BoardFacts, Face, Hardware, HardwareError, Reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PowerState:
    """Watts, as far as the parts answer."""

    total: Reading | None
    rails: Mapping[str, Reading]
    cap_w: float | None
    floor_w: float
    peak_w: float
    external: bool | None
    supply: Reading | None
    battery: Reading | None


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Everything about one node at one moment."""

    node: Node
    board: str
    cores: int
    simulated: bool
    uptime_s: float
    zones: Mapping[str, Reading]
    power: PowerState
    faces: Mapping[Face, bool]
    machine: BoardFacts  # what this really runs on: another than the board where that is simulated
    memory_available: int  # bytes, of the machine
    models: tuple[HostedModel, ...]
    versions: Mapping[str, str]
    checks: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        return all(result == "ok" for result in self.checks.values())

    @property
    def temperature_c(self) -> float | None:
        """The hottest zone; None when no thermometer answers."""
        return max((zone.value for zone in self.zones.values() if zone.value is not None), default=None)


class ClusterService:
    """Answers for port 5381. ``device_id`` is the device's UUID, ``address`` where its cluster port listens."""

    def __init__(
        self,
        state_dir: Path,
        device_id: str,
        address: str,
        link_port: int,
        version: str,
        hardware: Hardware,
        host: ModelHost,
        store: ModelStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node_id = node_id(device_id)
        self._address, self._version, self._hardware = address, version, hardware
        self._host, self._store, self._clock = host, store, clock
        self._began = clock()
        self.contracts = PowerContracts(self.node_id, hardware, clock)
        self.stack = StackService(state_dir, device_id, self._facts, hardware, version, link_port)

    def start(self) -> None:
        self.contracts.start()
        self.stack.start()

    def close(self) -> None:
        self.stack.close()
        self.contracts.close()

    def cluster(self) -> Cluster:
        """The stack as this node knows it."""
        return self.stack.cluster()

    def report(self) -> NodeReport:
        """This node in detail."""
        power, zones, board = self._power(), self._zones(), self._hardware.board
        return NodeReport(
            node=self._facts(),
            board=board.name,
            cores=board.cores,
            simulated=self._hardware.simulated,
            uptime_s=self._clock() - self._began,
            zones=zones,
            power=power,
            faces=self._faces(),
            machine=self._hardware.machine,
            memory_available=available_bytes(),
            models=tuple(self._host.states()),
            versions={"agent": self._version, "python": platform.python_version(), "kernel": platform.release()},
            checks=self._checks(power, zones),
        )

    def active_model(self) -> str | None:
        """The text model that was used last."""
        return self._host.active

    def capabilities(self) -> dict[str, object]:
        """What this cluster can do now, in this version and with these models."""
        models = [model for model in self._store.models() if not model.broken]
        return {
            "text_generation": any(model.kind == "text" for model in models),
            "embeddings": any(model.kind == "embedding" for model in models),
            "model_management": True,
            "power_contracts": True,
            "data_parallel": False,
            "task_parallel": False,
            "pipeline_parallel": False,
            "max_nodes": MOST_NODES,
        }

    def _facts(self) -> Node:
        """What the others hear of this node five times a second."""
        board, battery = self._hardware.board, _answer(self._hardware.supply.battery)
        return Node(
            id=self.node_id,
            address=self._address,
            ram_bytes=board.memory_bytes,
            tops=board.tops,
            external_power=bool(_answer(self._hardware.supply.external)),
            battery_percent=None if battery is None else battery.value,
            version=self._version,
        )

    def _power(self) -> PowerState:
        hardware = self._hardware
        return PowerState(
            total=_answer(hardware.power.total),
            rails=_answer(hardware.power.rails) or {},
            cap_w=_answer(hardware.cap.applied),
            floor_w=hardware.cap.floor_w,
            peak_w=hardware.cap.peak_w,
            external=_answer(hardware.supply.external),
            supply=available(hardware),
            battery=_answer(hardware.supply.battery),
        )

    def _zones(self) -> Mapping[str, Reading]:
        return _answer(self._hardware.thermal.zones) or {}

    def _faces(self) -> Mapping[Face, bool]:
        return _answer(self._hardware.lines.closed) or {}

    def _checks(self, power: PowerState, zones: Mapping[str, Reading]) -> dict[str, str]:
        """By part: ``ok``, or what is wrong."""
        failed = [name for name, zone in zones.items() if zone.quality != "ok"]
        broken = [model.name for model in self._host.states() if model.state == "failed"]
        return {
            "thermometers": f"no reading of {', '.join(failed)}" if failed else "ok" if zones else "no answer",
            "power_meter": _checked(power.total),
            "power_supply": "no answer" if power.external is None else _checked(power.supply),
            "power_cap": self.contracts.fault or ("no answer" if power.cap_w is None else "ok"),
            "power_alert": self.contracts.alert or "ok",
            **{each.part.replace("-", "_"): each.detail or each.state for each in stack_parts(self._hardware)},
            "membership": self.stack.fault or "ok",
            "models": f"{', '.join(broken)} could not be loaded" if broken else "ok",
        }


def _answer(ask: Callable[[], T]) -> T | None:
    """What a part of the hardware says; None when it does not answer."""
    try:
        return ask()
    except HardwareError:
        return None


def _checked(reading: Reading | None) -> str:
    return "no answer" if reading is None else "ok" if reading.quality == "ok" else reading.quality
