"""The power contract: who may draw how many watts. Pure: no clock, no hardware, no locks.

Rules, in their order:

1. A node may always draw its floor; nothing can be taken from it. All floors together must fit into the supply.
2. A contract promises its node at least ``min_w`` until it expires, and never more than ``requested_w`` or the node's
   peak. A new one is refused when the promises of those in force leave too little.
3. What is left is shared by priority; within one priority the watts rise evenly (water filling), so that no order of
   arrival and no node's name decides. Who cannot have all that it wants then stands on a step of its cap's ladder, for
   watts between two steps are drawn by nobody; what that leaves raises, by whole steps, who has least, of equals the
   one with the lowest id.
4. When a contract expires, its node falls back to its floor. When the supply shrinks, contracts end, the least
   important first, until what is promised fits again.
5. What flows through a magnetic contact feeds every node behind it: their watts together stay within its limit.

So the sum of what all nodes may draw never passes the supply nor a contact's limit, as long as these carry the floors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.cluster.power.steps import to_steps
from agent.errors import NotFoundError, RequestError, UnavailableError

Priority = Literal["low", "normal", "high", "critical"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "critical")
_DUST = 1e-9  # the part of a used-up limit that the rounding of sums may leave


@dataclass(frozen=True, slots=True)
class Member:
    """What a node's hardware can be told to keep to, in W. ``steps_w``: where its cap can stand, the lowest first;
    empty: anywhere."""

    node_id: str
    floor_w: float
    peak_w: float
    steps_w: tuple[float, ...] = ()


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
class Limit:
    """So many watts for these nodes together: a contact and all that stand behind it, seen from the supply."""

    watts: float
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Budget:
    """What is to be shared, between whom, and through which contacts."""

    supply_w: float
    members: tuple[Member, ...]
    contacts: tuple[Limit, ...] = ()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The supply, which limits all, and the contacts."""
        return (Limit(self.supply_w, frozenset(one.node_id for one in self.members)), *self.contacts)

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
    for contact in budget.contacts:
        if new.node_id in contact.nodes:
            _pass(budget, others, new, contact, now)
    return (*others, new)


def bearable(budget: Budget, contracts: Iterable[Contract]) -> tuple[Contract, ...]:
    """Those that the supply, perhaps weaker than when they were made, still carries; the lowest priority goes first."""
    held = sorted(contracts, key=lambda one: (-PRIORITIES.index(one.priority), -one.expires_at, one.node_id))
    for limit in budget.limits:
        while _promised(budget, held, limit) > limit.watts:
            behind = [one for one in held if one.node_id in limit.nodes]
            if not behind:
                break  # the floors alone are too much: no contract is to blame
            held.remove(behind[-1])
    return tuple(held)


def share(budget: Budget, contracts: Iterable[Contract]) -> Mapping[str, float]:
    """Watts that each node may draw. Every member is in it: one without a contract with its floor."""
    by_node = {contract.node_id: contract for contract in contracts}
    watts = {one.node_id: _promise(budget, tuple(by_node.values()), one) for one in budget.members}
    most = {one.node_id: one.floor_w for one in budget.members}
    for member in budget.members:
        if member.node_id in by_node:
            asked = min(by_node[member.node_id].requested_w, member.peak_w)
            most[member.node_id] = max(watts[member.node_id], asked)
    promised, limits = dict(watts), budget.limits
    steps = {one.node_id: one.steps_w for one in budget.members}

    def fits(node: str, more: float) -> bool:
        around = [limit for limit in limits if node in limit.nodes]
        return all(_left(watts, limit) >= more - _DUST * max(1.0, limit.watts) for limit in around)

    for priority in reversed(PRIORITIES):
        rising = [node for node in watts if node in by_node and by_node[node].priority == priority]
        _fill(watts, most, rising, limits)
        to_steps(watts, promised, most, steps, rising, fits)
        _fill(watts, most, [node for node in rising if not steps[node]], limits)
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
    narrow = min((one.watts for one in budget.contacts if contract.node_id in one.nodes), default=math.inf)
    what = f"the supply of {budget.supply_w:g} W" + (
        f", or a contact of {narrow:g} W," if math.isfinite(narrow) else ""
    )
    return f"{what} is shared with contracts of the same or higher priority, and floors"


def _pass(budget: Budget, others: tuple[Contract, ...], new: Contract, contact: Limit, now: float) -> None:
    """Whether the contact carries the new promise beside the others. Raises RequestError or UnavailableError."""
    floors = sum(one.floor_w for one in budget.members if one.node_id in contact.nodes and one.node_id != new.node_id)
    least = max(new.min_w, budget.member(new.node_id).floor_w)
    if least + floors > contact.watts:
        raise RequestError(
            f"a contact on the way to {new.node_id} carries {contact.watts:g} W, and floors take {floors:g} W of it",
            hint=f"ask for a min_w of at most {max(0.0, contact.watts - floors):g}",
            param="min_w",
        )
    promised = _promised(budget, others, Limit(contact.watts, contact.nodes - {new.node_id}))
    if least + promised > contact.watts:
        behind = [one.expires_at for one in others if one.node_id in contact.nodes]
        raise UnavailableError(
            f"{promised:g} W of the {contact.watts:g} W that reach {new.node_id} are promised to others",
            retry_after=max(1.0, min(behind, default=now) - now),
            hint=f"ask for a min_w of at most {contact.watts - promised:g}, or wait for a contract to end",
            param="min_w",
        )


def _promised(budget: Budget, contracts: Iterable[Contract], limit: Limit) -> float:
    held = tuple(contracts)
    return sum(_promise(budget, held, one) for one in budget.members if one.node_id in limit.nodes)


def _promise(budget: Budget, contracts: tuple[Contract, ...], member: Member) -> float:
    """What a node has for certain: its floor, or its contract's minimum where that is more."""
    least = [one.min_w for one in contracts if one.node_id == member.node_id]
    return min(max([member.floor_w, *least]), max(member.floor_w, member.peak_w))


def _fill(watts: dict[str, float], most: Mapping[str, float], rising: list[str], limits: tuple[Limit, ...]) -> None:
    """Raise these nodes' watts evenly, each up to its ``most``, until what limits them is used up.

    Max-min fair: no node gains but at the cost of one of its own rank that has no more than itself.
    """
    rising = [node for node in rising if watts[node] < most[node]]
    while rising:
        lowest = min(watts[node] for node in rising)
        level = [node for node in rising if watts[node] == lowest]
        # To the next event: a node has enough, the next higher one is level with these, or a limit is reached.
        to = min([most[node] for node in level] + [watts[node] for node in rising if watts[node] > lowest])
        for limit in limits:
            count = sum(node in limit.nodes for node in level)
            if count:
                to = min(to, lowest + _left(watts, limit) / count)
        for node in level:
            watts[node] = max(lowest, to)
        full = [limit.nodes for limit in limits if _left(watts, limit) <= _DUST * max(1.0, limit.watts)]
        rising = [node for node in rising if watts[node] < most[node] and not any(node in nodes for nodes in full)]


def _left(watts: Mapping[str, float], limit: Limit) -> float:
    return limit.watts - sum(watts[node] for node in limit.nodes if node in watts)
