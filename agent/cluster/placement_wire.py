"""What nodes tell one another about plans: values, and their strict JSON.

"plan"        {"model": name, "token": of the epoch}  ->  {"token": ..., "forecast": Forecast}
                                                       |  {"token": ..., "no_room": NoRoom}
"plan-need"   {"model": name, "token": of the epoch}  ->  {"token": ..., "need": Need}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from agent.cluster.fields import FieldError, each, flag, matching, number, record, text, whole
from agent.cluster.placement import Need, Plan, Room, Stage
from agent.cluster.state import MOST_NODES
from agent.errors import NoRoomError

MOST_LAYERS: Final = 1024
MOST_BYTES: Final = 1 << 50
LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """``token``: of the epoch that the asker is in."""

    model: str
    token: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """How the stack would carry a model, and from what that follows."""

    need: Need
    plan: Plan
    rooms: tuple[Room, ...]  # of all members, the lowest of the stack first
    serving: bool  # it is loaded just so
    holders: tuple[str, ...]  # members that have its files


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Why there is no plan."""

    message: str
    hint: str
    needed_bytes: int
    available_bytes: int
    missing_bytes: int

    @classmethod
    def of(cls, error: NoRoomError) -> NoRoom:
        numbers = cast("Mapping[str, int]", error.details)
        names = ("needed_bytes", "available_bytes", "missing_bytes")
        return cls(error.message, error.hint or "", *(numbers[name] for name in names))

    def error(self) -> NoRoomError:
        numbers = {name: value for name, value in asdict(self).items() if name.endswith("_bytes")}
        return NoRoomError(self.message, hint=self.hint, param="model", **numbers)


def to_json(value: Asked | Forecast | Need | NoRoom) -> dict[str, Any]:
    return asdict(value)


_BYTES = whole(MOST_BYTES)
_LAYER = whole(MOST_LAYERS - 1)
_NODE = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "the id of a node is needed")
TOKEN = text(LONGEST_NAME)
_NAME = text(LONGEST_NAME)
ASKED = record(Asked, {"model": _NAME, "token": TOKEN})
_NEED = record(
    Need,
    {
        "model": _NAME,
        "layers": each(_BYTES, MOST_LAYERS),
        "embedding": _BYTES,
        "head": _BYTES,
        "cache": _BYTES,
        "tokens": _BYTES,
        "stage": _BYTES,
    },
)


def need(place: str, value: object) -> Need:
    """With one layer or more."""
    told = _NEED(place, value)
    if not told.layers:
        raise FieldError("layers", "one is needed")
    return told


_STAGE = record(Stage, {"node": _NODE, "first": _LAYER, "last": _LAYER})
_PLAN = record(Plan, {"model": _NAME, "stages": each(_STAGE, MOST_NODES), "token": TOKEN})
_ROOM = record(Room, {"node": _NODE, "free": _BYTES, "speed": number(1e9, 1e-9), "reachable": flag})
NO_ROOM = record(
    NoRoom,
    {
        "message": text(1000),
        "hint": text(1000),
        "needed_bytes": _BYTES,
        "available_bytes": _BYTES,
        "missing_bytes": _BYTES,
    },
)
_FORECAST = record(
    Forecast,
    {
        "need": need,
        "plan": _PLAN,
        "rooms": each(_ROOM, MOST_NODES),
        "serving": flag,
        "holders": each(_NODE, MOST_NODES),
    },
)


def forecast(place: str, value: object) -> Forecast:
    """Whose plan is of its need, on nodes that have a room."""
    told = _FORECAST(place, value)
    if not told.plan.divides(told.need) or not {room.node for room in told.rooms}.issuperset(told.plan.nodes):
        raise FieldError("plan", "stages of all layers, on nodes with a room, are needed")
    return told
