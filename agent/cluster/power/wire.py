"""What nodes tell one another about power beside the protocol's own messages: values, and their strict JSON.

"power"            {"message": a power message, "module": Module?}  ->  {"message"?: ..., "contracts": [Promise]}
"power-contract"   {"ask": Ask} -> Grant | {"list": {}} -> Book | {"cancel": id} -> {"cancelled": id}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

from agent.cluster.fields import each, flag, matching, number, or_none, read, record, text
from agent.cluster.power.messages import MAX_BYTES, PRIORITY, STEPS, WATTS, Message, decode, encode
from agent.cluster.power.rules import Contract, Priority
from agent.cluster.state import MOST_NODES

MAX_S = 10 * 86_400.0


@dataclass(frozen=True, slots=True)
class Module:
    """What a request does not say of the module that sends it. ``top``, ``bottom``: something lies on that face."""

    floor_w: float
    peak_w: float
    steps_w: tuple[float, ...]  # where its cap can stand
    applied_w: float | None  # worst W of the step that its cap stands at
    top: bool | None  # None: the line cannot be read
    bottom: bool | None


@dataclass(frozen=True, slots=True)
class Promise:
    """A contract, with what is left of its time: clocks of nodes have nothing to do with one another."""

    id: str
    node_id: str
    requested_w: float
    min_w: float
    priority: Priority
    left_s: float

    def contract(self, now: float) -> Contract:
        return Contract(self.id, self.node_id, self.requested_w, self.min_w, self.priority, now + self.left_s)


def promise(contract: Contract, now: float) -> Promise:
    left = max(0.0, contract.expires_at - now)
    return Promise(
        contract.id, contract.node_id, contract.requested_w, contract.min_w, contract.priority, min(left, MAX_S)
    )


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants for a node. ``ttl_s``: for how long, from now."""

    node_id: str
    requested_w: float
    min_w: float
    priority: Priority
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A contract as it stands now."""

    promise: Promise
    granted_w: float  # what the plan gives; the node has it as soon as others have come down
    floor_w: float
    applied_w: float | None  # the worst watts of the step that the cap took; None: the node has not said so yet
    supply_w: float | None  # None: the supply does not say
    reason: str


@dataclass(frozen=True, slots=True)
class Share:
    """How one node stands in the book of the module at the supply."""

    node_id: str
    planned_w: float
    counted_w: float  # the most that it may be drawing
    measured_w: float | None
    applied_w: float | None
    floor_w: float
    peak_w: float
    admitted: bool  # its load may be on
    silent: bool


@dataclass(frozen=True, slots=True)
class Book:
    """All that one module shares out."""

    node_id: str
    supply_w: float | None
    usable_w: float | None  # less the margin, and what alerts took off it
    grants: tuple[Grant, ...]
    shares: tuple[Share, ...]


def to_json(value: object) -> dict[str, Any]:
    """Of one of the values above."""
    return asdict(cast("Any", value))


def message_to_json(message: Message) -> str:
    return encode(message).decode()


def message_from_json(body: object) -> Message:
    """Raises RequestError."""
    return decode(read(text(MAX_BYTES), body).encode())


_MOST = 2 * MOST_NODES  # those that have just left are among them
_ID = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "an id is needed")
_SECONDS = number(MAX_S)
_ASKED = {"node_id": _ID, "requested_w": WATTS, "min_w": WATTS, "priority": PRIORITY}
MODULE = record(
    Module,
    {
        "floor_w": WATTS,
        "peak_w": WATTS,
        "steps_w": STEPS,
        "applied_w": or_none(WATTS),
        "top": or_none(flag),
        "bottom": or_none(flag),
    },
)
PROMISE = record(Promise, {"id": _ID, **_ASKED, "left_s": _SECONDS})
PROMISES = each(PROMISE, _MOST)
ASK = record(Ask, {**_ASKED, "ttl_s": _SECONDS})
GRANT = record(
    Grant,
    {
        "promise": PROMISE,
        "granted_w": WATTS,
        "floor_w": WATTS,
        "applied_w": or_none(WATTS),
        "supply_w": or_none(WATTS),
        "reason": text(500),
    },
)
GRANTS = each(GRANT, _MOST)
_SHARE = record(
    Share,
    {
        "node_id": _ID,
        "planned_w": WATTS,
        "counted_w": WATTS,
        "measured_w": or_none(WATTS),
        "applied_w": or_none(WATTS),
        "floor_w": WATTS,
        "peak_w": WATTS,
        "admitted": flag,
        "silent": flag,
    },
)
BOOK = record(
    Book,
    {
        "node_id": _ID,
        "supply_w": or_none(WATTS),
        "usable_w": or_none(WATTS),
        "grants": GRANTS,
        "shares": each(_SHARE, _MOST),
    },
)
