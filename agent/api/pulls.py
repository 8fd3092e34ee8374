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
from agent.models.pull import Puller
from agent.models.pull_local import default_name
from agent.models.pull_name import local_path

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
        last: Object = {}
        for step in steps:
            last = step
            if g.connection.gone():  # the pull goes on: who asks again joins it
                steps.close()
                raise ClientGone
        return jsonify(status="success", model=last["model"], bytes=last["total"])

    @blueprint.delete("/v1/models/pull")
    @requires("models")
    @describes(
        "End a pull; what came so far is kept for the next one",
        schema.CANCEL_ANSWER,
        body=schema.CANCEL_FIELDS,
        errors=(404,),
    )
    def cancel_pull() -> Response:
        name = puller.named(schema.MODEL.of(read_json(request)))
        puller.cancel(name)
        return jsonify(model=name, status="cancelled")


def _steps(puller: Puller, model: str, name: str | None) -> Generator[Object, None, None]:
    """A pull, begun by its first step, as JSON. A folder of the device may only be named by who owns the device."""
    if model.startswith("file:"):
        if not g.key.allows("admin"):
            raise PermissionDeniedError(
                "folders and files of the device can only be taken in with a key that has the permission admin",
                hint="show the owner's key or one of `thox key create NAME --permissions admin`, "
                "or put the folder into the models of the state folder",
            )
        name = default_name(local_path(model)) if name is None else name
        steps = puller.copy(model, name)
    else:
        steps = puller.pull(model)
        name = puller.named(model)
    for step in steps:
        yield {**progress_object(step), "model": name}


def _events(first: Object, rest: Iterable[Object]) -> Iterator[bytes]:
    """Server-sent events, one for each step, ended as OpenAI's streams are."""
    for step in _told(first, rest):
        yield b"data: " + dumps(step) + b"\n\n"
        if "error" in step:
            return
    yield b"data: [DONE]\n\n"


def _lines(first: Object, rest: Iterable[Object]) -> Iterator[bytes]:
    for step in _told(first, rest):
        yield dumps(step) + b"\n"


def _told(first: Object, rest: Iterable[Object]) -> Iterator[Object]:
    """Every step; what goes wrong is the last."""
    try:
        yield from chain((first,), rest)
    except ThoxError as error:
        yield error.to_json()
