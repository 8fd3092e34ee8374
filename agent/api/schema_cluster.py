"""The bodies of the cluster's calls, and what they answer."""

from __future__ import annotations

from typing import cast

from agent.api import schema
from agent.api.render_events import NAMES as EVENT_NAMES
from agent.api.schema import Field, Json, optional
from agent.cluster.contracts import Ask
from agent.cluster.power import PRIORITIES, Priority
from agent.errors import RequestError

MOST_W = 1000.0  # beyond what any stack's supply gives
LONGEST_TTL_S = 86_400.0

NODE_ID = optional("node_id", schema.string(1, 100), "a node of GET /v1/topology; else this one")
REQUESTED_W = Field("requested_w", schema.number(0, MOST_W), about="watts that the node could use")
MIN_W = Field("min_w", schema.number(0, MOST_W), 0.0, "watts without which the contract is of no use")
# A scale of numbers is what other power protocols have (PoE, USB hubs); here it stands for the names, in even parts.
_RANKED = schema.mapped(schema.integer(0, 9), lambda rank, _path: PRIORITIES[rank * len(PRIORITIES) // 10])
_PRIORITY = schema.either(
    "one of " + ", ".join(PRIORITIES) + ", or a number from 0 to 9",
    (schema.is_string, schema.choice(*PRIORITIES)),
    (schema.is_number, _RANKED),
)
PRIORITY = Field("priority", _PRIORITY, "normal", "who is served first when the supply is short; 9 is critical")
TTL = Field("ttl", schema.number(1, LONGEST_TTL_S), 300.0, "seconds until it ends, unless it is asked for anew")
CONTRACT_FIELDS: tuple[Field[object], ...] = (NODE_ID, REQUESTED_W, MIN_W, PRIORITY, TTL)


def read_ask(body: Json, own_node: str) -> Ask:
    """Raises RequestError that names the field at fault."""
    requested, least = REQUESTED_W.of(body), MIN_W.of(body)
    if least > requested:
        raise RequestError(f"min_w {least:g} is more than requested_w {requested:g}", param="min_w")
    # The reader lets only these names pass.
    return Ask(NODE_ID.of(body) or own_node, requested, least, cast(Priority, PRIORITY.of(body)), TTL.of(body))


_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number"}
_MAYBE_NUMBER: Json = {"type": ["number", "null"]}
_MAP: Json = {"type": "object"}
_HARDWARE: Json = {"enum": ["simulated", "real"]}


def _answer(required: Json, further: Json | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(further or {})}}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_MAYBE_TEXT: Json = {"type": ["string", "null"]}
_MAYBE_MAP: Json = {"type": ["object", "null"]}
_FLAG: Json = {"type": "boolean"}
_ROLE: Json = {"enum": ["leader", "follower"]}
_FACE: Json = {"enum": ["top", "bottom"]}
_FACTS: Json = {
    "id": _TEXT,
    "role": _ROLE,
    "address": _TEXT,
    "ram_gb": _NUMBER,
    "tops": _NUMBER,
    "external_power": _FLAG,
    "battery_percent": _MAYBE_NUMBER,
    "version": _TEXT,
}
_CLUSTER: Json = {  # on every answer about the whole stack; ``node`` is the one that answers
    "node": _TEXT,
    "cluster_id": _TEXT,
    "node_count": _WHOLE,
    "leader": _TEXT,
    "leader_reached": _FLAG,
    "epoch": _WHOLE,
    "settled": _FLAG,
    "hardware": _HARDWARE,
}
_LINK: Json = {
    "lower": _TEXT,
    "lower_face": _FACE,
    "upper": _TEXT,
    "upper_face": _FACE,
    "round_trip_ms": _MAYBE_NUMBER,
    "gigabits": _MAYBE_NUMBER,
}

TOPOLOGY = _answer({**_CLUSTER, "nodes": _list(_answer(_FACTS)), "links": _list(_answer(_LINK))})
CLUSTER = _answer(
    {
        "status": {"enum": ["healthy", "degraded", "forming"]},
        "reasons": _list(_TEXT),
        "total_ram_gb": _NUMBER,
        "total_tops": _NUMBER,
        "active_model": _MAYBE_TEXT,
        "capabilities": _MAP,
        **_CLUSTER,
    }
)
NODE = _answer(
    {
        **_FACTS,
        "status": {"enum": ["healthy", "degraded", "silent"]},
        "reason": _TEXT,
        "age_s": _MAYBE_NUMBER,
        "report_age_s": _MAYBE_NUMBER,
        "checks": _MAYBE_MAP,
        "hardware": {"enum": ["simulated", "real", None]},
        "board": _MAYBE_TEXT,
        "cores": {"type": ["integer", "null"]},
        "uptime_seconds": {"type": ["integer", "null"]},
        "temperature_c": _MAYBE_NUMBER,
        "thermal_zones": _MAYBE_MAP,
        "power": _MAYBE_MAP,
        "neighbours": _MAYBE_MAP,
        "machine": _MAYBE_MAP,
        "memory": _MAYBE_MAP,
        "models": {"type": ["array", "null"], "items": _MAP},
        "active_model": _MAYBE_TEXT,
        "versions": _MAYBE_MAP,
    }
)
NODES = _answer({"node": _TEXT, "node_count": _WHOLE, "nodes": _list(NODE)})
# Each event; its data is JSON, and has the field ``node``: who tells it.
EVENTS = _answer(
    {
        "id": _WHOLE,
        "event": {"enum": list(EVENT_NAMES)},
        "data": {"type": "string", "contentMediaType": "application/json"},
    }
)
HEALTH = _answer(
    {
        "node": _TEXT,
        "status": {"enum": ["ok", "degraded"]},
        "uptime_seconds": _WHOLE,
        "temperature_c": _MAYBE_NUMBER,
        "hardware": _HARDWARE,
        "checks": _MAP,
    }
)
CONTRACT = _answer(
    {
        "id": _TEXT,
        "node_id": _TEXT,
        "requested_w": _NUMBER,
        "min_w": _NUMBER,
        "priority": {"enum": list(PRIORITIES)},
        "granted_w": _NUMBER,
        "floor_w": _NUMBER,
        "applied_w": _NUMBER,
        "expires_at": _NUMBER,
        "supply_w": _MAYBE_NUMBER,
        "reason": _TEXT,
    }
)
CONTRACTS = _answer(
    {
        "object": {"const": "list"},
        "data": _list(CONTRACT),
        "measured_w": _MAYBE_NUMBER,
        "supply_w": _MAYBE_NUMBER,
        "cap_w": _MAYBE_NUMBER,
        "hardware": _HARDWARE,
    }
)
CONTRACT_DELETED = _answer({"id": _TEXT, "deleted": {"const": True}})
