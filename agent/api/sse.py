"""An answer on its way to a client that may leave: piece by piece for whoever collects it, or as server-sent events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from agent.api.connection import ClientGone, Connection
from agent.api.render import Object, dumps
from agent.engine.base import Answer, Delta, Usage
from agent.errors import ThoxError

log = logging.getLogger(__name__)

LOOK_S = 0.2  # how often to look whether the client is still there
KEEP_ALIVE_S = 10.0  # proxies and clients cut a connection on which nothing comes for long

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
MIMETYPE = "text/event-stream"

_KEEP_ALIVE = b": the answer is on its way\n\n"
_DONE = b"data: [DONE]\n\n"


def pieces(answer: Answer, connection: Connection, keep_alive_s: float = KEEP_ALIVE_S) -> Iterator[Delta | None]:
    """Every piece to the last; None whenever nothing came for ``keep_alive_s``.

    Raises ClientGone within ``LOOK_S`` of the client's leaving, wherever its answer stands: in the waiting line, in
    prefill, or between two tokens.
    """
    quiet_since = looked = time.monotonic()
    while True:
        delta = answer.poll(LOOK_S)
        now = time.monotonic()
        if now - looked >= LOOK_S:
            looked = now
            if connection.gone():
                raise ClientGone
        if delta is not None:
            quiet_since = now
            yield delta
            if delta.usage is not None:
                return
        elif now - quiet_since >= keep_alive_s:
            quiet_since = now
            yield None


def events(
    first: Delta | None,
    rest: Iterable[Delta | None],
    chunks: Callable[[Delta], Iterable[Object]],
    done: Callable[[Usage], None],
) -> Iterator[bytes]:
    """Server-sent events of an answer whose first piece has come; ``done`` gets the usage before the last event.

    The status line has been sent, so an error becomes an event; the missing [DONE] says, too, that this is not all.
    """
    try:
        for delta in chain((first,), rest):
            if delta is not None and delta.usage is not None:
                done(delta.usage)
            event = _event(delta, chunks)
            if event:
                yield event
    except ThoxError as error:
        log.warning("the answer broke in mid-stream: %s", error.message)
        yield b"data: " + dumps(error.to_json()) + b"\n\n"
    except ClientGone:
        return
    else:
        yield _DONE


def _event(delta: Delta | None, chunks: Callable[[Delta], Iterable[Object]]) -> bytes:
    if delta is None:
        return _KEEP_ALIVE
    return b"".join(b"data: " + dumps(chunk) + b"\n\n" for chunk in chunks(delta))
