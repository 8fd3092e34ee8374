"""GET /v1/models and /v1/models/{id}: what is on the device, as OpenAI's SDKs read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

from flask import Blueprint, Response, jsonify

from agent.api import guard, openapi
from agent.api.openapi_answers import MODEL, MODELS
from agent.api.render import Object
from agent.models.checkpoint import StoredModel


class Catalog(Protocol):
    """Which models there are; models.store has it."""

    def models(self) -> list[StoredModel]: ...

    def aliases(self) -> dict[str, str]:
        """Other names, each with the model it stands for."""
        ...

    def find(self, name: str) -> StoredModel:
        """Raises RequestError for what is no name, NotFoundError."""
        ...


def catalog_blueprint(catalog: Catalog) -> Blueprint:
    """The two routes; model management has the others under the same path."""
    blueprint = Blueprint("catalog", __name__)

    @blueprint.get("/v1/models")
    @guard.requires("inference", "models", "cluster")
    @openapi.describes("The models on this device", MODELS)
    def list_models() -> Response:
        others: defaultdict[str, list[str]] = defaultdict(list)
        for alias, name in catalog.aliases().items():
            others[name].append(alias)
        return jsonify(object="list", data=[_model(model.name, model, others) for model in catalog.models()])

    @blueprint.get("/v1/models/<path:model>")
    @guard.requires("inference", "models", "cluster")
    @openapi.describes("One model, by its name or another name for it", MODEL, errors=(400, 404))
    def get_model(model: str) -> Response:
        return jsonify(_model(model, catalog.find(model), {}))

    return blueprint


def _model(name: str, model: StoredModel, others: Mapping[str, list[str]]) -> Object:
    """OpenAI's four fields and our own; ``name`` is the one that was asked for."""
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "thox" if model.builtin else "local",
        "kind": model.kind,
        "parameters": model.parameters,
        "context_length": model.context_length or None,
        "aliases": sorted(others.get(name, ())),
        "broken": model.broken or None,
    }
