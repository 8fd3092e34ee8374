"""A small OCI registry over real HTTP: manifests, blobs, ranges, tokens, redirects, and every way to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class FakeRegistry:
    """A context manager. ``manifests`` are by repository:tag, ``blobs`` by digest; the rest are ways to misbehave."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.token = ""  # wanted from every client
        self.redirect = ""  # of blobs: where to
        self.cut_at = 0  # the first answer with a blob breaks off after so many bytes
        self.ranges = True
        self.hold: threading.Event | None = None  # blobs wait for it
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, name: str, folder: Path, title: str = "org.opencontainers.image.title") -> dict[str, Any]:
        """Publish a folder; the manifest is returned, and may be changed and put again."""
        layers = []
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                layers.append(self.layer(file.relative_to(folder).as_posix(), file.read_bytes(), title))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": layers}
        self.put(name, manifest)
        return manifest

    def layer(self, path: str, data: bytes, title: str = "org.opencontainers.image.title") -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        kind = "application/vnd.oci.image.layer.v1.raw"
        return {"mediaType": kind, "digest": digest, "size": len(data), "annotations": {title: path}}

    def put(self, name: str, manifest: object) -> None:
        self.manifests[name] = json.dumps(manifest).encode()

    def _answer(self, call: BaseHTTPRequestHandler) -> None:
        path, headers = call.path, {name.lower(): value for name, value in call.headers.items()}
        self.requests.append((path, headers))
        if path.startswith("/token"):
            self._send(call, 200, json.dumps({"token": self.token}).encode())
        elif path.startswith("/elsewhere/"):
            self._send_blob(call, path.rsplit("/", 1)[1], headers)
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            realm = f'Bearer realm="http://{self.host}/token",service="here"'
            self._send(call, 401, b"{}", {"WWW-Authenticate": realm})
        elif "/manifests/" in path:
            repository, tag = path.removeprefix("/v2/").split("/manifests/")
            data = self.manifests.get(f"{repository}:{tag}")
            self._send(call, 404 if data is None else 200, data or b"{}")
        elif self.redirect:
            self._send(call, 307, b"", {"Location": self.redirect + path.rsplit("/", 1)[1]})
        else:
            self._send_blob(call, path.rsplit("/", 1)[1], headers)

    def _send_blob(self, call: BaseHTTPRequestHandler, digest: str, headers: dict[str, str]) -> None:
        if self.hold is not None:
            self.hold.wait(20)
        data = self.blobs[digest]
        status = 200
        if self.ranges and "range" in headers:
            status, data = 206, data[int(headers["range"].removeprefix("bytes=").rstrip("-")) :]
        if 0 < self.cut_at < len(data):
            cut, self.cut_at = self.cut_at, 0
            call.send_response(status)
            call.send_header("Content-Length", str(len(data)))
            call.end_headers()
            call.wfile.write(data[:cut])
            call.close_connection = True
        else:
            self._send(call, status, data)

    def _send(
        self, call: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str] | None = None
    ) -> None:
        call.send_response(status)
        for name, value in (headers or {}).items():
            call.send_header(name, value)
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        try:
            call.wfile.write(data)
        except OSError:  # the client has left, as it may
            call.close_connection = True
