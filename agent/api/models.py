"""Model management over HTTP, the same on both ports: list, show, load, unload, pull, copy, delete, prune."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Blueprint, Response, g, jsonify, request

from agent.api import schema_models as schema
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.pulls import add_pull_routes
from agent.api.render_models import details_object, model_object, state_object, usage_object
from agent.api.schema_json import read_json
from agent.models.details import describe
from agent.models.disk import Disk
from agent.models.host import ModelHost
from agent.models.pull import Puller
from agent.models.store import ModelStore

_LOADED_WITHIN_S = 600.0  # longer than any client waits; past it the load goes on, and the answer is 503


def models_blueprint(
    host: ModelHost, store: ModelStore, puller: Puller, disk: Disk, nodes_with: Callable[[str], Sequence[str]]
) -> Blueprint:
    """Routes under /v1/models; both apps may be given the same blueprint. ``nodes_with``: ids of the nodes of the stack
    that told they have a model of this name."""
    blueprint = Blueprint("models", __name__)
    _add_memory_routes(blueprint, host)
    _add_disk_routes(blueprint, host, store, disk)
    add_pull_routes(blueprint, puller)

    @blueprint.get("/v1/models")
    @requires("inference", "models", "cluster")
    @describes("The models on this device, and their other names", schema.LIST_ANSWER)
    def list_models() -> Response:
        models = {model.name: model for model in store.models()}
        names = {name: name for name in models}
        names.update({name: target for name, target in store.aliases().items() if name not in models})
        data = [
            {**model_object(name, models[target], host.state(target)), "nodes": list(nodes_with(target))}
            for name, target in names.items()
            if target in models
        ]
        return jsonify(object="list", data=data)

    @blueprint.get("/v1/models/<path:model>")
    @requires("inference", "models", "cluster")
    @describes("One model in detail, by its name or another name for it", schema.SHOW_ANSWER, errors=(400, 404))
    def get_model(model: str) -> Response:
        found = store.find(model)
        needed = None if found.broken else host.needed(found)
        path = str(found.path) if g.key.allows("models") else None
        details = details_object(describe(found), needed, host.memory_free(), path)
        return jsonify({**model_object(model, found, host.state(found.name)), **details})

    return blueprint


def _add_memory_routes(blueprint: Blueprint, host: ModelHost) -> None:
    @blueprint.post("/v1/models/load")
    @requires("models")
    @describes("Load a model into memory", schema.STATE_ANSWER, body=schema.LOAD_FIELDS, errors=(404, 503, 507))
    def load_model() -> Response:
        body = read_json(request)
        name, options = schema.MODEL.of(body), schema.OPTIONS.of(body)
        wait_s = _LOADED_WITHIN_S if schema.WAIT.of(body) else None
        return jsonify(state_object(host.load(name, options, wait_s)))

    @blueprint.post("/v1/models/unload")
    @requires("models")
    @describes("Free the memory of a model", schema.STATE_ANSWER, body=schema.UNLOAD_FIELDS, errors=(404, 503))
    def unload_model() -> Response:
        body = read_json(request)
        name, wait_s, cancel = schema.MODEL.of(body), schema.WAIT_S.of(body), schema.CANCEL.of(body)
        return jsonify(state_object(host.unload(name, wait_s, cancel)))


def _add_disk_routes(blueprint: Blueprint, host: ModelHost, store: ModelStore, disk: Disk) -> None:
    @blueprint.post("/v1/models/copy")
    @requires("models")
    @describes(
        "Make a model of its own of the same files", schema.MODEL_ANSWER, body=schema.COPY_FIELDS, errors=(404, 507)
    )
    def copy_model() -> Response:
        body = read_json(request)
        destination = schema.DESTINATION.of(body)
        model = store.copy(schema.SOURCE.of(body), destination)
        return jsonify(model_object(destination, model, host.state(model.name)))

    @blueprint.post("/v1/models/alias")
    @requires("models")
    @describes("Give a model a further name", schema.MODEL_ANSWER, body=schema.COPY_FIELDS, errors=(404,))
    def alias_model() -> Response:
        body = read_json(request)
        destination = schema.DESTINATION.of(body)
        model = store.alias(schema.SOURCE.of(body), destination)
        return jsonify(model_object(destination, model, host.state(model.name)))

    @blueprint.delete("/v1/models/<path:model>")
    @requires("models")
    @describes("Delete a model, or a further name of one", schema.DELETE_ANSWER, errors=(400, 404))
    def delete_model(model: str) -> Response:
        removed = store.remove(model)
        if removed is not None:
            host.discard(removed.name)
            disk.forget(removed)
        return jsonify(id=model, object="model", deleted=True)

    @blueprint.get("/v1/models/usage")
    @requires("models")
    @describes("What the models take on disk", schema.USAGE_ANSWER)
    def show_usage() -> Response:
        return jsonify(usage_object(disk.usage()))

    @blueprint.post("/v1/models/prune")
    @requires("models")
    @describes("Delete what no model needs", schema.PRUNE_ANSWER, body=schema.PRUNE_FIELDS)
    def prune() -> Response:
        packed = schema.PACKED.of(read_json(request))
        freed = disk.prune(loaded=[hosted.name for hosted in host.states()] if packed else None)
        return jsonify(freed_bytes=freed.packed + freed.blobs, packed_bytes=freed.packed, unused_bytes=freed.blobs)
