"""The power contract: who may draw how many watts. Pure: no clock, no hardware, no locks.

Rules, in their order:

1. A node may always draw its floor; nothing can be taken from it. All floors together must fit into the supply.
2. A contract promises its node at least ``min_w`` until it expires, and never more than ``requested_w`` or the node's
   peak. A new one is refused when the promises of those in force leave too little.
3. What is left is shared by priority; within one priority the watts rise evenly (water filling), so that no order of
   arrival and no node's name decides.
4. When a contract expires, its node falls back to its floor. When the supply shrinks, contracts end, the least
   important first, until what is promised fits again.

So the sum of what all nodes may draw never passes the supply, as long as the supply carries the floors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.errors import NotFoundError, RequestError, UnavailableError

Priority = Literal["low", "normal", "high", "critical"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "critical")


@dataclass(frozen=True, slots=True)
class Member:
    """What a node's hardware can be told to keep to, in W."""

    node_id: str
    floor_w: float
    peak_w: float


@dataclass(frozen=True, slots=True)
class Contract:
    """A promise of watts to one node. A node has one at most; a new one takes the old one's place."""

    id: str
    node_id: str
    requested_w: float
    min_w: float
    priority: Priority
    expires_at: float  # of the same clock as ``now``


@dataclass(frozen=True, slots=True)
class Budget:
    """What is to be shared, and between whom."""

    supply_w: float
    members: tuple[Member, ...]

    def member(self, node_id: str) -> Member:
        for member in self.members:
            if member.node_id == node_id:
                return member
        raise NotFoundError(
            f"the stack has no node {node_id[:80]!r}", hint="GET /v1/topology lists the nodes", param="node_id"
        )


def in_force(contracts: Iterable[Contract], now: float) -> tuple[Contract, ...]:
    """Those that have not expired."""
    return tuple(contract for contract in contracts if contract.expires_at > now)


def admit(budget: Budget, contracts: Iterable[Contract], new: Contract, now: float) -> tuple[Contract, ...]:
    """The contracts in force once ``new`` has joined them, in the place of its node's earlier one.

    Raises NotFoundError for a node that is not there, RequestError for what can never be granted, UnavailableError for
    what cannot be granted now.
    """
    member = budget.member(new.node_id)
    others = tuple(one for one in in_force(contracts, now) if one.node_id != new.node_id)
    floors = sum(one.floor_w for one in budget.members if one.node_id != new.node_id)
    if new.min_w > member.peak_w:
        raise RequestError(
            f"{new.node_id} never draws more than {member.peak_w:g} W, so min_w {new.min_w:g} cannot be met",
            hint=f"ask for a min_w of at most {member.peak_w:g}",
            param="min_w",
        )
    if max(new.min_w, member.floor_w) + floors > budget.supply_w:
        most = budget.supply_w - floors
        raise RequestError(
            f"the supply gives {budget.supply_w:g} W and the other nodes' floors take {floors:g} W of it",
            hint=f"ask for a min_w of at most {most:g}" if most > member.floor_w else "plug in a stronger supply",
            param="min_w",
        )
    promised = sum(_promise(budget, others, one) for one in budget.members if one.node_id != new.node_id)
    if max(new.min_w, member.floor_w) + promised > budget.supply_w:
        ends = min((one.expires_at for one in others), default=now)
        raise UnavailableError(
            f"{promised:g} W of the supply's {budget.supply_w:g} W are promised to other nodes",
            retry_after=max(1.0, ends - now),
            hint=f"ask for a min_w of at most {budget.supply_w - promised:g}, or wait for a contract to end",
            param="min_w",
        )
    return (*others, new)


def bearable(budget: Budget, contracts: Iterable[Contract]) -> tuple[Contract, ...]:
    """Those that the supply, perhaps weaker than when they were made, still carries; the lowest priority goes first."""
    held = sorted(contracts, key=lambda one: (-PRIORITIES.index(one.priority), -one.expires_at, one.node_id))
    while held and sum(_promise(budget, tuple(held), one) for one in budget.members) > budget.supply_w:
        held.pop()
    return tuple(held)


def share(budget: Budget, contracts: Iterable[Contract]) -> Mapping[str, float]:
    """Watts that each node may draw. Every member is in it: one without a contract with its floor."""
    by_node = {contract.node_id: contract for contract in contracts}
    watts = {one.node_id: _promise(budget, tuple(by_node.values()), one) for one in budget.members}
    limit = {one.node_id: one.floor_w for one in budget.members}
    for member in budget.members:
        if member.node_id in by_node:
            asked = min(by_node[member.node_id].requested_w, member.peak_w)
            limit[member.node_id] = max(watts[member.node_id], asked)
    left = budget.supply_w - sum(watts.values())
    for priority in reversed(PRIORITIES):
        rising = [node for node, contract in by_node.items() if contract.priority == priority and node in watts]
        left = _fill(watts, limit, rising, left)
    return watts


def explain(budget: Budget, contract: Contract, granted_w: float) -> str:
    """Why a contract has the watts it has, for a person."""
    member = budget.member(contract.node_id)
    if math.isclose(granted_w, contract.requested_w):
        return "granted as requested"
    if granted_w > contract.requested_w:
        return f"less than the floor of {member.floor_w:g} W cannot be promised to be enough"
    if math.isclose(granted_w, member.peak_w):
        return f"this node never draws more than {member.peak_w:g} W"
    return f"the supply of {budget.supply_w:g} W is shared with contracts of the same or higher priority, and floors"


def _promise(budget: Budget, contracts: tuple[Contract, ...], member: Member) -> float:
    """What a node has for certain: its floor, or its contract's minimum where that is more."""
    least = [one.min_w for one in contracts if one.node_id == member.node_id]
    return min(max([member.floor_w, *least]), max(member.floor_w, member.peak_w))


def _fill(watts: dict[str, float], limit: Mapping[str, float], rising: list[str], left: float) -> float:
    """Raise these nodes' watts evenly, each up to its limit, by at most ``left``. Returns what remains of it."""
    rising = [node for node in rising if watts[node] < limit[node]]
    while rising and left > 0:
        lowest = min(watts[node] for node in rising)
        level = [node for node in rising if watts[node] == lowest]
        # To the next event: a limit is reached, the next higher node is level with these, or nothing is left.
        above = [watts[node] for node in rising if watts[node] > lowest]
        rise = min([limit[node] - lowest for node in level] + [node - lowest for node in above] + [left / len(level)])
        if rise <= 0 or lowest + rise == lowest:
            break
        for node in level:
            watts[node] = lowest + rise
        left -= rise * len(level)
        rising = [node for node in rising if watts[node] < limit[node]]
    return left
