"""A worker that dies takes its answers with it, and nothing else: the device comes back by itself."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from pathlib import Path

from real_device import Device, StartDevice, stop


def _worker(device: Device) -> int:
    pid = device.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _ask(device: Device) -> tuple[int, str | None, dict[str, object]]:
    connection = http.client.HTTPConnection(device.inference.removeprefix("http://"), timeout=60)
    body = {"model": "thox-nano", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {**device.headers, "Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return response.status, response.getheader("Retry-After"), json.loads(response.read())
    finally:
        connection.close()


def test_after_a_crash_clients_get_clean_503s_until_the_models_are_back(start_device: StartDevice) -> None:
    device = start_device('[models]\npreload = ["thox-nano"]\n')
    assert _ask(device)[0] == 200
    first = _worker(device)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, device.log()
        try:
            status, retry_after, answer = _ask(device)
        except (ConnectionResetError, http.client.RemoteDisconnected):
            continue  # this connection was in the hands of the worker that died
        if status == 200:
            break
        assert status == 503 and retry_after is not None and int(retry_after) >= 1
        error = answer["error"]
        assert isinstance(error, dict) and error["code"] == 503 and error["message"] and error["type"]
    assert _worker(device) != first
    assert device.log().count("The owner's API key") == 1, "a new worker is not a first start"


def test_a_stop_in_the_middle_of_a_load_is_clean(start_device: StartDevice) -> None:
    device = start_device('[models]\npreload = ["thox-nano"]\n')
    connection = http.client.HTTPConnection(device.inference.removeprefix("http://"), timeout=60)
    body = json.dumps({"model": "all-minilm-l6-v2", "wait": False})
    connection.request("POST", "/v1/models/load", body, {**device.headers, "Content-Type": "application/json"})
    assert connection.getresponse().status in (200, 202)
    connection.close()
    stop(device)
    assert "stopped" in device.log() and "SIGABRT" not in device.log() and "terminate called" not in device.log()
