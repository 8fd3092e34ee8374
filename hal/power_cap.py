"""The agent's side of the power helper: a PowerCap that asks the small server that runs as root."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import NamedTuple

from hal.base import HardwareError, MissingPartError

SOCKET = Path("/run/thox/power.sock")
PACKET_BYTES = 4096
MOST_W = 1000.0
PATIENCE_S = 2.0  # the helper waits for nothing, but the machine may be busy


class _Answer(NamedTuple):
    steps_w: list[float]
    worst_w: float


class HelperPowerCap:
    """Connects again by itself when the helper was restarted. Safe to use from several threads.

    Raises MissingPartError when there is no helper, or it turns this user away; every call raises HardwareError then.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        try:
            self._steps = tuple(sorted(self._ask("look").steps_w))
        except HardwareError:
            self.close()
            raise

    @property
    def floor_w(self) -> float:
        return self._steps[0]

    @property
    def peak_w(self) -> float:
        return self._steps[-1]

    @property
    def steps_w(self) -> tuple[float, ...]:
        return self._steps

    def apply(self, watts: float) -> float:
        return self._ask("apply", watts=max(0.0, watts)).worst_w

    def applied(self) -> float:
        return self._ask("look").worst_w

    def feed(self, ttl_s: float) -> None:
        self._ask("feed", ttl_s=ttl_s)

    def close(self) -> None:
        with self._lock:
            self._hang_up()

    def _ask(self, action: str, **figures: float) -> _Answer:
        packet = json.dumps({"do": action, **figures}).encode()
        with self._lock:
            try:
                try:
                    answer = self._exchange(packet)
                except (BrokenPipeError, ConnectionResetError):
                    answer = self._exchange(packet)  # the helper was restarted since we last asked
            except OSError as error:
                self._hang_up()
                raise MissingPartError(
                    f"the power helper does not answer at {self._path}: {error.strerror or error}",
                    "systemctl status thox-power; its socket is for the group thox",
                ) from error
        try:
            fields = json.loads(answer)
            if "error" in fields:
                raise HardwareError(f"the power helper refused to {action}: {fields['error']}")
            told = _Answer([float(step) for step in fields["steps_w"]], float(fields["worst_w"]))
            if not told.steps_w or not all(0 < step < MOST_W for step in told.steps_w):
                raise ValueError("no steps")
            return told
        except (ValueError, KeyError, TypeError) as error:
            raise HardwareError("the power helper's answer is none", "agent and helper are of one version?") from error

    def _exchange(self, packet: bytes) -> bytes:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.settimeout(PATIENCE_S)
            try:
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                raise
            self._socket = connection
        try:
            self._socket.send(packet)
            answer = self._socket.recv(PACKET_BYTES)
        except OSError:
            self._hang_up()
            raise
        if not answer:
            self._hang_up()
            raise ConnectionResetError("it hung up")
        return answer

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
