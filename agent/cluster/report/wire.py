"""A node's report as JSON between nodes. What arrives is hostile until it was read here: types, sizes and ranges.

Times are told as ages, since no two nodes share a clock. Who the report is of is not in it: that is who was asked.
A field that is not known is passed over, so that nodes of a newer version can say more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Literal, TypeVar, get_args

from agent.cluster.fields import Check, FieldError, Fields, each, flag, number, one_of, or_none, table, text, whole
from agent.cluster.link.frames import Json
from agent.cluster.power.wire import GRANTS, Grant, to_json
from agent.cluster.report.values import NodeReport, PowerState
from agent.cluster.state import MOST_NODES, Node
from agent.engine.base import EngineStatus
from agent.models.lease import HostedModel, State
from hal.base import BoardFacts, Face, Quality, Reading

T = TypeVar("T")

VERSION: Final = 1
MOST_CHARACTERS: Final = 200
MOST_OF_A_KIND: Final = 64  # zones, rails, models, checks ...
MOST_GRANTS: Final = 2 * MOST_NODES  # a node has one contract at most; those of who has just left are among them
MOST: Final = 10**15  # no number of a node is larger

_TEXT, _COUNT, _NUMBER = text(MOST_CHARACTERS), whole(MOST), number(MOST)
_WORDS = table(_TEXT, _TEXT, MOST_OF_A_KIND)
_UNIT: Check[Literal["W", "V", "A", "degC", "%"]] = one_of(("W", "V", "A", "degC", "%"))
_KIND: Check[Literal["text", "embedding", "reranker"]] = one_of(("text", "embedding", "reranker"))


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
        "memory_free": report.memory_free,
        "models": [_model(one, now) for one in _few(report.models)],
        "active_model": None if report.active_model is None else _cut(report.active_model),
        "kinds": sorted(report.kinds),
        "versions": {_cut(name): _cut(text) for name, text in report.versions.items()},
        "checks": {_cut(name): _cut(text) for name, text in _few(report.checks.items())},
    }


def decode(body: object, node: Node, now: float) -> NodeReport:
    """The report of ``node``, its times by this node's clock. Raises ReportError for whatever is none."""
    try:
        return _report(Fields("", body), node, now)
    except FieldError as error:
        raise ReportError(str(error)) from error


def _report(fields: Fields, node: Node, now: float) -> NodeReport:
    def reading(place: str, value: object) -> Reading:
        return _reading(Fields(place, value), now)

    def model(place: str, value: object) -> HostedModel:
        return _hosted(Fields(place, value), now)

    if fields("v", _COUNT) != VERSION:
        raise FieldError("v", "it is of another version")
    readings = table(_TEXT, reading, MOST_OF_A_KIND)
    power, machine = fields("power", Fields), fields("machine", Fields)
    return NodeReport(
        node=node,
        board=fields("board", _TEXT),
        cores=fields("cores", _COUNT),
        simulated=fields("simulated", flag),
        uptime_s=fields("uptime_s", _NUMBER),
        zones=fields("zones", readings),
        power=PowerState(
            total=power("total", or_none(reading)),
            rails=power("rails", readings),
            cap_w=power("cap_w", or_none(_NUMBER)),
            floor_w=power("floor_w", _NUMBER),
            peak_w=power("peak_w", _NUMBER),
            external=power("external", or_none(flag)),
            supply=power("supply", or_none(reading)),
            battery=power("battery", or_none(reading)),
        ),
        grants=fields("grants", GRANTS),
        faces=_faces(fields("faces", Fields)),
        machine=BoardFacts(
            machine("name", _TEXT), machine("memory_bytes", _COUNT), machine("tops", _NUMBER), machine("cores", _COUNT)
        ),
        memory_available=fields("memory_available", _COUNT),
        memory_free=fields("memory_free", _COUNT),
        models=fields("models", each(model, MOST_OF_A_KIND)),
        active_model=fields("active_model", or_none(_TEXT)),
        kinds=frozenset(fields("kinds", each(_TEXT, MOST_OF_A_KIND))),
        versions=fields("versions", _WORDS),
        checks=fields("checks", _WORDS),
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


def _hosted(fields: Fields, now: float) -> HostedModel:
    name, status = fields("name", _TEXT), fields("status", or_none(Fields))
    return HostedModel(
        name,
        fields("state", one_of(get_args(State))),
        fields("seconds", _NUMBER),
        status=None if status is None else _status(status, name, now),
        error=fields("error", _TEXT),
    )


def _status(fields: Fields, model: str, now: float) -> EngineStatus:
    age = fields("last_token_age_s", or_none(_NUMBER))
    return EngineStatus(
        model,
        fields("kind", _KIND),
        fields("context_length", _COUNT),
        fields("slots", _COUNT),
        fields("running", _COUNT),
        fields("waiting", _COUNT),
        fields("pages", _COUNT),
        fields("pages_used", _COUNT),
        fields("fingerprint", _TEXT),
        None if age is None else now - age,
    )


def _reading(fields: Fields, now: float) -> Reading:
    value, quality = fields("value", or_none(number(MOST, -MOST))), fields("quality", one_of(get_args(Quality)))
    if (value is None) != (quality != "ok"):
        raise FieldError(fields.place, "a value is needed where the quality is ok, and none else")
    return Reading(value, fields("unit", _UNIT), quality, now - fields("age_s", _NUMBER), fields("source", _TEXT))


def _grant(grant: Grant) -> Json:
    return to_json(replace(grant, reason=_cut(grant.reason)))


def _faces(fields: Fields) -> Mapping[Face, bool]:
    """Of one that does not say, nothing."""
    said = {face: fields(face, or_none(flag)) for face in get_args(Face)}
    return {face: closed for face, closed in said.items() if closed is not None}


def _cut(text: str) -> str:
    """As ``decode`` takes it."""
    plain = text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"


def _few(items: Iterable[T], most: int = MOST_OF_A_KIND) -> list[T]:
    return list(items)[:most]
