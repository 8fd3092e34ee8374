"""The real device's HTTP at its edges: malformed requests, clients that leave, many at once."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
from inference_app import parse_events, send
from real_device import Device

COMPLETIONS = "/v1/completions"
LONG = {"model": "thox-nano", "prompt": "Hello", "max_tokens": 1900, "ignore_eos": True, "n": 4}


def port_of(device: Device) -> int:
    port = urlsplit(device.inference).port
    assert port is not None
    return port


def exchange(device: Device, request: str) -> bytes:
    """Everything the device says to these bytes. ``{key}`` in them becomes the header with the key."""
    data = request.replace("{key}", f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {device.key}\r\n")
    with socket.create_connection(("127.0.0.1", port_of(device)), timeout=20) as client:
        client.sendall(data.encode())
        with client.makefile("rb") as file:
            return file.read()


def metric(device: Device, name: str) -> float:
    request = urllib.request.Request(f"{device.inference}/metrics", headers=device.headers)
    with urllib.request.urlopen(request, timeout=20) as text:
        found = re.search(rf'^{name}{{model="thox-nano".*}} (\S+)$', text.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_for(device: Device, name: str, busy: bool) -> None:
    deadline = time.monotonic() + 20
    while bool(metric(device, name)) is not busy:
        assert time.monotonic() < deadline, device.log()[-2000:]
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("NONSENSE\r\n\r\n", 400),
        ("GET /v1/models HTTP/9.9\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nX: " + "a" * 20_000 + "\r\n\r\n", 400),
        ("POST /v1/completions HTTP/1.1\r\n{key}Content-Length: -5\r\n\r\n", 400),
        ("POST /v1/completions HTTP/1.1\r\n{key}Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("POST /v1/completions HTTP/1.1\r\n{key}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi", 415),
        ("GET /v1/models/%00%ff HTTP/1.1\r\n{key}\r\n", 400),
        ("GET /v1/models/../../etc/passwd HTTP/1.1\r\n{key}\r\n", 400),
        ("TRACE /v1/models HTTP/1.1\r\n{key}\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\n{key}\r\n", 404),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_malformed_request_is_answered_in_the_one_shape(device: Device, request_text: str, status: int) -> None:
    head, _, body = exchange(device, request_text).partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    assert b"application/json" in head and json.loads(body)["error"]["code"] == status


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_frees_its_slots(device: Device, stream: bool) -> None:
    client = send(port_of(device), device.key, COMPLETIONS, {**LONG, "stream": stream})
    wait_for(device, "thox_slots_used", busy=True)
    client.close()
    left = time.monotonic()
    wait_for(device, "thox_slots_used", busy=False)
    assert time.monotonic() - left < 2.0


def test_an_old_client_without_keep_alive_gets_its_stream(device: Device) -> None:
    body = json.dumps({"model": "thox-nano", "prompt": "Hello", "max_tokens": 4, "stream": True})
    head = f"POST {COMPLETIONS} HTTP/1.0\r\n{{key}}Content-Type: application/json\r\nContent-Length: {len(body)}"
    assert parse_events(exchange(device, f"{head}\r\n\r\n{body}").partition(b"\r\n\r\n")[2])[-1] == "[DONE]"


def test_many_clients_at_once_are_all_answered(device: Device) -> None:
    def ask(number: int) -> str:
        body = {"model": "thox-nano", "messages": [{"role": "user", "content": f"{number}?"}], "max_tokens": 8}
        headers = {**device.headers, "Content-Type": "application/json", "X-Request-ID": f"many-{number}"}
        url = f"{device.inference}/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["finish_reason"] in ("stop", "length")
            return str(answer.headers["X-Request-ID"])

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24))) == [f"many-{number}" for number in range(24)]
    assert "request_id=many-7" in device.log()
