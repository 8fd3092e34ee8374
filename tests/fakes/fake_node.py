"""A node without models for tests of the server: ``python fake_node.py`` serves it as ``thox run`` serves the real one.

GET /stream never ends, /wait ends when the node closes, a chat says "tick" for ever; anything else says which app
answered.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent import log
from agent.config import Config, load, make_state_dir
from agent.server import Wsgi, check_ports, serve


class FakeNode:
    """Two apps that know their names, and a trace of the node's life in the state directory."""

    def __init__(self, config: Config) -> None:
        self._trace = config.state_dir / "trace"
        self._closing = threading.Event()
        self.apps: Mapping[int, Wsgi] = {
            config.server.inference_port: self._app("inference"),
            config.server.cluster_port: self._app("cluster"),
        }

    def start(self) -> None:
        self._note("start")

    def close(self) -> None:
        self._closing.set()
        self._note("close")

    def _note(self, event: str) -> None:
        with self._trace.open("a") as trace:
            trace.write(f"{event} {os.getpid()}\n")

    def _app(self, name: str) -> Wsgi:
        def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Type", "application/json")])
            if environ["PATH_INFO"] == "/stream":
                return self._stream()
            if environ["PATH_INFO"] == "/v1/chat/completions":
                return self._chat()
            if environ["PATH_INFO"] == "/wait":
                self._closing.wait(60)
            return [json.dumps({"app": name, "pid": os.getpid(), "script": environ["SCRIPT_NAME"]}).encode()]

        return app

    def _chat(self) -> Iterator[bytes]:
        chunk = {"choices": [{"index": 0, "delta": {"content": "tick\x1b[2J "}}]}
        try:
            while not self._closing.wait(0.02):
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        finally:
            self._note("stream ended")

    def _stream(self) -> Iterator[bytes]:
        try:
            while not self._closing.is_set():
                yield b"x" * 65536
        finally:
            self._note("stream ended")


if __name__ == "__main__":
    config = load()
    log.setup(config.log.level, config.log.format)
    make_state_dir(config)
    check_ports(config)
    serve(config, FakeNode)
