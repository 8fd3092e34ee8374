"""The app of port 5381: the stack, its nodes, their power and health, and model management as on the other port."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Blueprint, Flask, Response, jsonify, request

from agent.api import guard, openapi
from agent.api import schema_cluster as schema
from agent.api.events import events_blueprint
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.power import power_blueprint
from agent.api.render_cluster import (
    cluster_object,
    hardware,
    health_object,
    nodes_object,
    topology_object,
)
from agent.api.render_plan import plan_object
from agent.api.serving import Models
from agent.api.watching import watching_blueprint
from agent.auth import KeyRing
from agent.cluster.service import ClusterService
from agent.config import Config, LimitsConfig
from agent.ratelimit import RateLimiter
from agent.telemetry import Telemetry


def make_cluster_app(
    service: ClusterService,
    models: Models,
    keys: KeyRing,
    limiter: RateLimiter,
    telemetry: Telemetry,
    config: Config,
    blueprints: Iterable[Blueprint] = (),
    limits: Callable[[], LimitsConfig] | None = None,
) -> Flask:
    """The app of port 5381; ``blueprints`` are model management's, which both ports have; ``limits`` those that hold
    now, where they may change."""
    app = Flask("thox-cluster", static_folder=None)
    guard.install(app, keys, limiter, "cluster", config, telemetry, limits)
    for blueprint in (
        _stack(service),
        events_blueprint(service.events, service.node_id),
        power_blueprint(service.contracts, hardware(simulated=service.simulated)),
        watching_blueprint(models, telemetry),
        *blueprints,
    ):
        app.register_blueprint(blueprint)
    openapi.serve(app, "Thox device: cluster")
    return app


def _stack(service: ClusterService) -> Blueprint:
    blueprint = Blueprint("stack", __name__)

    @blueprint.get("/v1/topology")
    @requires("cluster")
    @describes("The nodes of the stack, and which touch each other", schema.TOPOLOGY)
    def topology() -> Response:
        return jsonify(topology_object(service.cluster(), service.node_id, hardware(simulated=service.simulated)))

    @blueprint.get("/v1/cluster")
    @requires("cluster")
    @describes("The stack as one machine", schema.CLUSTER)
    def cluster() -> Response:
        return jsonify(cluster_object(service.stack_report(), service.node_id))

    @blueprint.get("/v1/nodes")
    @requires("cluster")
    @describes("Every node in detail", schema.NODES)
    def nodes() -> Response:
        return jsonify(nodes_object(service.stack_report(), service.node_id))

    @blueprint.get("/v1/cluster/plan")
    @requires("cluster")
    @describes(
        "How the stack would carry a model: which layers on which node",
        schema.PLAN,
        query=schema.PLAN_QUERY,
        errors=(400, 404, 503, 507),
    )
    def plan() -> Response:
        model = schema.PLANNED_MODEL.of(request.args)
        known, forecast = service.plans.forecast(model)
        return jsonify(plan_object(forecast, known, service.node_id, hardware(simulated=service.simulated)))

    @blueprint.get("/v1/health")
    @describes("How this node fares: any key may ask", schema.HEALTH)
    def health() -> Response:
        return jsonify(health_object(service.report()))

    return blueprint
