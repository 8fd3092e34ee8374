"""What happened to the stack between two moments, as its clients are told of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.cluster.report.changes import Change, changes
from agent.cluster.report.values import MemberReport, MemberStatus, StackReport, StackStatus


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Of the whole stack, as this node knows it."""

    status: StackStatus
    reasons: tuple[str, ...]
    settled: bool
    leader_reached: bool


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """Another status of a member, or another reason for it."""

    node_id: str
    status: MemberStatus
    reason: str


@dataclass(frozen=True, slots=True)
class AlertChanged:
    """What a power alert does to a member; ``reason`` is empty once it is over."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """A model of a member. ``state``: loading, loaded, failed; available: it was unloaded."""

    node_id: str
    model: str
    state: str


@dataclass(frozen=True, slots=True)
class ContractChanged:
    """A power contract was made, gives other watts than before, or ended (None)."""

    contract_id: str
    node_id: str
    granted_w: float | None


StackEvent = Change | StatusChanged | MemberChanged | AlertChanged | ModelChanged | ContractChanged

_NO_MODELS: Mapping[str, str] = {}


def happened(before: StackReport, after: StackReport) -> tuple[StackEvent, ...]:
    """In the order in which they are to be told. A member of which nothing is known yet is passed over."""
    events: list[StackEvent] = [*changes(before.cluster, after.cluster)]
    was = {one.node.id: one for one in before.members}
    for member in after.members:
        events += _of_member(was.get(member.node.id), member)
    events += _of_contracts(contracts_of(before), contracts_of(after))
    now = _status(after)
    if now != _status(before):
        events.append(now)
    return tuple(events)


def alert_of(member: MemberReport) -> str:
    """What its alert line does to it; empty when nothing."""
    said = "ok" if member.report is None else member.report.checks.get("power_alert", "ok")
    return "" if said == "ok" else said


def models_of(member: MemberReport) -> Mapping[str, str]:
    """The state of each model that is loaded, loading or failed."""
    return _NO_MODELS if member.report is None else {one.name: one.state for one in member.report.models}


def contracts_of(stack: StackReport) -> Mapping[str, tuple[str, float]]:
    """Node and watts of each contract in force, by its id."""
    return {
        grant.promise.id: (grant.promise.node_id, grant.granted_w)
        for member in stack.members
        if member.report is not None
        for grant in member.report.grants
    }


def _of_contracts(
    before: Mapping[str, tuple[str, float]], after: Mapping[str, tuple[str, float]]
) -> Iterator[ContractChanged]:
    for contract in sorted(before.keys() - after.keys()):
        yield ContractChanged(contract, before[contract][0], None)
    for contract, (node, watts) in after.items():
        if before.get(contract) != (node, watts):
            yield ContractChanged(contract, node, watts)


def _of_member(before: MemberReport | None, after: MemberReport) -> list[StackEvent]:
    """``before`` None: it was not looked at yet, and all is well unless told otherwise."""
    name = after.node.id
    events: list[StackEvent] = []
    if (after.status, after.reason) != (("healthy", "") if before is None else (before.status, before.reason)):
        events.append(MemberChanged(name, after.status, after.reason))
    if alert_of(after) != ("" if before is None else alert_of(before)):
        events.append(AlertChanged(name, alert_of(after)))
    was, now = _NO_MODELS if before is None else models_of(before), models_of(after)
    events += [ModelChanged(name, model, "available") for model in sorted(was.keys() - now.keys())]
    events += [ModelChanged(name, model, state) for model, state in now.items() if was.get(model) != state]
    return events


def _status(stack: StackReport) -> StatusChanged:
    return StatusChanged(stack.status, stack.reasons, stack.cluster.settled, stack.cluster.leader_reached)
