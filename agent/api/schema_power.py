"""The bodies of the power contract's calls, and what they answer."""

from __future__ import annotations

from typing import cast

from agent.api import schema
from agent.api.schema import Field, Json, optional
from agent.cluster.power.rules import PRIORITIES, Priority
from agent.cluster.power.wire import Ask
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
_NUMBER: Json = {"type": "number"}
_MAYBE_NUMBER: Json = {"type": ["number", "null"]}
_FLAG: Json = {"type": "boolean"}
_CONTRACT: Json = {
    "id": _TEXT,
    "node_id": _TEXT,
    "requested_w": _NUMBER,
    "min_w": _NUMBER,
    "priority": {"enum": list(PRIORITIES)},
    "granted_w": _NUMBER,
    "floor_w": _NUMBER,
    "applied_w": _MAYBE_NUMBER,
    "expires_at": _NUMBER,
    "supply_w": _MAYBE_NUMBER,
    "reason": _TEXT,
}
_SHARE: Json = {
    "node_id": _TEXT,
    "shared_by": _TEXT,
    "planned_w": _NUMBER,
    "counted_w": _NUMBER,
    "measured_w": _MAYBE_NUMBER,
    "applied_w": _MAYBE_NUMBER,
    "floor_w": _NUMBER,
    "peak_w": _NUMBER,
    "admitted": _FLAG,
    "silent": _FLAG,
}


def _answer(fields: Json) -> Json:
    return {"type": "object", "required": list(fields), "properties": fields}


CONTRACT = _answer(_CONTRACT)
CONTRACTS = _answer(
    {
        "object": {"const": "list"},
        "node": _TEXT,
        "data": {"type": "array", "items": CONTRACT},
        "nodes": {"type": "array", "items": _answer(_SHARE)},
        "measured_w": _MAYBE_NUMBER,
        "supply_w": _MAYBE_NUMBER,
        "usable_w": _MAYBE_NUMBER,
        "cap_w": _MAYBE_NUMBER,
        "floor_w": _NUMBER,
        "peak_w": _NUMBER,
        "hardware": {"enum": ["simulated", "real"]},
    }
)
CONTRACT_DELETED = _answer({"id": _TEXT, "deleted": {"const": True}})
