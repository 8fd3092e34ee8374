"""What nodes tell one another about power beside the protocol's own messages: values, and their strict JSON.

"power"            {"message": a power message, "module": Module?}  ->  {"message"?: ..., "contracts": [Promise]}
"power-contract"   {"ask": Ask} -> Grant | {"list": {}} -> Book | {"cancel": id} -> {"cancelled": id}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

from agent.cluster.power.fields import MAX_WATTS, Check, FieldError, flag, matching, number, or_none, priority
from agent.cluster.power.messages import Message, decode, encode
from agent.cluster.power.rules import Contract, Priority
from agent.cluster.state import MOST_NODES
from agent.errors import RequestError

T = TypeVar("T")
MAX_S = 10 * 86_400.0
_LONGEST = 500  # characters of a reason


@dataclass(frozen=True, slots=True)
class Module:
    """What a request does not say of the module that sends it. ``top``, ``bottom``: something lies on that face."""

    floor_w: float
    peak_w: float
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
    if not isinstance(body, str):
        raise _refusal("message", "text is needed")
    return decode(body.encode())


def read(kind: type[T], body: object) -> T:
    """One of the values above, each field of it typed and in range. Raises RequestError for anything else."""
    try:
        return _build(kind, body)
    except FieldError as error:
        raise _refusal(error.field, error.why) from error


def read_list(kind: type[T], body: object) -> tuple[T, ...]:
    """Of at most as many as a stack has modules, twice: those that have just left are among them."""
    try:
        return _build_all(kind, body)
    except FieldError as error:
        raise _refusal(error.field, error.why) from error


def _build(kind: type[T], body: object) -> T:
    checks = _FIELDS[kind]
    if not isinstance(body, dict) or body.keys() != checks.keys():
        raise FieldError(kind.__name__, f"the fields of a {kind.__name__} are needed, and no others")
    return kind(**{name: check(name, body[name]) for name, check in checks.items()})


def _build_all(kind: type[T], body: object) -> tuple[T, ...]:
    if not isinstance(body, list) or len(body) > 2 * MOST_NODES:
        raise FieldError(kind.__name__, f"a list of at most {2 * MOST_NODES} is needed")
    return tuple(_build(kind, one) for one in body)


def _refusal(param: str, why: str) -> RequestError:
    return RequestError(f"not understood: {param}: {why}", hint="the nodes may run different versions", param=param)


def _text(field: str, value: object) -> object:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise FieldError(field, "text is needed")
    return value


def _of(kind: type[Any]) -> Check:
    return lambda _field, value: _build(kind, value)


def _each(kind: type[Any]) -> Check:
    return lambda _field, value: _build_all(kind, value)


_id = matching(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), "an id is needed")
_watts, _seconds = number(MAX_WATTS), number(MAX_S)
_BY_NAME: Mapping[str, Check] = {
    "id": _id,
    "node_id": _id,
    "priority": priority,
    "reason": _text,
    "left_s": _seconds,
    "ttl_s": _seconds,
    "top": or_none(flag),
    "bottom": or_none(flag),
    "admitted": flag,
    "silent": flag,
    "applied_w": or_none(_watts),
    "measured_w": or_none(_watts),
    "supply_w": or_none(_watts),
    "usable_w": or_none(_watts),
    "promise": _of(Promise),
    "grants": _each(Grant),
    "shares": _each(Share),
}
_FIELDS: Mapping[type[Any], Mapping[str, Check]] = {
    kind: {one.name: _BY_NAME.get(one.name, _watts) for one in fields(kind)}
    for kind in (Module, Promise, Ask, Grant, Share, Book)
}
