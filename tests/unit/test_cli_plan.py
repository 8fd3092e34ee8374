"""``thox plan``: the stack with the layers on each node."""

from __future__ import annotations

import json
from typing import Any

from real_device import Device

from agent.cli_plan import plan_text

GIB = 1 << 30


def a_stage(node: str, first: int, last: int) -> dict[str, Any]:
    return {"node": node, "first_layer": first, "last_layer": last, "needed_bytes": 3 * GIB, "free_bytes": 5 * GIB}


def a_node(name: str, **changes: object) -> dict[str, Any]:
    return {"id": name, "free_bytes": 5 * GIB, "speed": 100, "reachable": True, "has_files": True, **changes}


PLAN: dict[str, Any] = {
    "leader": "node-1",
    "hardware": "simulated",
    "model": "big",
    "note": "A forecast.",
    "layers": 32,
    "cache_tokens": 32768,
    "needed_bytes": 6 * GIB,
    "stages": [a_stage("node-2", 0, 30), a_stage("node-1", 31, 31)],
    "nodes": [
        a_node("node-1"),
        a_node("node-2", has_files=False),
        a_node("node-3", free_bytes=GIB // 2),
        a_node("node-4", reachable=False),
    ],
}


def test_the_stack_is_drawn_from_its_top_with_the_layers_of_each_node() -> None:
    rows = plan_text(PLAN).splitlines()
    assert rows[:2] == ["big: 32 layers and a cache for 32768 tokens, 6.0 GiB", "A forecast."]
    told = [row.strip("│ ").rstrip() for row in rows if row.startswith("│")]
    assert told == [
        "node-4",
        "not reached",
        "node-3",
        "nothing of it; 512 MiB free",
        "node-2",
        "layers 0 to 30: 3.0 GiB of 5.0 GiB free · no files",
        "node-1 · leader",
        "layer 31: 3.0 GiB of 5.0 GiB free",
    ]
    assert "Simulated modules" in rows[-1]


def test_a_running_device_tells_its_plan_and_why_there_is_none(device: Device) -> None:
    done = device.thox("plan", "thox-nano")
    assert done.returncode == 0 and "thox-nano: 5 layers" in done.stdout and "layers 0 to 4: " in done.stdout
    assert "the model is loaded on that node" in done.stdout
    told = json.loads(device.thox("plan", "thox-nano", "--json").stdout)
    assert [(stage["first_layer"], stage["last_layer"]) for stage in told["stages"]] == [(0, 4)]
    missing = device.thox("plan", "thox-nan")
    assert missing.returncode == 1 and "did you mean thox-nano?" in missing.stderr and not missing.stdout
