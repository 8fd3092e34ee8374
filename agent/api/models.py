"""The routes of model management, on both ports: what is there, load, unload, pull, copy, delete."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain

from flask import Blueprint, Response, g, jsonify, request

from agent.api import schema_models as schema
from agent.api import sse
from agent.api.connection import ClientGone
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.render import dumps
from agent.api.schema_json import read_json
from agent.errors import PermissionDeniedError, ThoxError
from agent.models.checkpoint import StoredModel
from agent.models.host import ModelHost
from agent.models.lease import HostedModel
from agent.models.pull import Progress, Puller
from agent.models.store import ModelStore

_LOADED_WITHIN_S = 600.0  # longer than any client waits; past it the load goes on, and the answer is 503


def models_blueprint(host: ModelHost, store: ModelStore, puller: Puller) -> Blueprint:
    """Routes under /v1/models; both apps may be given the same blueprint."""
    blueprint = Blueprint("models", __name__)

    @blueprint.get("/v1/models")
    @requires("inference", "models", "cluster")
    @describes("The models on this device, and their other names", schema.LIST_ANSWER)
    def list_models() -> Response:
        models = {model.name: model for model in store.models()}
        data = [_model(name, model, host.state(name)) for name, model in models.items()]
        for alias, target in store.aliases().items():
            if alias not in models and target in models:
                data.append(_model(alias, models[target], host.state(target)))
        return jsonify(object="list", data=data)

    @blueprint.get("/v1/models/<path:model>")
    @requires("inference", "models", "cluster")
    @describes("One model, by its name or another name for it", schema.MODEL_ANSWER, errors=(400, 404))
    def get_model(model: str) -> Response:
        found = store.find(model)
        return jsonify(_model(model, found, host.state(found.name)))

    @blueprint.post("/v1/models/load")
    @requires("models")
    @describes("Load a model into memory", schema.STATE_ANSWER, body=schema.LOAD_FIELDS, errors=(404, 503, 507))
    def load_model() -> Response:
        body = read_json(request)
        name, options = schema.MODEL.of(body), schema.OPTIONS.of(body)
        wait_s = _LOADED_WITHIN_S if schema.WAIT.of(body) else None
        return jsonify(_state(host.load(name, options, wait_s)))

    @blueprint.post("/v1/models/unload")
    @requires("models")
    @describes("Free the memory of a model", schema.STATE_ANSWER, body=schema.UNLOAD_FIELDS, errors=(404, 503))
    def unload_model() -> Response:
        body = read_json(request)
        name, wait_s, cancel = schema.MODEL.of(body), schema.WAIT_S.of(body), schema.CANCEL.of(body)
        return jsonify(_state(host.unload(name, wait_s, cancel)))

    @blueprint.post("/v1/models/pull")
    @requires("models")
    @describes("Download a model", schema.PULL_ANSWER, body=schema.PULL_FIELDS, stream=True, errors=(404, 503, 507))
    def pull_model() -> Response:
        body = read_json(request)
        model, name, stream = schema.PULLED.of(body), schema.LOCAL_NAME.of(body), schema.STREAM.of(body)
        steps = _steps(puller, model, name)
        if stream:
            first = next(steps)  # what goes wrong before any byte came has a status of its own
            response = Response(_events(first, steps), headers=sse.HEADERS, mimetype=sse.MIMETYPE)
            response.call_on_close(steps.close)
            return response
        total = 0
        for step in steps:
            total = step.total
            if g.connection.gone():
                steps.close()
                raise ClientGone
        return jsonify(status="success", model=name or model, bytes=total)

    @blueprint.post("/v1/models/copy")
    @requires("models")
    @describes("Give a model a further name", schema.MODEL_ANSWER, body=schema.COPY_FIELDS, errors=(404,))
    def copy_model() -> Response:
        body = read_json(request)
        destination = schema.DESTINATION.of(body)
        model = store.alias(schema.SOURCE.of(body), destination)
        return jsonify(_model(destination, model, host.state(model.name)))

    @blueprint.delete("/v1/models/<path:model>")
    @requires("models")
    @describes("Delete a model, or a further name of one", schema.DELETE_ANSWER, errors=(400, 404))
    def delete_model(model: str) -> Response:
        if store.remove(model) is not None:
            host.discard(model)
        return jsonify(id=model, object="model", deleted=True)

    return blueprint


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
    try:
        for step in chain((first,), rest):
            event = {"status": step.status, "completed": step.completed, "total": step.total}
            yield b"data: " + dumps(event) + b"\n\n"
    except ThoxError as error:
        yield b"data: " + dumps(error.to_json()) + b"\n\n"
    else:
        yield b"data: [DONE]\n\n"


def _model(name: str, model: StoredModel, hosted: HostedModel) -> dict[str, object]:
    """OpenAI's four fields and ours. ``name`` is the one that was asked for, ``root`` the model's own."""
    status = hosted.status
    shown: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "thox" if model.builtin else "local",
        "kind": model.kind,
        "state": "broken" if model.broken else hosted.state,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "bytes": model.bytes,
        "context_length": model.context_length if status is None else status.context_length,
        "modified": model.modified,
        "digest": model.short,
        "source": model.source,
        "root": model.name,
    }
    if model.broken or hosted.error:
        shown["error"] = model.broken or hosted.error
    return shown


def _state(hosted: HostedModel) -> dict[str, object]:
    shown: dict[str, object] = {"model": hosted.name, "state": hosted.state, "seconds": round(hosted.seconds, 3)}
    if hosted.status is not None:
        shown["context_length"] = hosted.status.context_length
        shown["slots"] = hosted.status.slots
    return shown
