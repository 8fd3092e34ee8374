"""Requests name an adapter as their model, and the list of models shows it with its base."""

from __future__ import annotations

from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from fake_adapters import write_adapter, write_base
from fake_engine import ScriptedEngine
from inference_app import Api

from agent.api import schema_models


@pytest.fixture
def adapted(api: Api, tmp_path: Path) -> Api:
    write_base(tmp_path / "models" / "base")
    write_adapter(tmp_path / "models" / "mine", "org/Base")
    write_adapter(tmp_path / "models" / "dora", "org/Base", use_dora=True)
    return api


def test_the_adapter_that_a_request_names_is_the_one_that_answers(adapted: Api, engine: ScriptedEngine) -> None:
    answer = adapted.chat(model="mine")
    assert answer["model"] == "mine" and answer["choices"][0]["message"]["content"]
    adapted.stream("/v1/completions", model="mine", prompt="x")
    adapted.chat(model="base")
    assert [request.adapter for request in engine.requests] == ["mine", "mine", ""]


def test_the_list_shows_adapters_with_their_base_and_what_is_wrong_with_them(adapted: Api) -> None:
    adapted.chat(model="mine")
    answer = adapted.call("GET", "/v1/models").get_json()
    jsonschema.validate(answer, schema_models.LIST_ANSWER)
    shown = {model["id"]: model for model in answer["data"]}
    mine, dora = shown["mine"], shown["dora"]
    assert (mine["kind"], mine["base"], mine["state"], mine["format"]) == ("adapter", "base", "loaded", "peft")
    assert (dora["kind"], dora["state"]) == ("adapter", "broken") and "DoRA" in dora["error"]
    assert "base" not in shown["base"] and shown["base"]["state"] == "loaded"


def test_one_adapter_shows_what_it_adds_to_its_base(adapted: Api) -> None:
    answer = adapted.call("GET", "/v1/models/mine").get_json()
    jsonschema.validate(answer, schema_models.SHOW_ANSWER)
    assert 0 < answer["needed"]["needed_bytes"] < 10_000 and answer["base"] == "base"


def test_an_adapter_that_cannot_be_served_or_unloaded_alone_is_refused_with_what_to_do(adapted: Api) -> None:
    error = adapted.refused("/v1/chat/completions", 500, model="dora", messages=[{"role": "user", "content": "x"}])
    assert "merge" in error["message"]
    adapted.post("/v1/models/load", model="mine")
    assert adapted.refused("/v1/models/unload", 400, model="mine")["hint"] == "unload base"
    assert adapted.post("/v1/models/unload", model="base")["state"] == "available"
