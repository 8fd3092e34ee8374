"""A node's report as JSON between nodes. What arrives is hostile until it was read here: types, sizes and ranges.

Times are told as ages, since no two nodes share a clock. Who the report is of is not in it: that is who was asked.
A field that is not known is passed over, so that nodes of a newer version can say more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar, cast

from agent.cluster.power.wire import Grant, read_list, to_json
from agent.cluster.report.values import NodeReport, PowerState
from agent.cluster.state import MOST_NODES, Node
from agent.engine.base import EngineStatus
from agent.errors import RequestError
from agent.models.lease import HostedModel, State
from hal.base import BoardFacts, Face, Quality, Reading

T = TypeVar("T")
Json = dict[str, Any]

VERSION: Final = 1
MOST_CHARACTERS: Final = 200
MOST_OF_A_KIND: Final = 64  # zones, rails, models, checks ...
MOST_GRANTS: Final = 2 * MOST_NODES  # a node has one contract at most; those of who has just left are among them
MOST: Final = 1e15  # no number of a node is larger

_UNITS = ("W", "V", "A", "degC", "%")
_QUALITIES = ("ok", "stale", "fault")
_STATES = ("available", "loading", "loaded", "failed")


class ReportError(ValueError):
    """What arrived is no report; the message says where."""


def encode(report: NodeReport, now: float) -> Json:
    """``now``: of the clock that the report's readings were stamped with. Longer texts and lists are cut."""

    def reading(one: Reading | None) -> Json | None:
        if one is None:
            return None
        return {
            "value": one.value,
            "unit": one.unit,
            "quality": one.quality,
            "age_s": max(0.0, now - one.at),
            "source": _cut(one.source),
        }

    power, machine = report.power, report.machine
    return {
        "v": VERSION,
        "board": _cut(report.board),
        "cores": report.cores,
        "simulated": report.simulated,
        "uptime_s": report.uptime_s,
        "zones": {_cut(name): reading(zone) for name, zone in _few(report.zones.items())},
        "power": {
            "total": reading(power.total),
            "rails": {_cut(name): reading(rail) for name, rail in _few(power.rails.items())},
            "cap_w": power.cap_w,
            "floor_w": power.floor_w,
            "peak_w": power.peak_w,
            "external": power.external,
            "supply": reading(power.supply),
            "battery": reading(power.battery),
        },
        "grants": [_grant(one) for one in _few(report.grants, MOST_GRANTS)],
        "faces": dict(report.faces),
        "machine": {
            "name": _cut(machine.name),
            "memory_bytes": machine.memory_bytes,
            "tops": machine.tops,
            "cores": machine.cores,
        },
        "memory_available": report.memory_available,
        "models": [_model(one, now) for one in _few(report.models)],
        "active_model": None if report.active_model is None else _cut(report.active_model),
        "kinds": sorted(report.kinds),
        "versions": {_cut(name): _cut(text) for name, text in report.versions.items()},
        "checks": {_cut(name): _cut(text) for name, text in _few(report.checks.items())},
    }


def decode(body: object, node: Node, now: float) -> NodeReport:
    """The report of ``node``, its times by this node's clock. Raises ReportError for whatever is none."""
    fields = _Fields(body, "")
    if fields.get("v") != VERSION:
        raise ReportError("it is of another version")
    power, machine = fields.inner("power"), fields.inner("machine")
    return NodeReport(
        node=node,
        board=fields.text("board"),
        cores=fields.whole("cores"),
        simulated=fields.flag("simulated"),
        uptime_s=fields.number("uptime_s"),
        zones=fields.table("zones", lambda each: _reading(each, now)),
        power=PowerState(
            total=power.maybe("total", lambda name: _reading(power.inner(name), now)),
            rails=power.table("rails", lambda each: _reading(each, now)),
            cap_w=power.maybe("cap_w", power.number),
            floor_w=power.number("floor_w"),
            peak_w=power.number("peak_w"),
            external=power.maybe("external", power.flag),
            supply=power.maybe("supply", lambda name: _reading(power.inner(name), now)),
            battery=power.maybe("battery", lambda name: _reading(power.inner(name), now)),
        ),
        grants=_grants(fields.get("grants")),
        faces=_faces(fields.inner("faces")),
        machine=BoardFacts(
            machine.text("name"), machine.whole("memory_bytes"), machine.number("tops"), machine.whole("cores")
        ),
        memory_available=fields.whole("memory_available"),
        models=tuple(_hosted(each, now) for each in fields.rows("models")),
        active_model=fields.maybe("active_model", fields.text),
        kinds=frozenset(fields.texts("kinds")),
        versions=fields.words("versions"),
        checks=fields.words("checks"),
    )


def _model(model: HostedModel, now: float) -> Json:
    status = model.status
    told: Json = {
        "name": _cut(model.name),
        "state": model.state,
        "seconds": model.seconds,
        "error": _cut(model.error),
        "status": None,
    }
    if status is not None:
        told["status"] = {
            "kind": status.kind,
            "context_length": status.context_length,
            "slots": status.slots,
            "running": status.running,
            "waiting": status.waiting,
            "pages": status.pages,
            "pages_used": status.pages_used,
            "fingerprint": _cut(status.fingerprint),
            "last_token_age_s": None if status.last_token_at is None else max(0.0, now - status.last_token_at),
        }
    return told


