"""Reports between nodes: what is told arrives as it was, and of what is no report nothing gets through."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api import schema_cluster
from agent.api.render_cluster import node_object
from agent.cluster.power.wire import Grant, Promise
from agent.cluster.report.values import MemberReport, NodeReport, PowerState
from agent.cluster.report.wire import MOST_CHARACTERS, MOST_OF_A_KIND, ReportError, decode, encode
from agent.cluster.state import Node
from agent.engine.base import EngineStatus
from agent.models.lease import HostedModel
from hal.base import BoardFacts, Reading

NOW, THERE = 1000.0, 77.5  # clocks of who tells, and of who hears
NODE = Node("node-1", "10.0.0.1:5381", 16 << 30, 100.0, True, 80.0, "0.1.0")
WATTS = Reading(4.5, "W", "ok", NOW - 0.5, "sim:VDD_IN")
REPORT = NodeReport(
    node=NODE,
    board="a board",
    cores=8,
    simulated=True,
    uptime_s=12.5,
    zones={"tj": Reading(-3.0, "degC", "ok", NOW, "sim:tj"), "cpu": Reading(None, "degC", "fault", NOW, "sim:cpu")},
    power=PowerState(WATTS, {"VDD": WATTS}, 20.0, 10.0, 40.0, True, WATTS, None),
    grants=(Grant(Promise("contract-1", "node-1", 40.0, 0.0, "normal", 60.0), 20.0, 10.0, None, 65.0, "shared"),),
    faces={"top": True, "bottom": False},
    machine=BoardFacts("a machine", 1 << 34, 100.0, 8),
    memory_available=1 << 33,
    memory_free=1 << 32,
    models=(
        HostedModel("a", "loaded", 1.5, status=EngineStatus("a", "text", 512, 4, 1, 2, 8, 3, "fp_1", NOW - 2)),
        HostedModel("b", "failed", error="no such\n tensor"),
    ),
    active_model="a",
    kinds=frozenset({"text", "embedding"}),
    versions={"agent": "0.1.0"},
    checks={"power_meter": "ok", "models": "b could not be loaded"},
)


def told(report: NodeReport) -> Any:  # noqa: ANN401  JSON
    """As it leaves the other end of a link."""
    return json.loads(json.dumps(encode(report, NOW)))


def shown(report: NodeReport) -> dict[str, Any]:
    body = node_object(MemberReport(NODE, report, 0.0, 0.0, "degraded", report.wrong), "leader")
    jsonschema.validate(body, schema_cluster.NODE)
    return body


def test_a_report_arrives_as_it_was_told_with_times_by_the_hearers_clock() -> None:
    arrived = decode(told(REPORT), NODE, THERE)
    assert arrived.power.total == replace(WATTS, at=THERE - 0.5)
    status = arrived.models[0].status
    assert status is not None and status.last_token_at == THERE - 2
    sent, came = shown(REPORT), shown(arrived)
    for body in (sent, came):
        for model in body["models"]:
            model.pop("last_token_seconds_ago", None)
    assert came["models"][1]["error"] == "no such  tensor"  # nothing that moves a cursor
    sent["models"] = came["models"]
    assert came == sent
    assert arrived.grants == REPORT.grants
    assert (arrived.healthy, arrived.kinds, arrived.active_model) == (False, REPORT.kinds, "a")


def test_what_is_too_long_is_cut_by_who_tells_it() -> None:
    models = tuple(HostedModel(f"m{number}", "available") for number in range(MOST_OF_A_KIND + 1))
    checks = {"models": "x" * 1000}
    arrived = decode(told(replace(REPORT, models=models, checks=checks)), NODE, THERE)
    assert len(arrived.models) == MOST_OF_A_KIND
    assert len(arrived.checks["models"]) == MOST_CHARACTERS and not arrived.healthy


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert decode({**told(REPORT), "mood": "good"}, NODE, THERE) == decode(told(REPORT), NODE, THERE)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), []),
        ((), "report"),
        (("v",), 2),
        (("uptime_s",), -1),
        (("uptime_s",), float("nan")),
        (("uptime_s",), True),
        (("cores",), 1.5),
        (("board",), "x" * 201),
        (("board",), "\x1b[2J"),
        (("zones", "tj", "value"), None),
        (("zones", "cpu", "value"), 20.0),
        (("zones", "tj", "unit"), "K"),
        (("power",), None),
        (("power", "cap_w"), "20"),
        (("faces", "top"), 1),
        (("models",), [{}] * 65),
        (("models", 0, "state"), "asleep"),
        (("models", 0, "status", "kind"), ["text"]),
        (("checks",), {"a\nb": "ok"}),
        (("checks",), {str(number): "ok" for number in range(65)}),
        (("kinds",), "text"),
        (("memory_available",), 10**400),
        (("grants",), [{}]),
        (("grants", 0, "granted_w"), 10**400),
        (("grants", 0, "promise", "node_id"), "\n"),
    ],
)
def test_what_is_no_report_is_refused_with_its_place(place: tuple[str | int, ...], value: object) -> None:
    body = _changed(told(REPORT), place, value)
    with pytest.raises(ReportError) as refused:
        decode(body, NODE, THERE)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_is_changed_in_a_report_it_is_refused_or_can_be_shown(data: st.DataObject) -> None:
    body = told(REPORT)
    place = data.draw(st.sampled_from(sorted(_places(body), key=repr)))
    changed = _changed(body, place, data.draw(JSON))
    try:
        report = decode(changed, NODE, THERE)
    except ReportError:
        return
    json.dumps(shown(report), allow_nan=False)


def _places(body: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at]
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, inner in items:
        found += _places(inner, (*at, key))
    return found


def _changed(body: Any, place: tuple[str | int, ...], value: object) -> object:  # noqa: ANN401  JSON
    if not place:
        return value
    changed = copy.deepcopy(body)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return changed
