"""Who is in the stack: values only. What decides over them is pure and stands in membership, placement and power."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal

Role = Literal["leader", "follower"]
Side = Literal["top", "bottom"]

MOST_NODES = 8  # that a stack can have


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
    """Two nodes that touch: ``lower_face`` of ``lower`` and ``upper_face`` of ``upper``."""

    lower: str
    upper: str
    round_trip_ms: float | None  # of a datagram and its answer, without the time that the other side held it
    gigabits: float | None
    lower_face: Side = "top"
    upper_face: Side = "bottom"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is true of the stack at one moment. ``epoch`` grows with every change of membership."""

    id: str
    epoch: int
    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()
    leader_id: str = ""  # who leads by the epoch; empty: by rule, as in a stack of one
    settled: bool = True  # nobody is coming or going: the view is the epoch's
    leader_reached: bool = True  # this node and its leader hear one another
    token: str = ""  # of the epoch: what an order from node to node carries; empty: no epoch is agreed on yet

    @property
    def leader(self) -> Node:
        """Who leads by the epoch; else by rule: external power, highest battery, lowest id."""
        for node in self.nodes:
            if node.id == self.leader_id:
                return node
        return min(self.nodes, key=lambda n: (not n.external_power, -(n.battery_percent or 0.0), n.id))

    def role(self, node_id: str) -> Role:
        return "leader" if node_id == self.leader.id else "follower"


def node_id(device_id: str) -> str:
    """What a device is called as a node. Ids sort as the UUIDs do. Raises ValueError where it is no UUID."""
    return f"node-{uuid.UUID(device_id).hex[:12]}"


def cluster_id(leader: str) -> str:
    """A cluster has its leader's name: the halves of a divided stack have two, and after a merge one of them stays."""
    return f"ms-cluster-{hashlib.sha256(leader.encode()).hexdigest()[:12]}"
