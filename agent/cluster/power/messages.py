"""What modules say to one another about power: values, and their JSON. What arrives is hostile until decoded here.

    node ─▶ allocator    PowerRequest   the heartbeat: I am here, I hold so much, I want so much
    allocator ─▶ node    PowerGrant     the answer: so many watts, for one lease from when you asked
    allocator ─▶ all     Takeover       the supply is plugged into me now; who shared it out before?
    old ─▶ new           Handover       I no longer grant anything; this is all that I have granted

No message carries a time of day: a lease counts from the node's own sending, on the node's own clock.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from agent.cluster.power.fields import MAX_WATTS, Check, FieldError, count, flag, matching, number, or_none, priority
from agent.cluster.power.rules import Priority
from agent.cluster.state import MOST_NODES
from agent.errors import RequestError

MAX_BYTES = 8192


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """One allocator's time in office. Terms are ordered; ``birth`` is new at every start, so none ever comes twice."""

    number: int
    holder: str
    birth: str


@dataclass(frozen=True, slots=True)
class PowerRequest:
    """A node's heartbeat. ``echo`` is the last nonce that this boot had from ``term``; 0: none yet."""

    node_id: str
    boot: str  # new at every start of the node
    term: Term | None
    echo: int
    seq: int  # grows by one with every request of a boot
    loaded: bool  # the load switch is on
    held_w: float  # what it may draw now
    want_w: float
    priority: Priority
    measured_w: float | None  # None: the meter does not say


@dataclass(frozen=True, slots=True)
class PowerGrant:
    """The answer to request ``seq``. ``watts`` None: a nonce to echo, and nothing else; 0: switch the load off."""

    node_id: str
    boot: str
    term: Term
    nonce: int
    seq: int
    watts: float | None


@dataclass(frozen=True, slots=True)
class Takeover:
    """The supply is plugged into this module now; ``term.birth`` makes the question unique."""

    term: Term


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a node may still draw under grants of the past: the largest of them, until the last of them has ended."""

    node_id: str
    watts: float
    left_s: float
    loaded: bool


@dataclass(frozen=True, slots=True)
class Handover:
    """The answer to a Takeover by the one who shared the supply out until now, and has stopped."""

    term: Term
    birth: str  # of the Takeover that it answers
    exposures: tuple[Exposure, ...]


Message = PowerRequest | PowerGrant | Takeover | Handover
_TYPES: Mapping[str, type[Message]] = {
    "power-request": PowerRequest,
    "power-grant": PowerGrant,
    "power-takeover": Takeover,
    "power-handover": Handover,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def encode(message: Message) -> bytes:
    """One line of JSON."""
    body = {"type": _NAMES[type(message)], **cast("dict[str, object]", _plain(message))}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def decode(data: bytes) -> Message:
    """The message, every field of it typed and in range. Raises RequestError for anything else, however it is made."""
    if len(data) > MAX_BYTES:
        raise _refusal(None, f"it has {len(data)} bytes, and {MAX_BYTES} are the most")
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refusal(None, "it is not JSON") from error
    if not isinstance(body, dict):
        raise _refusal(None, "it is not an object")
    name = body.pop("type", None)
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise _refusal("type", "it is none that is known")
    try:
        return cast("Message", _build(kind, body))
    except FieldError as error:
        raise _refusal(error.field, error.why) from error


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Term | Exposure | PowerRequest | PowerGrant | Takeover | Handover):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return value


def _build(kind: type[Any], body: object) -> object:
    checks = _FIELDS[kind]
    if not isinstance(body, dict):
        raise FieldError(kind.__name__, "an object is needed")
    if body.keys() != checks.keys():
        raise FieldError(str(min(body.keys() ^ checks.keys()))[:40], "a field is missing, or one too many")
    return kind(**{name: check(name, body[name]) for name, check in checks.items()})


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a key comes twice")
    return body


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _refusal(param: str | None, why: str) -> RequestError:
    where = f": {param}" if param else ""
    return RequestError(
        f"not a power message{where}: {why}", hint="both modules must run the same version of the agent", param=param
    )


def _term(_field: str, value: object) -> object:
    return _build(Term, value)


def _exposures(field: str, value: object) -> object:
    if not isinstance(value, list) or len(value) > 2 * MOST_NODES:  # those that have just left are among them
        raise FieldError(field, f"a list of at most {2 * MOST_NODES} is needed")
    built = tuple(cast("Exposure", _build(Exposure, one)) for one in value)
    if len({one.node_id for one in built}) != len(built):
        raise FieldError(field, "a node comes twice")
    return built


_NODE_ID = matching(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), "it has not the form of one")
_TOKEN = matching(re.compile(r"[0-9a-f]{16,64}"), "it has not the form of one")
_WATTS = _SECONDS = number(MAX_WATTS)
_FIELDS: Mapping[type[Any], Mapping[str, Check]] = types.MappingProxyType(
    {
        Term: {"number": count, "holder": _NODE_ID, "birth": _TOKEN},
        PowerRequest: {
            "node_id": _NODE_ID,
            "boot": _TOKEN,
            "term": or_none(_term),
            "echo": count,
            "seq": count,
            "loaded": flag,
            "held_w": _WATTS,
            "want_w": _WATTS,
            "priority": priority,
            "measured_w": or_none(_WATTS),
        },
        PowerGrant: {
            "node_id": _NODE_ID,
            "boot": _TOKEN,
            "term": _term,
            "nonce": count,
            "seq": count,
            "watts": or_none(_WATTS),
        },
        Takeover: {"term": _term},
        Exposure: {"node_id": _NODE_ID, "watts": _WATTS, "left_s": _SECONDS, "loaded": flag},
        Handover: {"term": _term, "birth": _TOKEN, "exposures": _exposures},
    }
)