def _hosted(fields: _Fields, now: float) -> HostedModel:
    name = fields.text("name")
    return HostedModel(
        name,
        cast("State", fields.choice("state", _STATES)),
        fields.number("seconds"),
        status=fields.maybe("status", lambda status: _status(fields.inner(status), name, now)),
        error=fields.text("error"),
    )


def _status(fields: _Fields, model: str, now: float) -> EngineStatus:
    age = fields.maybe("last_token_age_s", fields.number)
    return EngineStatus(
        model,
        cast("Literal['text', 'embedding', 'reranker']", fields.choice("kind", ("text", "embedding", "reranker"))),
        fields.whole("context_length"),
        fields.whole("slots"),
        fields.whole("running"),
        fields.whole("waiting"),
        fields.whole("pages"),
        fields.whole("pages_used"),
        fields.text("fingerprint"),
        None if age is None else now - age,
    )


def _reading(fields: _Fields, now: float) -> Reading:
    quality = cast("Quality", fields.choice("quality", _QUALITIES))
    value = fields.maybe("value", lambda name: fields.number(name, least=-MOST))
    if (value is None) != (quality != "ok"):
        raise fields.error("value", "a number, if its quality is ok and not else")
    unit = cast("Literal['W', 'V', 'A', 'degC', '%']", fields.choice("unit", _UNITS))
    return Reading(value, unit, quality, now - fields.number("age_s"), fields.text("source"))


def _grant(grant: Grant) -> Json:
    return to_json(replace(grant, reason=_cut(grant.reason)))


def _grants(body: object) -> tuple[Grant, ...]:
    try:
        return read_list(Grant, body)
    except RequestError as error:
        raise ReportError(f"grants: {error.message}") from error


def _faces(fields: _Fields) -> Mapping[Face, bool]:
    faces: tuple[Face, ...] = ("top", "bottom")
    return {face: fields.flag(face) for face in faces if fields.get(face) is not None}


class _Fields:
    """The fields of one JSON object; whatever is not what it should be raises ReportError with its place."""

    def __init__(self, body: object, at: str) -> None:
        self._at = at
        if not isinstance(body, dict):
            raise ReportError(f"{at.rstrip('.') or 'it'} is no object")
        self._body = body

    def get(self, name: str) -> object:
        return self._body.get(name)

    def error(self, name: str, wanted: str) -> ReportError:
        return ReportError(f"{self._at}{name} is to be {wanted}")

    def text(self, name: str) -> str:
        return _text(self.get(name), self._at + name)

    def number(self, name: str, least: float = 0.0) -> float:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, "a number")
        if not least <= value <= MOST or not math.isfinite(value):
            raise self.error(name, "in range")
        return float(value)

    def whole(self, name: str) -> int:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
            raise self.error(name, "a whole number, 0 or more")
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.error(name, "one of " + ", ".join(choices))
        return value

    def maybe(self, name: str, read: Callable[[str], T]) -> T | None:
        """None for null, and for what is not there."""
        return None if self.get(name) is None else read(name)

    def inner(self, name: str) -> _Fields:
        return _Fields(self.get(name), f"{self._at}{name}.")

    def rows(self, name: str) -> list[_Fields]:
        return [_Fields(each, f"{self._at}{name}[{at}].") for at, each in enumerate(self._list(name))]

    def texts(self, name: str) -> list[str]:
        return [_text(each, f"{self._at}{name}[{at}]") for at, each in enumerate(self._list(name))]

    def table(self, name: str, read: Callable[[_Fields], T]) -> dict[str, T]:
        return {key: read(_Fields(each, f"{self._at}{name}.{key}.")) for key, each in self._pairs(name)}

    def words(self, name: str) -> dict[str, str]:
        return {key: _text(each, f"{self._at}{name}.{key}") for key, each in self._pairs(name)}

    def _list(self, name: str) -> list[object]:
        value = self.get(name)
        if not isinstance(value, list) or len(value) > MOST_OF_A_KIND:
            raise self.error(name, f"a list of {MOST_OF_A_KIND} at most")
        return value

    def _pairs(self, name: str) -> list[tuple[str, object]]:
        value = self.get(name)
        if not isinstance(value, dict) or len(value) > MOST_OF_A_KIND:
            raise self.error(name, f"an object of {MOST_OF_A_KIND} fields at most")
        return [(_text(key, f"a name in {self._at}{name}"), each) for key, each in value.items()]


def _text(value: object, at: str) -> str:
    """No control characters: it may reach a terminal."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS or not value.isprintable():
        raise ReportError(f"{at} is to be a text of {MOST_CHARACTERS} characters at most")
    return value


def _cut(text: str) -> str:
    """As ``_text`` takes it."""
    plain = text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"


def _few(items: Iterable[T], most: int = MOST_OF_A_KIND) -> list[T]:
    return list(items)[:most]
