"""What probes and Prometheus ask, on both ports."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from agent.api import guard, openapi
from agent.api import openapi_answers as answers
from agent.api.health import Liveness
from agent.api.serving import Models
from agent.telemetry import Telemetry


def watching_blueprint(models: Models, telemetry: Telemetry) -> Blueprint:
    """``/health`` without a key, ``/metrics`` with one."""
    blueprint = Blueprint("watching", __name__)
    liveness = Liveness(models)

    @blueprint.get("/health")
    @guard.public
    @openapi.describes("Whether a token was generated lately, or one can be now", answers.HEALTH, errors=(503,))
    def health() -> Response:
        return jsonify(liveness.check())

    @blueprint.get("/metrics")
    @guard.requires("cluster")
    @openapi.describes("Counters for Prometheus", answers.METRICS, media="text/plain")
    def metrics() -> Response:
        text, content_type = telemetry.render()
        return Response(text, content_type=content_type)

    return blueprint
