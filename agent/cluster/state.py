"""Who is in the stack: values only. What decides over them is pure and stands in placement and power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["leader", "follower"]


@dataclass(frozen=True, slots=True)
class Node:
    """One device, as the others need to know it."""

    id: str
    address: str
    ram_bytes: int
    tops: float
    external_power: bool
    battery_percent: float | None
    version: str


@dataclass(frozen=True, slots=True)
class Link:
    """Two nodes that touch: the upper face of ``lower`` and the lower face of ``upper``."""

    lower: str
    upper: str
    round_trip_ms: float | None
    gigabits: float | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is true of the stack at one moment. ``epoch`` grows with every change of membership."""

    id: str
    epoch: int
    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()

    @property
    def leader(self) -> Node:
        """By rule, the same on every node that sees the same members: external power, highest battery, lowest id."""
        return min(self.nodes, key=lambda n: (not n.external_power, -(n.battery_percent or 0.0), n.id))

    def role(self, node_id: str) -> Role:
        return "leader" if node_id == self.leader.id else "follower"
