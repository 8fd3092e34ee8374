"""An HTTP server that hands out bytes, and every way in which servers of large files misbehave."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from typing_extensions import Self


class FaultyServer:
    """A context manager on a free port of this machine. The attributes are ways to misbehave.

    Whoever derives from it answers in ``answer``, with ``send`` and ``send_file``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.cut_every = 0  # files break off after so many bytes, each time
        self.cuts = 1_000_000  # so often at most
        self.cut_for_good = False  # after the first cut the server is down
        self.down = False
        self.ranges = True
        self.off_by = 0  # ranges begin so many bytes later than asked
        self.busy: list[tuple[int, str]] = []  # status and Retry-After of the next answers
        self.lie = 0  # added to Content-Length of files
        self.no_length = False  # files end when the connection does
        self.hold: threading.Event | None = None  # files wait for it
        self.drip: threading.Event | None = None  # a byte every hundredth of a second, until it is set
        self.asked = threading.Semaphore(0)  # released when a file is asked for
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def do_HEAD(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients leave, and do not trust us: both are what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for event in (self.hold, self.drip):
            if event is not None:
                event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def answer(self, call: BaseHTTPRequestHandler, path: str, headers: dict[str, str]) -> None:
        raise NotImplementedError

    def send(
        self, call: BaseHTTPRequestHandler, status: int, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        call.send_response(status)
        for name, value in (headers or {}).items():
            call.send_header(name, value)
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        self._write(call, data)

    def send_file(
        self,
        call: BaseHTTPRequestHandler,
        data: bytes,
        headers: dict[str, str],
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.asked.release()
        if self.hold is not None:
            self.hold.wait(20)
        start, total = 0, len(data)
        if self.ranges and "range" in headers:
            start = int(headers["range"].removeprefix("bytes=").rstrip("-")) + self.off_by
            if start >= total:
                self.send(call, 416, b"no such range", {"Content-Range": f"bytes */{total}"})
                return
        call.send_response(206 if start else 200)
        if start:
            call.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for name, value in (more or {}).items():
            call.send_header(name, value)
        body = data[start:]
        if self.no_length:
            call.send_header("Connection", "close")
        else:
            call.send_header("Content-Length", str(len(body) + self.lie))
        call.end_headers()
        if self.drip is not None:
            for byte in body:
                if self.drip.wait(0.01) or not self._write(call, bytes((byte,))):
                    break
            call.close_connection = True
        elif 0 < self.cut_every < len(body) and self.cuts:
            self.cuts -= 1
            self.down = self.cut_for_good
            self._write(call, body[: self.cut_every])
            call.close_connection = True
        else:
            self._write(call, body)
            if self.lie:
                call.close_connection = True

    def _answer(self, call: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in call.headers.items()}
        self.requests.append((call.path, headers))
        if self.down:
            self.send(call, 503, b"", {"Retry-After": "3600"})
        elif self.busy:
            status, retry_after = self.busy.pop(0)
            self.send(call, status, b"", {"Retry-After": retry_after} if retry_after else {})
        else:
            self.answer(call, call.path, headers)

    def _write(self, call: BaseHTTPRequestHandler, data: bytes) -> bool:
        if call.command == "HEAD":
            return True
        try:
            call.wfile.write(data)
        except OSError:  # the client has left, as it may
            call.close_connection = True
            return False
        return True
