"""Pulling models over HTTP: begin or join one, watch it as events or as lines of JSON, cancel it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain

from flask import Blueprint, Response, g, jsonify, request

from agent.api import schema_models as schema
from agent.api import sse
from agent.api.connection import ClientGone
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.render import Object, dumps
from agent.api.render_models import progress_object
from agent.api.schema_json import read_json
from agent.errors import PermissionDeniedError, ThoxError
from agent.models.pull import Progress, Puller

_LINES = "application/x-ndjson"


def add_pull_routes(blueprint: Blueprint, puller: Puller) -> None:
    """GET, POST and DELETE /v1/models/pull."""

    @blueprint.get("/v1/models/pull")
    @requires("models")
    @describes("The pulls on their way", schema.PULLS_ANSWER)
    def list_pulls() -> Response:
        running = sorted(puller.running().items())
        return jsonify(object="list", data=[{"model": name, **progress_object(step)} for name, step in running])

    @blueprint.post("/v1/models/pull")
    @requires("models")
    @describes(
        "Download a model, or join the pull of it that runs",
        schema.PULL_ANSWER,
        body=schema.PULL_FIELDS,
        stream=True,
        lines=True,
        errors=(404, 503, 507),
    )
    def pull_model() -> Response:
        body = read_json(request)
        model, name, stream = schema.PULLED.of(body), schema.LOCAL_NAME.of(body), schema.STREAM.of(body)
        lines = request.accept_mimetypes.best_match([sse.MIMETYPE, _LINES], sse.MIMETYPE) == _LINES
        steps = _steps(puller, model, name)
        if stream or lines:
            first = next(steps)  # what goes wrong before any byte came has a status of its own
            response = Response(
                _lines(first, steps) if lines else _events(first, steps),
                headers=sse.HEADERS,
                mimetype=_LINES if lines else sse.MIMETYPE,
            )
            response.call_on_close(steps.close)
            return response
        total = 0
        for step in steps:
            total = step.total
            if g.connection.gone():  # the pull goes on: who asks again joins it
                steps.close()
                raise ClientGone
        return jsonify(status="success", model=name or model, bytes=total)

    @blueprint.delete("/v1/models/pull")
    @requires("models")
    @describes(
        "End a pull; what came so far is kept for the next one",
        schema.CANCEL_ANSWER,
        body=schema.CANCEL_FIELDS,
        errors=(404,),
    )
    def cancel_pull() -> Response:
        name = schema.MODEL.of(read_json(request))
        puller.cancel(name)
        return jsonify(model=name, status="cancelled")


def _steps(puller: Puller, model: str, name: str | None) -> Generator[Progress, None, None]:
    """A pull, begun by its first step. A folder of the device may only be named by who owns the device."""
    if model.startswith("file:"):
        if not g.key.allows("admin"):
            raise PermissionDeniedError(
                "folders of the device can only be taken in with an admin's key", hint="pull from a registry instead"
            )
        yield from puller.copy(model, name)
    else:
        yield from puller.pull(model)


def _events(first: Progress, rest: Iterable[Progress]) -> Iterator[bytes]:
    """Server-sent events, one for each step, ended as OpenAI's streams are."""
    for step in _told(first, rest):
        yield b"data: " + dumps(step) + b"\n\n"
        if "error" in step:
            return
    yield b"data: [DONE]\n\n"


def _lines(first: Progress, rest: Iterable[Progress]) -> Iterator[bytes]:
    for step in _told(first, rest):
        yield dumps(step) + b"\n"


def _told(first: Progress, rest: Iterable[Progress]) -> Iterator[Object]:
    """Every step as JSON; what goes wrong is the last."""
    try:
        for step in chain((first,), rest):
            yield progress_object(step)
    except ThoxError as error:
        yield error.to_json()
