"""The routes of port 8080 that answer: chat, completions, embeddings, rerank, and what probes ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Blueprint, Flask, Response, g, jsonify, request

from agent.api import guard, openapi
from agent.api import openapi_answers as answers
from agent.api.render import new_id
from agent.api.render_chat import ChatChunks, chat_object
from agent.api.render_completions import CompletionChunks, completion_object, likeliest
from agent.api.render_embeddings import embeddings_object, rerank_object
from agent.api.schema_chat import FIELDS as CHAT_FIELDS
from agent.api.schema_chat import read_chat
from agent.api.schema_completions import FIELDS as COMPLETION_FIELDS
from agent.api.schema_completions import read_completion
from agent.api.schema_embeddings import FIELDS as EMBEDDING_FIELDS
from agent.api.schema_embeddings import read_embedding
from agent.api.schema_json import read_json
from agent.api.schema_rerank import FIELDS as RERANK_FIELDS
from agent.api.schema_rerank import read_rerank
from agent.api.serving import Models, Serving
from agent.api.watching import watching_blueprint
from agent.auth import KeyRing
from agent.config import Config, LimitsConfig
from agent.ratelimit import RateLimiter
from agent.telemetry import Telemetry

_ENGINE_ERRORS = (404, 503, 507)


def make_inference_app(
    models: Models,
    keys: KeyRing,
    limiter: RateLimiter,
    telemetry: Telemetry,
    config: Config,
    blueprints: Iterable[Blueprint] = (),
    limits: Callable[[], LimitsConfig] | None = None,
) -> Flask:
    """The app of port 8080; ``blueprints`` are model management's, which both ports have; ``limits`` those that hold
    now, where they may change."""
    app = Flask("thox-inference", static_folder=None)
    guard.install(app, keys, limiter, "inference", config, telemetry, limits)
    for blueprint in (_answering(models), watching_blueprint(models, telemetry), *blueprints):
        app.register_blueprint(blueprint)
    openapi.serve(app, "Thox device: inference")
    return app


def _answering(models: Models) -> Blueprint:
    blueprint = Blueprint("answering", __name__)

    @blueprint.post("/v1/chat/completions")
    @guard.requires("inference")
    @openapi.describes("Answer a chat", answers.CHAT, body=CHAT_FIELDS, stream=True, errors=_ENGINE_ERRORS)
    def chat() -> Response:
        call = read_chat(read_json(request), new_id("chatcmpl"))
        logprobs, legacy = call.request.sampling.logprobs is not None, call.legacy
        with Serving(models, call.model) as serving:
            head = serving.head(call.request)
            if call.delivery.stream:
                chunks = ChatChunks(head, logprobs=logprobs, legacy=legacy, usage=call.delivery.include_usage)
                return serving.stream(call.request, chunks.of)
            choices, usage = serving.whole(call.request)
        return jsonify(chat_object(head, choices, usage, logprobs=logprobs, legacy=legacy))

    @blueprint.post("/v1/completions")
    @guard.requires("inference")
    @openapi.describes(
        "Continue a text", answers.COMPLETION, body=COMPLETION_FIELDS, stream=True, errors=_ENGINE_ERRORS
    )
    def completions() -> Response:
        call = read_completion(read_json(request), new_id("cmpl"))
        with Serving(models, call.model) as serving:
            head = serving.head(call.request)
            if call.delivery.stream:
                chunks = CompletionChunks(head, logprobs=call.logprobs, usage=call.delivery.include_usage)
                return serving.stream(call.request, chunks.of)
            choices, usage = serving.whole(call.request)
        kept = likeliest(choices, call.request.n, call.keep)
        return jsonify(completion_object(head, kept, usage, logprobs=call.logprobs))

    @blueprint.post("/v1/embeddings")
    @guard.requires("inference")
    @openapi.describes("Turn texts into vectors", answers.EMBEDDINGS, body=EMBEDDING_FIELDS, errors=_ENGINE_ERRORS)
    def embeddings() -> Response:
        call = read_embedding(read_json(request), new_id("embd"))
        with models.lease(call.model) as lease:
            found = lease.engine.embed(call.request)
        g.tally.prompt = found.tokens
        return jsonify(embeddings_object(call.model, found, as_base64=call.base64))

    @blueprint.post("/v1/rerank")
    @guard.requires("inference")
    @openapi.describes("Sort documents by a query", answers.RERANK, body=RERANK_FIELDS, errors=_ENGINE_ERRORS)
    def rerank() -> Response:
        call = read_rerank(read_json(request), new_id("rank"))
        with models.lease(call.model) as lease:
            found = lease.engine.embed(call.request)
        g.tally.prompt = found.tokens
        return jsonify(rerank_object(call, found))

    return blueprint
