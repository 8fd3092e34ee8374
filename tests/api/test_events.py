"""GET /v1/events over HTTP: shapes, clients that leave, and a device that stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]
import pytest
import real_device
from cluster_app import Device, open_device
from inference_app import serve
from touching_stack import until

from agent.api import schema_cluster
from agent.api.connection import Connection
from agent.api.events import stream
from agent.cluster.report.event_hub import MOST_LISTENERS


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Device]:
    with open_device(tmp_path) as opened:
        opened.service.events.start()
        yield opened


class Listener:
    """A client that reads one event after the other."""

    def __init__(self, port: int, key: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        sent = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        self.connection.request("GET", "/v1/events", headers={**sent, **headers})
        self.response = self.connection.getresponse()

    def next(self) -> tuple[str, dict[str, Any]]:
        """Name and data of the next event."""
        event: dict[str, Any] = {}
        while line := self.response.readline().decode():
            name, _, text = line.rstrip("\n").partition(": ")
            if name in ("id", "event", "data"):
                event[name] = text
            if line == "\n" and "data" in event:
                jsonschema.validate({**event, "id": int(event["id"])}, schema_cluster.EVENTS)
                data = json.loads(event["data"])
                assert data["node"]
                return event["event"], data
        raise EOFError

    def until(self, wanted: str, **fields: object) -> dict[str, Any]:
        """The data of the next event of that name with these fields."""
        while True:
            name, data = self.next()
            if name == wanted and fields.items() <= data.items():
                return data

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def test_a_client_is_told_what_is_true_and_then_what_changes(node: Device) -> None:
    with serve(node.app) as port, contextlib.closing(Listener(port, node.key)) as client:
        assert client.response.headers["Content-Type"].startswith("text/event-stream")
        name, snapshot = client.next()
        assert name == "snapshot" and snapshot["node"] == node.service.node_id
        jsonschema.validate(snapshot["cluster"], schema_cluster.CLUSTER)
        jsonschema.validate(snapshot["topology"], schema_cluster.TOPOLOGY)
        assert snapshot["members"] == [
            {"id": snapshot["node"], "status": "healthy", "reason": "", "alert": "", "models": {}}
        ]
        assert snapshot["contracts"] == []
        node.host.load("b")
        client.until("model", id=snapshot["node"], model="b", state="loaded")
        node.sim.fail("thermal")
        assert "thermometers" in client.until("member", status="degraded")["reason"]
        assert client.until("status", status="degraded")["reasons"]
        node.host.unload("b")
        client.until("model", model="b", state="available")


def test_a_client_is_told_of_contracts_that_are_made_and_given_back(node: Device) -> None:
    with serve(node.app) as port, contextlib.closing(Listener(port, node.key)) as client:
        assert client.next()[1]["contracts"] == []
        made = node.post("/v1/power/contract", requested_w=20)
        told = client.until("contract", id=made["id"])
        assert (told["node_id"], told["granted_w"]) == (node.service.node_id, 20.0)
        node.call("DELETE", f"/v1/power/contract/{made['id']}")
        assert client.until("contract", id=made["id"])["granted_w"] is None


def test_a_client_that_comes_again_begins_with_a_snapshot_whatever_it_says_it_saw(node: Device) -> None:
    with serve(node.app) as port, contextlib.closing(Listener(port, node.key, **{"Last-Event-ID": "7"})) as client:
        assert client.next()[0] == "snapshot"


def test_clients_that_leave_make_room_at_once(node: Device) -> None:
    with serve(node.app) as port:
        clients = [Listener(port, node.key) for _ in range(MOST_LISTENERS)]
        try:
            assert [client.next()[0] for client in clients] == ["snapshot"] * MOST_LISTENERS
            with contextlib.closing(Listener(port, node.key)) as refused:
                assert refused.response.status == 503 and refused.response.headers["Retry-After"]
            clients.pop().close()
            left = time.monotonic()

            def taken() -> bool:
                clients.append(Listener(port, node.key))
                return clients[-1].response.status == 200

            until(taken)
            assert time.monotonic() - left < 3.0
        finally:
            for client in clients:
                client.close()


def test_streams_end_when_the_device_stops(node: Device) -> None:
    with serve(node.app) as port, contextlib.closing(Listener(port, node.key)) as client:
        assert client.next()[0] == "snapshot"
        node.service.close()
        with pytest.raises(EOFError):
            while True:
                client.next()
        assert node.call("GET", "/v1/events").status_code == 503


def test_a_quiet_stream_is_kept_alive(node: Device) -> None:
    listening = node.service.events.listen()
    told = stream(node.service.events, listening, node.service.node_id, Connection(None), keep_alive_s=0.05)
    until(lambda: next(told).startswith(b": "))


def test_events_need_the_permission_cluster(node: Device) -> None:
    assert node.call("GET", "/v1/events", key=node.key_for("power", "models")).status_code == 403
    assert node.call("GET", "/v1/events", key="").status_code == 401


def test_the_running_device_streams_what_happens_to_its_hardware(device: real_device.Device) -> None:
    port = urlsplit(device.cluster).port
    assert port is not None
    with contextlib.closing(Listener(port, device.key)) as client:
        name, snapshot = client.next()
        assert name == "snapshot" and snapshot["members"][0]["models"]["thox-nano"] == "loaded"
        assert device.thox("sim", "fail", "thermal").returncode == 0
        try:
            assert "thermometers" in client.until("member", status="degraded")["reason"]
        finally:
            device.thox("sim", "mend", "all")
        client.until("member", status="healthy")
