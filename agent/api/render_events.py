"""The events of the stack as server-sent events: an id that counts, a name, and one line of JSON."""

from __future__ import annotations

from agent.api.render import Object, dumps
from agent.api.render_cluster import cluster_object, hardware, node_facts, topology_object
from agent.cluster.report.changes import EpochChanged, Joined, LeaderChanged, Left
from agent.cluster.report.event_hub import Lost, Numbered, Snapshot, Told
from agent.cluster.report.events import (
    AlertChanged,
    ContractChanged,
    MemberChanged,
    ModelChanged,
    StackEvent,
    StatusChanged,
    alert_of,
    contracts_of,
    models_of,
)
from agent.cluster.report.values import MemberReport, StackReport

NAMES = ("snapshot", "joined", "left", "leader", "epoch", "status", "member", "alert", "model", "contract", "lost")


def event_bytes(told: Told, own_id: str) -> bytes:
    """``own_id``: of the node that tells it."""
    name, body = _told(told, own_id)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (told.number, name.encode(), dumps({"node": own_id, **body}))


def _told(told: Told, own_id: str) -> tuple[str, Object]:
    match told:
        case Snapshot(stack=stack):
            return "snapshot", snapshot_object(stack, own_id)
        case Lost(count=count):
            return "lost", {"count": count}
        case Numbered(event=event):
            return _event(event)


def snapshot_object(stack: StackReport, own_id: str) -> Object:
    return {
        "cluster": cluster_object(stack, own_id),
        "topology": topology_object(stack.cluster, own_id, hardware(simulated=stack.simulated)),
        "members": [_member(one) for one in stack.members],
        "contracts": [
            {"id": contract, "node_id": node, "granted_w": watts}
            for contract, (node, watts) in contracts_of(stack).items()
        ],
    }


def _member(member: MemberReport) -> Object:
    return {
        "id": member.node.id,
        "status": member.status,
        "reason": member.reason,
        "alert": alert_of(member),
        "models": dict(models_of(member)),
    }


def _event(event: StackEvent) -> tuple[str, Object]:
    match event:
        case Joined(node=node, epoch=epoch):
            return "joined", {"id": node.id, **node_facts(node), "epoch": epoch}
        case Left(node_id=node_id, epoch=epoch):
            return "left", {"id": node_id, "epoch": epoch}
        case LeaderChanged(leader=leader, epoch=epoch):
            return "leader", {"leader": leader, "epoch": epoch}
        case EpochChanged(epoch=epoch, members=members):
            return "epoch", {"epoch": epoch, "members": list(members)}
        case StatusChanged(status=status, reasons=reasons, settled=settled, leader_reached=reached):
            return "status", {
                "status": status,
                "reasons": list(reasons),
                "settled": settled,
                "leader_reached": reached,
            }
        case MemberChanged(node_id=node_id, status=member_status, reason=reason):
            return "member", {"id": node_id, "status": member_status, "reason": reason}
        case AlertChanged(node_id=node_id, reason=reason):
            return "alert", {"id": node_id, "reason": reason}
        case ContractChanged(contract_id=contract, node_id=node_id, granted_w=watts):
            return "contract", {"id": contract, "node_id": node_id, "granted_w": watts}
        case ModelChanged(node_id=node_id, model=model, state=state):
            return "model", {"id": node_id, "model": model, "state": state}
