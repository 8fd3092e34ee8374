"""The app of port 8080 over a scripted engine, with everything else real; and a server of sockets for it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_engine import ScriptedEngine
from fake_models import write_checkpoint
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from agent.api.inference import make_inference_app
from agent.api.models import models_blueprint
from agent.auth import KeyRing
from agent.cluster.documents.settings import SharedSettings
from agent.cluster.documents.store import open_documents
from agent.config import Config, LimitsConfig, ServerConfig
from agent.models.disk import Disk
from agent.models.host import ModelHost
from agent.models.pull import Puller
from agent.models.store import ModelStore
from agent.ratelimit import RateLimiter
from agent.telemetry import Telemetry

MODEL = "tiny"
UNLIMITED = LimitsConfig(inference_per_minute=0)
DEFAULT = ServerConfig()
ALL = ("inference", "models", "cluster", "power", "admin")


@dataclass(frozen=True)
class Api:
    """The app and what stands behind it."""

    app: Flask
    engine: ScriptedEngine
    host: ModelHost
    keys: KeyRing
    key: str

    def call(self, method: str, path: str, body: object = None, **headers: str) -> TestResponse:
        """One request with the owner's key, unless a header says otherwise (``Authorization=""``: none)."""
        sent = {"Authorization": f"Bearer {self.key}", **{name.replace("_", "-"): v for name, v in headers.items()}}
        sent = {name: value for name, value in sent.items() if value}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        return self.app.test_client().open(path, method=method, data=data, headers=sent, buffered=True)

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """The JSON of a successful POST."""
        response = self.call("POST", path, {"model": MODEL, **body})
        assert response.status_code == 200, response.get_data(as_text=True)
        answer: dict[str, Any] = response.get_json()
        return answer

    def chat(self, content: str = "Hello!", /, **fields: object) -> dict[str, Any]:
        return self.post("/v1/chat/completions", messages=[{"role": "user", "content": content}], **fields)

    def refused(self, path: str, status: int = 400, /, **body: object) -> dict[str, Any]:
        """The error object of a POST that must fail with this status."""
        response = self.call("POST", path, {"model": MODEL, **body})
        assert response.status_code == status, response.get_data(as_text=True)
        error: dict[str, Any] = response.get_json()["error"]
        return error

    def stream(self, path: str, **body: object) -> list[Any]:
        """The events of a streamed answer, parsed; the last one is the string [DONE], where it came."""
        response = self.call("POST", path, {"model": MODEL, "stream": True, **body})
        assert response.status_code == 200, response.get_data(as_text=True)
        assert response.mimetype == "text/event-stream"
        return parse_events(response.get_data())


def parse_events(data: bytes) -> list[Any]:
    lines = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


@contextlib.contextmanager
def open_api(
    state_dir: Path,
    engine: ScriptedEngine,
    limits: LimitsConfig = UNLIMITED,
    server: ServerConfig = DEFAULT,
) -> Iterator[Api]:
    """Everything of port 8080 but the engine is real; without a rate limit unless a test wants one."""
    config = Config(state_dir=state_dir, limits=limits, server=server)
    store = ModelStore(state_dir, {MODEL: write_checkpoint(state_dir / "tiny")}, {"gpt/4o:mini": MODEL})
    host = ModelHost(store, lambda _model, _options, _report: engine, available=lambda: 1 << 40)
    documents = open_documents(state_dir)
    keys, settings = KeyRing(state_dir, documents), SharedSettings(documents, config)
    _, key = keys.create("owner", ALL)
    puller = Puller(store)
    models = models_blueprint(host, store, puller, Disk(store, puller.blobs, state_dir / "cache"), lambda _model: ())
    limiter, telemetry = RateLimiter(), Telemetry()
    app = make_inference_app(host, keys, limiter, telemetry, config, [models], lambda: settings.now().limits)
    try:
        host.load(MODEL)
        yield Api(app, engine, host, keys, key)
    finally:
        host.close()


class _Handler(WSGIRequestHandler):
    """As gunicorn does: HTTP/1.1, and the client's socket in the environment."""

    protocol_version = "HTTP/1.1"

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "gunicorn.socket": self.connection}

    def log(self, type: str, message: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(app: Flask) -> Iterator[int]:
    """Serve the app on a port of loopback; gives the port."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def send(port: int, key: str, path: str, body: object, receive_buffer: int | None = None) -> socket.socket:
    """A raw client that has sent its request and reads nothing yet."""
    data = json.dumps(body).encode()
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    client.sendall(head.encode() + data)
    return client
