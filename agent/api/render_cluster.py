"""What the cluster says, as JSON. A number that is not known is null; what is wrong stands in words beside it."""

from __future__ import annotations

import time

from agent.cluster.contracts import Grant
from agent.cluster.service import NodeReport, PowerState
from agent.cluster.state import Cluster
from agent.models.lease import HostedModel
from hal.base import Reading

Object = dict[str, object]
_GIB = 1024**3


def topology_object(cluster: Cluster, report: NodeReport) -> Object:
    return {
        "cluster_id": cluster.id,
        "node_count": len(cluster.nodes),
        "leader": cluster.leader.id,
        "epoch": cluster.epoch,
        "hardware": _hardware(report),
        "nodes": [
            {
                "id": node.id,
                "role": cluster.role(node.id),
                "ram_gb": _gigabytes(node.ram_bytes),
                "tops": _plain(node.tops),
                "address": node.address,
                "external_power": node.external_power,
                "battery_percent": node.battery_percent,
                "version": node.version,
            }
            for node in cluster.nodes
        ],
        "links": [
            {"lower": link.lower, "upper": link.upper, "round_trip_ms": link.round_trip_ms, "gigabits": link.gigabits}
            for link in cluster.links
        ],
    }


def cluster_object(cluster: Cluster, report: NodeReport, active: str | None, capabilities: Object) -> Object:
    return {
        "status": "healthy" if report.healthy else "degraded",
        "cluster_id": cluster.id,
        "node_count": len(cluster.nodes),
        "leader": cluster.leader.id,
        "epoch": cluster.epoch,
        "total_ram_gb": _gigabytes(sum(node.ram_bytes for node in cluster.nodes)),
        "total_tops": _plain(sum(node.tops for node in cluster.nodes)),
        "active_model": active,
        "capabilities": capabilities,
        "hardware": _hardware(report),
    }


def health_object(report: NodeReport) -> Object:
    return {
        "status": "ok" if report.healthy else "degraded",
        "uptime_seconds": int(report.uptime_s),
        "temperature_c": _rounded(report.temperature_c),
        "hardware": _hardware(report),
        "checks": dict(report.checks),
    }


def node_object(cluster: Cluster, report: NodeReport) -> Object:
    node = report.node
    return {
        "id": node.id,
        "role": cluster.role(node.id),
        "address": node.address,
        "status": "healthy" if report.healthy else "degraded",
        "checks": dict(report.checks),
        "hardware": _hardware(report),
        "board": report.board,
        "ram_gb": _gigabytes(node.ram_bytes),
        "tops": _plain(node.tops),
        "cores": report.cores,
        "uptime_seconds": int(report.uptime_s),
        "temperature_c": _rounded(report.temperature_c),
        "thermal_zones": {name: _reading(zone) for name, zone in report.zones.items()},
        "power": _power(report.power),
        "neighbours": dict(report.faces),
        "machine": {"name": report.machine.name, "cores": report.machine.cores},
        "memory": {"total_bytes": report.machine.memory_bytes, "available_bytes": report.memory_available},
        "models": [_hosted(model) for model in report.models],
        "versions": dict(report.versions),
    }


def contract_object(grant: Grant) -> Object:
    contract = grant.contract
    return {
        "id": contract.id,
        "node_id": contract.node_id,
        "requested_w": contract.requested_w,
        "min_w": contract.min_w,
        "priority": contract.priority,
        "granted_w": grant.granted_w,
        "floor_w": grant.floor_w,
        "applied_w": grant.applied_w,
        "expires_at": round(time.time() + grant.left_s),
        "supply_w": grant.supply_w,
        "reason": grant.reason,
    }


def contracts_object(grants: list[Grant], report: NodeReport) -> Object:
    power = report.power
    return {
        "object": "list",
        "data": [contract_object(grant) for grant in grants],
        "measured_w": _value(power.total),
        "supply_w": _value(power.supply),
        "cap_w": power.cap_w,
        "floor_w": power.floor_w,
        "peak_w": power.peak_w,
        "hardware": _hardware(report),
    }


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


def _hardware(report: NodeReport) -> str:
    return "simulated" if report.simulated else "real"


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
