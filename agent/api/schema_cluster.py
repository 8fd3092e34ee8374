"""What the cluster's calls answer."""

from __future__ import annotations

from agent.api.render_events import NAMES as EVENT_NAMES
from agent.api.render_plan import NOTES as PLAN_NOTES
from agent.api.schema import Field, Json, string

PLANNED_MODEL = Field("model", string(1, 200), about="a model that a node of the stack has, or another name of one")
PLAN_QUERY: Json = {PLANNED_MODEL.name: {**PLANNED_MODEL.reader.schema, "description": PLANNED_MODEL.about}}

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
_STAGE: Json = {
    "node": _TEXT,
    "first_layer": _WHOLE,
    "last_layer": _WHOLE,
    "needed_bytes": _WHOLE,
    "free_bytes": _WHOLE,
}
_ROOM: Json = {"id": _TEXT, "free_bytes": _WHOLE, "speed": _NUMBER, "reachable": _FLAG, "has_files": _FLAG}
PLAN = _answer(
    {
        "node": _TEXT,
        "cluster_id": _TEXT,
        "leader": _TEXT,
        "epoch": _WHOLE,
        "hardware": _HARDWARE,
        "model": _TEXT,
        "state": {"enum": list(PLAN_NOTES)},
        "note": _TEXT,
        "layers": _WHOLE,
        "cache_tokens": _WHOLE,
        "needed_bytes": _WHOLE,
        "stages": _list(_answer(_STAGE)),
        "nodes": _list(_answer(_ROOM)),
    }
)
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
