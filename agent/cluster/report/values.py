"""What is told of nodes and of the whole stack: values, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.cluster.power.wire import Grant
from agent.cluster.state import MOST_NODES, Cluster, Node
from agent.models.lease import HostedModel
from hal.base import BoardFacts, Face, Reading

MemberStatus = Literal["healthy", "degraded", "silent"]
StackStatus = Literal["healthy", "degraded", "forming"]


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
    grants: tuple[Grant, ...]  # the contracts on what is plugged into it
    faces: Mapping[Face, bool]
    machine: BoardFacts  # what this really runs on: another than the board where that is simulated
    memory_available: int  # bytes, of the machine
    memory_free: int  # of that, what a further model may take
    models: tuple[HostedModel, ...]
    active_model: str | None  # the text model that was used last
    kinds: frozenset[str]  # of the models that it could load
    versions: Mapping[str, str]
    checks: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        return all(result == "ok" for result in self.checks.values())

    @property
    def wrong(self) -> str:
        """The checks that fail, for a person; empty when none does."""
        return "; ".join(f"{part}: {result}" for part, result in self.checks.items() if result != "ok")

    @property
    def temperature_c(self) -> float | None:
        """The hottest zone; None when no thermometer answers."""
        return max((zone.value for zone in self.zones.values() if zone.value is not None), default=None)


@dataclass(frozen=True, slots=True)
class MemberReport:
    """A member as another node knows it. What it last told stays, and its age says how much that is worth."""

    node: Node  # as it last spoke of itself
    report: NodeReport | None  # the last one that can be believed; None: there was none yet
    report_age_s: float | None  # seconds since that
    age_s: float | None  # seconds since its last word of any kind; None: it was not heard lately
    status: MemberStatus
    reason: str  # why the status is not healthy; empty when it is


@dataclass(frozen=True, slots=True)
class StackReport:
    """The whole stack, as one node knows it at one moment."""

    cluster: Cluster
    members: tuple[MemberReport, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that is wrong, for a person."""
        found = [f"{one.node.id}: {one.reason}" for one in self.members if one.status != "healthy"]
        if not self.cluster.leader_reached:
            found.insert(0, f"the leader {self.cluster.leader.id} is not reached from here")
        return tuple(found)

    @property
    def status(self) -> StackStatus:
        """``forming``: nothing is wrong, and nodes are coming or going."""
        return "degraded" if self.reasons else "healthy" if self.cluster.settled else "forming"

    @property
    def active_model(self) -> str | None:
        """The leader's; else that of the first node which has one."""
        leader = self.cluster.leader.id
        ordered = sorted(self.members, key=lambda one: one.node.id != leader)
        return next((one.report.active_model for one in ordered if one.report and one.report.active_model), None)

    @property
    def simulated(self) -> bool:
        """Whether any node of it is."""
        return any(one.report.simulated for one in self.members if one.report is not None)

    def capabilities(self) -> dict[str, object]:
        """What the stack can do, in this version and with the models that its nodes have."""
        kinds = frozenset[str]().union(*(one.report.kinds for one in self.members if one.report is not None))
        return {
            "text_generation": "text" in kinds,
            "embeddings": "embedding" in kinds,
            "model_management": True,
            "power_contracts": True,
            "data_parallel": False,
            "task_parallel": False,
            "pipeline_parallel": False,
            "max_nodes": MOST_NODES,
        }
