"""JSON in frames over a TLS connection: four bytes of length, big-endian, and UTF-8. Bounded in size and in time."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Final

from agent.errors import UnavailableError

Json = dict[str, Any]
FRAME_BYTES: Final = 1 << 20


class LinkError(UnavailableError):
    """A connection to another device cannot be made, broke, or said what it may not. Worth another try later."""

    type = "link_error"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, retry_after=1.0, hint=hint)


class Deadline:
    """An end for a whole exchange, however slowly its bytes come."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, more than 0. Raises LinkError when the time is over."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise LinkError("The other device did not answer in time")
        return left


def encode_frame(body: Json, limit: int = FRAME_BYTES) -> bytes:
    """Raises LinkError when it is too long."""
    data = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > limit:
        raise LinkError(f"{len(data)} bytes are too many for a frame: {limit} is the most")
    return len(data).to_bytes(4, "big") + data


def send_frame(connection: socket.socket, body: Json, deadline: Deadline) -> None:
    send_bytes(connection, encode_frame(body), deadline)


def receive_frame(connection: socket.socket, deadline: Deadline, limit: int = FRAME_BYTES, head: bytes = b"") -> Json:
    """``head``: what was read of it already. Raises LinkError for a frame that is too long or no JSON object."""
    length = int.from_bytes(head + receive_bytes(connection, 4 - len(head), deadline), "big")
    if length > limit:
        raise LinkError(f"The other device sends a frame of {length} bytes: {limit} is the most")
    data = receive_bytes(connection, length, deadline)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LinkError("The other device sends a frame that is no JSON") from error
    if not isinstance(body, dict):
        raise LinkError("The other device sends a frame that is no object")
    return body


def send_bytes(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    try:
        connection.settimeout(deadline.left())
        connection.sendall(data)
    except OSError as error:  # TLS errors and timeouts are OSErrors, too
        raise LinkError("The connection to the other device broke") from error


def receive_bytes(connection: socket.socket, count: int, deadline: Deadline) -> bytes:
    """Exactly so many. Memory grows with what has come, not with what was announced."""
    data = bytearray()
    while len(data) < count:
        try:
            connection.settimeout(deadline.left())
            piece = connection.recv(min(count - len(data), 65536))
        except OSError as error:
            raise LinkError("The connection to the other device broke") from error
        if not piece:
            raise LinkError("The other device closed the connection")
        data += piece
    return bytes(data)
