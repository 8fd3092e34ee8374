"""What modules say to one another about power: values, and their JSON. What arrives is hostile until decoded here.

    node ─▶ allocator    PowerRequest   the heartbeat: I am here, I hold so much, I want so much
    allocator ─▶ node    PowerGrant     the answer: so many watts, for one lease from when you asked
    allocator ─▶ all     Takeover       the supply is plugged into me now; who shared it out before?
    old ─▶ new           Handover       I no longer grant anything; this is all that I have granted

No message carries a time of day: a lease counts from the node's own sending, on the node's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from agent.cluster.fields import Check, FieldError, each, flag, matching, number, one_of, or_none, record, whole
from agent.cluster.power.rules import PRIORITIES, Priority
from agent.cluster.state import MOST_NODES
from agent.errors import RequestError

MAX_BYTES = 8192
MAX_WATTS = 10_000.0
MAX_STEPS = 64


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


def encode(message: Message) -> bytes:
    """One line of JSON."""
    body = {"type": _NAMES[type(message)], **asdict(message)}
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
    check = _CHECKS.get(name) if isinstance(name, str) else None
    if check is None:
        raise _refusal("type", "it is none that is known")
    try:
        return check("", body)
    except FieldError as error:
        raise _refusal(error.place or None, error.why) from error


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


def _book(place: str, value: object) -> tuple[Exposure, ...]:
    book = each(_EXPOSURE, 2 * MOST_NODES)(place, value)  # those that have just left are among them
    if len({one.node_id for one in book}) != len(book):
        raise FieldError(place, "a node comes twice")
    return book


WATTS = number(MAX_WATTS)
STEPS = each(WATTS, MAX_STEPS)
PRIORITY = one_of(PRIORITIES)
NODE_ID = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "the id of a node is needed")
_SECONDS = number(10_000.0)
_TOKEN = matching(r"[0-9a-f]{16,64}", "16 to 64 hex digits are needed")
TERM = record(Term, {"number": whole(), "holder": NODE_ID, "birth": _TOKEN})
_EXPOSURE = record(Exposure, {"node_id": NODE_ID, "watts": WATTS, "left_s": _SECONDS, "loaded": flag})
_REQUEST = record(
    PowerRequest,
    {
        "node_id": NODE_ID,
        "boot": _TOKEN,
        "term": or_none(TERM),
        "echo": whole(),
        "seq": whole(),
        "loaded": flag,
        "held_w": WATTS,
        "want_w": WATTS,
        "priority": PRIORITY,
        "measured_w": or_none(WATTS),
    },
)
_GRANT = record(
    PowerGrant,
    {"node_id": NODE_ID, "boot": _TOKEN, "term": TERM, "nonce": whole(), "seq": whole(), "watts": or_none(WATTS)},
)
_CHECKS: Mapping[str, Check[Message]] = {
    "power-request": _REQUEST,
    "power-grant": _GRANT,
    "power-takeover": record(Takeover, {"term": TERM}),
    "power-handover": record(Handover, {"term": TERM, "birth": _TOKEN, "exposures": _book}),
}
_NAMES: Mapping[type[Message], str] = {
    PowerRequest: "power-request",
    PowerGrant: "power-grant",
    Takeover: "power-takeover",
    Handover: "power-handover",
}
