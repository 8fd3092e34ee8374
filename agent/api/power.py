"""/v1/power/contract: watts for a node, asked for, shown and given back, at whichever node a client asks."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from agent.api import schema_power as schema
from agent.api.guard import requires
from agent.api.openapi import describes
from agent.api.render_power import contract_object, contracts_object
from agent.api.schema_json import read_json
from agent.cluster.power.contracts import PowerContracts


def power_blueprint(contracts: PowerContracts, hardware: str) -> Blueprint:
    """``hardware``: simulated or real."""
    blueprint = Blueprint("power", __name__)

    @blueprint.post("/v1/power/contract")
    @requires("power")
    @describes("Negotiate watts for a node", schema.CONTRACT, body=schema.CONTRACT_FIELDS, errors=(404, 503))
    def negotiate() -> Response:
        ask = schema.read_ask(read_json(request), contracts.node_id)
        return jsonify(contract_object(contracts.request(ask)))

    @blueprint.get("/v1/power/contract")
    @requires("power", "cluster")
    @describes("The contracts in force, and what is really drawn", schema.CONTRACTS, errors=(503,))
    def listed() -> Response:
        books = contracts.books()
        return jsonify(contracts_object(books, contracts.standing(), hardware))

    @blueprint.delete("/v1/power/contract/<contract>")
    @requires("power")
    @describes("End a contract: its node falls back to its floor", schema.CONTRACT_DELETED, errors=(404, 503))
    def end(contract: str) -> Response:
        return jsonify(id=contracts.cancel(contract), deleted=True)

    return blueprint
