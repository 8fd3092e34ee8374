"""/health: a token came lately, or one comes now; and nothing else counts as healthy."""

from __future__ import annotations

import threading

from fake_engine import ScriptedEngine
from inference_app import Api

from agent.errors import EngineError


def test_a_fresh_token_is_proof_enough(api: Api, engine: ScriptedEngine) -> None:
    api.chat()
    asked = len(engine.requests)
    assert api.call("GET", "/health", Authorization="").get_json() == {"status": "ok", "model": "tiny"}
    assert len(engine.requests) == asked


def test_an_idle_node_proves_itself_with_one_token(api: Api, engine: ScriptedEngine) -> None:
    assert api.call("GET", "/health", Authorization="").status_code == 200
    (probe,) = engine.requests
    assert probe.sampling.max_tokens == 1 and engine.answers[0].closed.is_set()
    assert api.call("GET", "/health", Authorization="").status_code == 200
    assert len(engine.requests) == 1 and api.host.state("tiny").leases == 0


def test_an_engine_that_breaks_is_unhealthy_and_is_not_tried_at_every_probe(api: Api, engine: ScriptedEngine) -> None:
    engine.refusal = EngineError("the engine broke")
    for _ in range(3):
        response = api.call("GET", "/health", Authorization="")
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
        assert "the engine broke" in response.get_json()["error"]["message"]
        engine.refusal = None


def test_without_a_loaded_model_nothing_is_healthy(api: Api) -> None:
    api.host.unload("tiny")
    response = api.call("GET", "/health", Authorization="")
    assert response.status_code == 503 and response.get_json()["error"]["type"] == "unavailable_error"


def test_many_probes_at_once_cost_one_token(api: Api, engine: ScriptedEngine) -> None:
    threads = [threading.Thread(target=lambda: api.call("GET", "/health", Authorization="")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(engine.requests) == 1
