"""``thox status``: the stack as a picture, what happens to it in sentences."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from real_device import ROOT, THOX, Device

from agent.api.render_events import NAMES
from agent.cli_status_stack import event_text, stack_text


def a_node(name: str, role: str = "follower", **changes: object) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": name,
        "role": role,
        "status": "healthy",
        "report_age_s": 0.0,
        "ram_gb": 16,
        "tops": 100,
        "external_power": role == "leader",
        "battery_percent": 80.0,
        "power": {"measured": {"value": 4.5}, "peak_w": 40.0},
        "temperature_c": 30.0,
        "models": [{"model": "thox-nano", "state": "loaded"}],
    }
    return {**told, **changes}


def a_link(lower: str, upper: str) -> dict[str, Any]:
    return {"lower": lower, "upper": upper, "gigabits": 10.0, "round_trip_ms": 0.42}


CLUSTER = {"cluster_id": "ms-cluster-x", "epoch": 7, "node_count": 3, "leader": "node-1", "status": "degraded"}


def drawn(*nodes: dict[str, Any], links: tuple[dict[str, Any], ...], reasons: tuple[str, ...] = ()) -> list[str]:
    cluster = {**CLUSTER, "reasons": list(reasons)}
    return stack_text(cluster, {"links": links}, {"node": "node-2", "nodes": nodes}).splitlines()


def test_nodes_stand_upon_one_another_as_they_touch() -> None:
    rows = drawn(
        a_node("node-1", "leader"),
        a_node("node-2"),
        a_node("node-3"),
        links=(a_link("node-2", "node-3"), a_link("node-1", "node-2")),
    )
    assert "3 nodes, epoch 7" in rows[0]
    named = [row for row in rows if "node-" in row]
    assert [next(name for name in ("node-1", "node-2", "node-3") if name in row) for row in named] == [
        "node-3",
        "node-2",
        "node-1",
    ]
    assert "answers here" in named[1] and "leader" in named[2] and named[2].endswith("external power")
    assert sum("10 Gb/s, 0.4 ms" in row for row in rows) == 2
    assert any("4.5 of 40 W" in row and "30.0 °C" in row and "battery 80 %" in row for row in rows)


def test_a_silent_node_is_drawn_with_how_old_its_word_is_and_one_that_never_spoke_too() -> None:
    silent = a_node("node-1", status="silent", report_age_s=3.2)
    nothing: dict[str, Any] = {
        "power": None,
        "temperature_c": None,
        "models": None,
        "battery_percent": None,
        "report_age_s": None,
    }
    unknown = a_node("node-3", status="silent", **nothing)
    text = "\n".join(drawn(silent, a_node("node-2"), unknown, links=(), reasons=("node-1: no answer",)))
    assert "node-1: no answer" in text and "as it was 3.2 s ago" in text and "it never told more" in text


def test_contacts_in_a_ring_or_to_nobody_are_no_reason_to_leave_a_node_out() -> None:
    links = (a_link("node-1", "node-2"), a_link("node-2", "node-1"), a_link("node-9", "node-3"))
    rows = drawn(a_node("node-1"), a_node("node-2"), a_node("node-3"), links=links)
    assert sum(row.startswith("┌") for row in rows) == 3


EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "snapshot": ({"cluster": {**CLUSTER, "reasons": ["x"]}}, "the stack is degraded; x; node-1 leads 3 nodes"),
    "joined": ({"id": "node-2", "address": "a:1", "ram_gb": 16, "tops": 100}, "node-2 joined: a:1, 16 GB, 100 TOPS"),
    "left": ({"id": "node-2"}, "node-2 left"),
    "leader": ({"leader": "node-2"}, "node-2 leads"),
    "epoch": ({"epoch": 8, "members": ["node-1", "node-2"]}, "epoch 8: node-1, node-2"),
    "status": ({"status": "healthy", "reasons": []}, "the stack is healthy"),
    "member": ({"id": "node-2", "status": "silent", "reason": "no answer"}, "node-2 is silent: no answer"),
    "alert": ({"id": "node-2", "reason": ""}, "node-2: the power alert is over"),
    "model": ({"id": "node-2", "model": "a", "state": "loaded"}, "node-2: a is loaded"),
    "contract": ({"id": "c", "node_id": "node-2", "granted_w": 20.0}, "c of node-2 gives 20 W"),
    "lost": ({"count": 3}, "3 events were too many at once and are lost"),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_told_in_a_sentence(name: str) -> None:
    event, told = EVENTS[name]
    assert event_text(name, event) == told


def test_an_event_of_a_later_version_is_told_by_its_name() -> None:
    assert event_text("moved", {"id": "node-2"}) == "moved"


def test_status_draws_the_stack_and_follows_what_happens_to_it(device: Device) -> None:
    done = device.thox("status")
    assert done.returncode == 0 and "1 node, epoch" in done.stdout and "leader · healthy · answers here" in done.stdout
    process = subprocess.Popen(
        [*THOX, "status", "--follow"], env=device.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "the stack is healthy" in line:
                break
        else:
            raise AssertionError("it ended without a word")
        device.thox("sim", "fail", "thermal")
        for line in process.stdout:
            if "degraded" in line and "thermometers" in line:
                break
        else:
            raise AssertionError("it ended without a word of the failure")
    finally:
        process.kill()
        process.communicate(timeout=20)
        device.thox("sim", "mend", "all")


def test_a_device_whose_models_have_all_gone_says_so(device: Device) -> None:
    loaded = ("thox-nano", "all-minilm-l6-v2")
    try:
        for model in loaded:
            assert device.thox("unload", model).returncode == 0
        done = device.thox("status")
        assert done.returncode == 0 and "no model loaded" in done.stdout, done.stdout
    finally:
        for model in loaded:
            device.thox("load", model)
    assert "no model loaded" not in device.thox("status").stdout
