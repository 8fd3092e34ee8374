"""An HTTP proxy that knows CONNECT. Every name leads to one port of this machine: no name service is asked."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from types import TracebackType


class FakeProxy:
    """A context manager. ``asked`` are the addresses that clients wanted to be connected to."""

    def __init__(self, to_port: int, account: str = "") -> None:
        self.asked: list[str] = []
        proxy, wanted = self, base64.b64encode(account.encode()).decode()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method, address, _ = self.rfile.readline().decode().split()
                headers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                proxy.asked.append(address)
                if method != "CONNECT" or (account and headers.get("proxy-authorization") != f"Basic {wanted}"):
                    self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    return
                with socket.create_connection(("127.0.0.1", to_port)) as there:
                    self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                    back = threading.Thread(target=_copy, args=(there, self.connection))
                    back.start()
                    _copy(self.connection, there)
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeProxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one side has left
        pass
