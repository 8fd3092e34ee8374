"""How the stack would carry a model, as JSON."""

from __future__ import annotations

from agent.cluster.placement_wire import Forecast
from agent.cluster.state import Cluster

Object = dict[str, object]

NOTES = {
    "serving": "It is served so: the model is loaded on that node.",
    "possible": "A load on that node would have room for it.",
    "forecast": "A forecast: this version serves every model on one node.",
}


def plan_object(forecast: Forecast, cluster: Cluster, own_id: str, hardware: str) -> Object:
    """``cluster``: as the node that answers knows it. Layers count from 0, and ``last`` is one of them."""
    need, plan = forecast.need, forecast.plan
    state = "serving" if forecast.serving else "possible" if len(plan.stages) == 1 else "forecast"
    free = {room.node: room.free for room in forecast.rooms}
    stages: list[Object] = [
        {
            "node": stage.node,
            "first_layer": stage.first,
            "last_layer": stage.last,
            "needed_bytes": need.takes(stage.first, stage.last),
            "free_bytes": free[stage.node],
        }
        for stage in plan.stages
    ]
    return {
        "node": own_id,
        "cluster_id": cluster.id,
        "leader": cluster.leader.id,
        "epoch": cluster.epoch,
        "hardware": hardware,
        "model": need.model,
        "state": state,
        "note": NOTES[state],
        "layers": len(need.layers),
        "cache_tokens": need.tokens,
        "needed_bytes": sum(need.takes(stage.first, stage.last) for stage in plan.stages),
        "stages": stages,
        "nodes": [
            {
                "id": room.node,
                "free_bytes": room.free,
                "speed": room.speed,
                "reachable": room.reachable,
                "has_files": room.node in forecast.holders,
            }
            for room in forecast.rooms
        ],
    }
