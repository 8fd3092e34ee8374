"""The server around the node: two ports, one worker, and what happens when clients or the worker misbehave."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import two_free_ports
from running_server import ROOT, Running, until

from agent.server import CrashPace


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(
        tmp_path_factory.mktemp("server"),
        THOX_SERVER_SEND_TIMEOUT_S="1",
        THOX_SERVER_RECEIVE_TIMEOUT_S="1",
        THOX_SERVER_THREADS="4",
    ) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{other}\r\n",
        "GET http://127.0.0.1:{other}/ HTTP/1.1\r\nHost: thox.local\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: b:{other}\r\nX-Forwarded-Port: {other}\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nServer-Port: {other}\r\nSERVER_PORT: {other}\r\nScript-Name: /x\r\n",
        "GET / HTTP/1.0\r\n",
    ],
)
def test_the_port_that_took_the_connection_chooses_the_app_whatever_the_headers_say(shared: Running, head: str) -> None:
    for port, other, name in (
        (shared.inference, shared.cluster, "inference"),
        (shared.cluster, shared.inference, "cluster"),
    ):
        answer = shared.raw(port, (head.format(other=other) + "Connection: close\r\n\r\n").encode())
        body = json.loads(answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1 if b"chunked" in answer else 0])
        assert body["app"] == name and body["script"] == ""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"not http at all\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(200)) + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: wrong\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: y\r\n\r\n",
    ],
)
def test_what_is_no_proper_request_gets_an_error_of_the_one_shape(shared: Running, request_bytes: bytes) -> None:
    head, _, body = shared.raw(shared.inference, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    error = json.loads(body)["error"]
    assert error["code"] == 400 and error["type"] == "invalid_request_error" and error["message"]


def test_no_control_socket_is_opened_and_no_signal_makes_a_second_worker(shared: Running) -> None:
    shared.process.send_signal(signal.SIGTTIN)
    until(lambda: "one worker is all there is" in shared.log())  # the master opens that socket before it sees signals
    listening = {
        fields[6]
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "00010000"
    }
    workers = Path(f"/proc/{shared.process.pid}/task/{shared.process.pid}/children").read_text().split()
    assert len(workers) == 1
    for pid in [str(shared.process.pid), *workers]:
        links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        sockets = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
        assert sockets and not sockets & listening


def test_a_client_that_never_reads_is_cut_off_and_its_thread_is_free_again(shared: Running) -> None:
    before = shared.trace().count("stream ended")
    with socket.create_connection(("127.0.0.1", shared.inference)) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: shared.trace().count("stream ended") == before + 1)
    assert "Traceback" not in shared.log()


def test_a_client_that_stops_in_the_middle_of_its_headers_is_cut_off(shared: Running) -> None:
    with socket.create_connection(("127.0.0.1", shared.inference), timeout=15) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert client.recv(1) == b""
    assert "Traceback" not in shared.log()


def test_clients_that_do_not_hang_up_after_their_answer_keep_nobody_waiting(own: Running) -> None:
    lingering = []
    began = time.monotonic()
    try:
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", own.inference), timeout=15)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(65536)
            lingering.append(client)
        own.get(own.inference, "/")
        assert time.monotonic() - began < 5  # gunicorn waits up to two seconds for each, in the loop that accepts
    finally:
        for client in lingering:
            client.close()


def test_sigterm_lets_an_answer_end_and_stops_within_seconds_though_an_idle_client_stays(own: Running) -> None:
    with socket.create_connection(("127.0.0.1", own.inference), timeout=15) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        with socket.create_connection(("127.0.0.1", own.cluster)):
            until(lambda: own.get(own.cluster, "/")["app"] == "cluster")
            assert own.stop(signal.SIGTERM) < 9
        assert b'"app": "inference"' in client.recv(65536)
    assert own.trace() == ["start", "close"]
    for port in (own.inference, own.cluster):
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_stop_the_server_as_well(tmp_path: Path, sig: signal.Signals) -> None:
    running = Running(tmp_path)
    try:
        os.kill(running.get(running.inference, "/")["pid"], signal.SIGINT)  # the terminal sends it to both
        assert running.stop(sig) < 5
        assert running.trace() == ["start", "close"]
    finally:
        running.kill()


def test_a_worker_that_is_killed_is_replaced_and_no_client_is_refused_meanwhile(own: Running) -> None:
    first = own.get(own.inference, "/")["pid"]
    os.kill(first, signal.SIGKILL)
    seen: set[int] = set()
    deadline = time.monotonic() + 15
    while not seen - {first} and time.monotonic() < deadline:
        try:
            seen.add(own.get(own.inference, "/")["pid"])
        except (ConnectionResetError, http.client.RemoteDisconnected):
            continue  # it was in the hands of the worker that died
    assert len(seen - {first}) == 1
    assert own.trace() == ["start", "start"]
    own.stop()


def test_a_worker_that_keeps_dying_is_started_less_often_and_soon_again_once_it_lives() -> None:
    pace = CrashPace()
    tries = [now * 0.5 for now in range(120)]  # one minute in which every start dies at once
    starts = [now for now in tries if pace.may_start(now)]
    assert starts == [0.0, 0.5, 1.0, 1.5, 2.0, 12.0, 22.0, 32.0, 42.0, 52.0]
    assert pace.may_start(200.0) and pace.may_start(200.5)


def test_a_port_that_is_taken_is_said_before_anything_else(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ = {"THOX_STATE_DIR": str(tmp_path), "THOX_CLUSTER_PORT": str(port)}
        environ["THOX_INFERENCE_PORT"] = str(two_free_ports()[0])
        done = subprocess.run(
            [sys.executable, "-m", "agent", "run"],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in done.stderr and "THOX_CLUSTER_PORT" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "documents.json").exists()


def test_streams_on_every_inference_thread_do_not_keep_the_cluster_waiting(shared: Running) -> None:
    # The last test on this server: its inference threads stay taken.
    streams = []
    for _ in range(6):  # two more than there are threads
        client = socket.create_connection(("127.0.0.1", shared.inference), timeout=15)
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        streams.append(client)
    try:
        assert shared.get(shared.cluster, "/")["app"] == "cluster"
    finally:
        for client in streams:
            client.close()
