"""The app of port 5381: the stack, its nodes, their power and health, and model management as on the other port."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Flask, Response, jsonify, request

from agent.api import guard, openapi
from agent.api import schema_cluster as schema
from agent.api.events import events_blueprint
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.render_cluster import (
    cluster_object,
    contract_object,
    contracts_object,
    hardware,
    health_object,
    nodes_object,
    topology_object,
)
from agent.api.schema_json import read_json
from agent.api.serving import Models
from agent.api.watching import watching_blueprint
from agent.auth import KeyRing
from agent.cluster.service import ClusterService
from agent.config import Config
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
) -> Flask:
    """The app of port 5381; ``blueprints`` are model management's, which both ports have."""
    app = Flask("thox-cluster", static_folder=None)
    guard.install(app, keys, limiter, "cluster", config, telemetry)
    for blueprint in (
        _stack(service),
        events_blueprint(service.events, service.node_id),
        _power(service),
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

    @blueprint.get("/v1/health")
    @describes("How this node fares: any key may ask", schema.HEALTH)
    def health() -> Response:
        return jsonify(health_object(service.report()))

    return blueprint


def _power(service: ClusterService) -> Blueprint:
    blueprint = Blueprint("power", __name__)

    @blueprint.post("/v1/power/contract")
    @requires("power")
    @describes("Negotiate watts for a node", schema.CONTRACT, body=schema.CONTRACT_FIELDS, errors=(404, 503))
    def negotiate() -> Response:
        ask = schema.read_ask(read_json(request), service.node_id)
        return jsonify(contract_object(service.contracts.request(ask)))

    @blueprint.get("/v1/power/contract")
    @requires("power", "cluster")
    @describes("The contracts in force, and what is really drawn", schema.CONTRACTS)
    def contracts() -> Response:
        return jsonify(contracts_object(service.contracts.grants(), service.report()))

    @blueprint.delete("/v1/power/contract/<contract>")
    @requires("power")
    @describes("End a contract: its node falls back to its floor", schema.CONTRACT_DELETED, errors=(404,))
    def end(contract: str) -> Response:
        return jsonify(id=service.contracts.cancel(contract).id, deleted=True)

    return blueprint
