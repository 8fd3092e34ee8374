"""A server process around the fake node, on free loopback ports."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from free_ports import two_free_ports

ROOT = Path(__file__).parents[2]
FAKE_NODE = Path(__file__).parent / "fake_node.py"


def until(what: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


class Running:
    """The server process with a fake node in it."""

    def __init__(self, state_dir: Path, **settings: str) -> None:
        self.state_dir = state_dir
        self.inference, self.cluster = two_free_ports()
        self.environ = {
            "THOX_STATE_DIR": str(state_dir),
            "THOX_INFERENCE_PORT": str(self.inference),
            "THOX_CLUSTER_PORT": str(self.cluster),
            "PYTHONPATH": str(ROOT),
            **settings,
        }
        self.errors = (state_dir / "stderr").open("w+")
        self.process = subprocess.Popen([sys.executable, str(FAKE_NODE)], env=self.environ, stderr=self.errors)
        try:
            until(lambda: self._answers() or self.process.poll() is not None)
            assert self.process.poll() is None, self.log()
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self.get(self.inference, "/"))
        except OSError:
            return False

    def get(self, port: int, path: str, **headers: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            document: dict[str, Any] = json.loads(connection.getresponse().read())
            return document
        finally:
            connection.close()

    def raw(self, port: int, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(data)
            parts = []
            while part := client.recv(65536):
                parts.append(part)
            return b"".join(parts)

    def trace(self) -> list[str]:
        file = self.state_dir / "trace"
        return [line.rpartition(" ")[0] for line in file.read_text().splitlines()] if file.exists() else []

    def log(self) -> str:
        self.errors.flush()
        return (self.state_dir / "stderr").read_text()

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> float:
        """Seconds until the process was gone; asserts that it ended well."""
        began = time.monotonic()
        self.process.send_signal(sig)
        assert self.process.wait(20) == 0, self.log()
        return time.monotonic() - began

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # the worker sees its master go, and goes, too
            self.process.wait(10)
        self.errors.close()
