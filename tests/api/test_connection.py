"""Clients that leave, stall or never read, through real sockets: the answer is closed, and the slot with it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from fake_engine import ScriptedAnswer, ScriptedEngine, Step
from inference_app import Api, open_api, parse_events, send, serve

from agent.api import sse
from agent.api.connection import Connection
from agent.config import ServerConfig
from agent.engine.base import Delta, Request, Usage

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
NOTICED_S = 0.5  # 0.25 s by design; the rest is for a busy machine


def body(path: str, stream: bool) -> dict[str, object]:
    asks: dict[str, object] = {"messages": [{"role": "user", "content": "Hi"}]} if path == CHAT else {"prompt": "Hi"}
    return {"model": "tiny", "stream": stream, **asks}


def first_answer(engine: ScriptedEngine) -> ScriptedAnswer:
    deadline = time.monotonic() + 10
    while not engine.answers:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert engine.answers[0].polled.wait(10)
    return engine.answers[0]


def read_all(client: socket.socket) -> bytes:
    """Everything to the server's end of the connection; closes ours."""
    with client, client.makefile("rb") as file:
        return file.read()


def given_back(api: Api) -> bool:
    deadline = time.monotonic() + 5
    while api.host.state("tiny").leases:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_before_the_first_token_frees_its_slot(
    api: Api, engine: ScriptedEngine, path: str, stream: bool
) -> None:
    never = threading.Event()
    engine.script = lambda _request: [never]
    with serve(api.app) as port:
        client = send(port, api.key, path, body(path, stream))
        answer = first_answer(engine)
        client.close()
        left = time.monotonic()
        assert answer.closed.wait(5)
        assert time.monotonic() - left < NOTICED_S
        assert given_back(api)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_in_mid_answer_frees_its_slot(api: Api, engine: ScriptedEngine, stream: bool) -> None:
    def endless(_request: Request) -> Iterator[Step]:
        for _ in count():
            time.sleep(0.01)  # the pace of a model
            yield Delta(text="word ")

    engine.script = endless
    with serve(api.app) as port:
        client = send(port, api.key, CHAT, body(CHAT, stream))
        answer = first_answer(engine)
        if stream:
            assert client.recv(1000)
        client.close()
        left = time.monotonic()
        assert answer.closed.wait(5)
        assert time.monotonic() - left < NOTICED_S
        assert given_back(api)


def test_a_client_that_stays_gets_its_answer_after_a_long_wait(api: Api, engine: ScriptedEngine) -> None:
    gate = threading.Event()
    engine.script = lambda _request: [gate, Delta(text="late", finish="stop", usage=Usage(1, 1))]
    with serve(api.app) as port:
        client = send(port, api.key, CHAT, body(CHAT, stream=False))
        assert not first_answer(engine).closed.wait(3 * sse.LOOK_S)
        gate.set()
        assert b"late" in read_all(client)


def test_a_client_that_never_reads_is_cut_off(engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.script = lambda _request: (Delta(text="x" * 10_000) for _ in count())
    server = ServerConfig(send_timeout_s=0.4)
    with open_api(tmp_path, engine, server=server) as api, serve(api.app) as port:
        client = send(port, api.key, CHAT, body(CHAT, stream=True), receive_buffer=4096)
        assert first_answer(engine).closed.wait(10)
        assert given_back(api)
        client.close()


def test_a_body_that_stops_half_way_is_refused_in_time(engine: ScriptedEngine, tmp_path: Path) -> None:
    server = ServerConfig(receive_timeout_s=0.3)
    with open_api(tmp_path, engine, server=server) as api, serve(api.app) as port:
        client = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nContent-Length: 500\r\n\r\n{{"
        client.sendall(head.encode())
        answer = read_all(client)
        assert b" 400 " in answer and b"did not arrive whole" in answer


def test_while_nothing_comes_a_comment_keeps_the_connection_alive() -> None:
    gate = threading.Event()
    script: list[Step] = [gate, Delta(text="late", usage=Usage(1, 1))]
    engine = ScriptedEngine(lambda _request: script)
    deltas = sse.pieces(engine.generate(Request("x", ("x",))), Connection(None), keep_alive_s=0.01)
    events = sse.events(next(deltas), deltas, lambda delta: [{"text": delta.text}], lambda _usage: None)
    assert next(events).startswith(b":")
    gate.set()
    rest = b"".join(events)
    assert parse_events(rest) == [{"text": "late"}, "[DONE]"]
