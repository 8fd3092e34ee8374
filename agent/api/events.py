"""GET /v1/events: what happens to the stack, as it happens, to clients that may leave or not keep up."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Blueprint, Response, g

from agent.api import schema_cluster as schema
from agent.api import sse
from agent.api.connection import Connection
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.render_events import event_bytes
from agent.cluster.report.event_hub import EventHub, Listening

KEEP_ALIVE_S = 15.0

_HELLO = b"retry: 2000\n\n"  # ms after which a client whose connection broke comes again
_KEEP_ALIVE = b": nothing new\n\n"


def events_blueprint(hub: EventHub, own_id: str) -> Blueprint:
    """``own_id``: of this node."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/v1/events")
    @requires("cluster")
    @describes("What happens to the stack, from now on", schema.EVENTS, media=sse.MIMETYPE, errors=(503,))
    def events() -> Response:
        listening = hub.listen()
        response = Response(stream(hub, listening, own_id, g.connection), headers=sse.HEADERS, mimetype=sse.MIMETYPE)
        response.call_on_close(listening.close)
        return response

    return blueprint


def stream(
    hub: EventHub, listening: Listening, own_id: str, connection: Connection, keep_alive_s: float = KEEP_ALIVE_S
) -> Iterator[bytes]:
    """Until the client leaves or the node stops. The first event is a snapshot, whatever the client saw before."""
    yield _HELLO
    quiet_since = looked = time.monotonic()
    while not hub.closed:
        told = listening.next(sse.LOOK_S)
        now = time.monotonic()
        if now - looked >= sse.LOOK_S:
            looked = now
            if connection.gone():
                return
        if told is not None:
            quiet_since = now
            yield event_bytes(told, own_id)
        elif now - quiet_since >= keep_alive_s:
            quiet_since = now
            yield _KEEP_ALIVE
