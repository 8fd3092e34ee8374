"""What the cluster says, as JSON. A number that is not known is null; what is wrong stands in words beside it."""

from __future__ import annotations

import time

from agent.cluster.report.values import MemberReport, NodeReport, PowerState, StackReport
from agent.cluster.state import Cluster, Link, Node
from agent.models.lease import HostedModel
from hal.base import Reading

Object = dict[str, object]
_GIB = 1024**3


def topology_object(cluster: Cluster, own_id: str, hardware: str) -> Object:
    """Who is there and who touches whom, as membership knows it: nobody is asked."""
    return {
        "node": own_id,
        "cluster_id": cluster.id,
        "node_count": len(cluster.nodes),
        "leader": cluster.leader.id,
        "leader_reached": cluster.leader_reached,
        "epoch": cluster.epoch,
        "settled": cluster.settled,
        "hardware": hardware,
        "nodes": [
            {
                "id": node.id,
                "role": cluster.role(node.id),
                **node_facts(node),
            }
            for node in cluster.nodes
        ],
        "links": [_link(link) for link in cluster.links],
    }


def cluster_object(stack: StackReport, own_id: str) -> Object:
    cluster = stack.cluster
    return {
        "node": own_id,
        "status": stack.status,
        "reasons": list(stack.reasons),
        "cluster_id": cluster.id,
        "node_count": len(cluster.nodes),
        "leader": cluster.leader.id,
        "leader_reached": cluster.leader_reached,
        "epoch": cluster.epoch,
        "settled": cluster.settled,
        "total_ram_gb": _gigabytes(sum(node.ram_bytes for node in cluster.nodes)),
        "total_tops": _plain(sum(node.tops for node in cluster.nodes)),
        "active_model": stack.active_model,
        "capabilities": stack.capabilities(),
        "hardware": hardware(simulated=stack.simulated),
    }


def nodes_object(stack: StackReport, own_id: str) -> Object:
    nodes = [node_object(one, stack.cluster.role(one.node.id)) for one in stack.members]
    return {"node": own_id, "node_count": len(nodes), "nodes": nodes}


def node_object(member: MemberReport, role: str) -> Object:
    """Every field is there; what was never told is null."""
    node, report = member.node, member.report
    told = _NOTHING_TOLD if report is None else _told(report)
    return {
        "id": node.id,
        "role": role,
        "status": member.status,
        "reason": member.reason,
        "age_s": _rounded(member.age_s),
        "report_age_s": _rounded(member.report_age_s),
        **node_facts(node),
        **told,
    }


def health_object(report: NodeReport) -> Object:
    return {
        "node": report.node.id,
        "status": "ok" if report.healthy else "degraded",
        "uptime_seconds": int(report.uptime_s),
        "temperature_c": _rounded(report.temperature_c),
        "hardware": hardware(simulated=report.simulated),
        "checks": dict(report.checks),
    }


def node_facts(node: Node) -> Object:
    """What a node says of itself in every beacon."""
    return {
        "address": node.address,
        "ram_gb": _gigabytes(node.ram_bytes),
        "tops": _plain(node.tops),
        "external_power": node.external_power,
        "battery_percent": _rounded(node.battery_percent),
        "version": node.version,
    }


def _link(link: Link) -> Object:
    return {
        "lower": link.lower,
        "lower_face": link.lower_face,
        "upper": link.upper,
        "upper_face": link.upper_face,
        "round_trip_ms": None if link.round_trip_ms is None else round(link.round_trip_ms, 3),
        "gigabits": link.gigabits,
    }


def _told(report: NodeReport) -> Object:
    """What a node says of itself alone."""
    return {
        "checks": dict(report.checks),
        "hardware": hardware(simulated=report.simulated),
        "board": report.board,
        "cores": report.cores,
        "uptime_seconds": int(report.uptime_s),
        "temperature_c": _rounded(report.temperature_c),
        "thermal_zones": {name: _reading(zone) for name, zone in report.zones.items()},
        "power": _power(report.power),
        "neighbours": dict(report.faces),
        "machine": {"name": report.machine.name, "cores": report.machine.cores},
        "memory": {
            "total_bytes": report.machine.memory_bytes,
            "available_bytes": report.memory_available,
            "free_for_models_bytes": report.memory_free,
        },
        "models": [_hosted(model) for model in report.models],
        "active_model": report.active_model,
        "versions": dict(report.versions),
    }


_NOTHING_TOLD: Object = dict.fromkeys([
    "checks", "hardware", "board", "cores", "uptime_seconds", "temperature_c", "thermal_zones", "power", "neighbours",
    "machine", "memory", "models", "active_model", "versions",
])  # fmt: skip


def _power(power: PowerState) -> Object:
    return {
        "measured": _reading(power.total),
        "rails": {name: _reading(rail) for name, rail in power.rails.items()},
        "cap_w": power.cap_w,
        "floor_w": power.floor_w,
        "peak_w": power.peak_w,
        "external": power.external,
        "supply": _reading(power.supply),
        "battery": _reading(power.battery),
    }


def _hosted(model: HostedModel) -> Object:
    shown: Object = {"model": model.name, "state": model.state, "seconds": round(model.seconds, 3)}
    if model.error:
        shown["error"] = model.error
    if model.status is not None:
        status = model.status
        newest = status.last_token_at
        shown |= {
            "kind": status.kind,
            "context_length": status.context_length,
            "slots": status.slots,
            "running": status.running,
            "waiting": status.waiting,
            "cache_pages": status.pages,
            "cache_pages_used": status.pages_used,
            "fingerprint": status.fingerprint,
            "last_token_seconds_ago": None if newest is None else _rounded(time.monotonic() - newest),
        }
    return shown


def hardware(*, simulated: bool) -> str:
    return "simulated" if simulated else "real"


def _reading(reading: Reading | None) -> Object | None:
    if reading is None:
        return None
    return {
        "value": _rounded(reading.value),
        "unit": reading.unit,
        "quality": reading.quality,
        "source": reading.source,
    }


def _value(reading: Reading | None) -> float | None:
    return None if reading is None else _rounded(reading.value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _gigabytes(size: int) -> float:
    """GiB, as the makers of memory say GB: 16, not 16.0."""
    return _plain(round(size / _GIB, 1))


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
