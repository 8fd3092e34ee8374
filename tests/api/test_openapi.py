"""The OpenAPI document: true to the routes and to the parsers, and fuzzed against the app itself."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis
from fake_engine import ScriptedEngine
from hypothesis import HealthCheck, Phase, given, settings
from inference_app import Api
from schemathesis import checks

# Model management is the same on both ports, and fuzzed with the other one's document.
FUZZED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank")
# What is right or wrong only beside other fields, which JSON Schema cannot say; the negative requests keep them.
NEED_OTHERS = (
    "tool_choice",
    "function_call",
    "top_logprobs",
    "response_format",
    "guided_regex",
    "grammar",
    "best_of",
)
CHECKED = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.call("GET", "/openapi.json", Authorization="").get_json()
    return found


def test_every_route_is_described_and_nothing_else(api: Api) -> None:
    described = {(path, method.upper()) for path, item in document(api)["paths"].items() for method in item}
    served = {
        (rule.rule.replace("<path:model>", "{model}"), method)
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served


def test_the_document_names_permissions_and_public_routes(api: Api) -> None:
    paths = document(api)["paths"]
    assert paths["/health"]["get"]["security"] == [] and "401" not in paths["/health"]["get"]["responses"]
    assert paths["/metrics"]["get"]["security"] == [{"key": []}]
    assert "cluster" in paths["/metrics"]["get"]["description"]


def test_the_document_describes_the_fields_that_the_parser_reads(api: Api) -> None:
    body = document(api)["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert set(body["required"]) == {"model", "messages"}
    assert body["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}
    jsonschema.Draft202012Validator.check_schema(body)
    jsonschema.validate({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "new": 1}, body)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("path", FUZZED)
def test_no_request_however_odd_gets_an_answer_out_of_shape(
    api: Api, engine: ScriptedEngine, path: str, mode: str
) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", api.app)
    operation = schema[path]["POST"]

    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def fuzz(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "tiny"  # else hardly any request would reach an engine
            for field in NEED_OTHERS if mode == "positive" else ():
                case.body.pop(field, None)
        case.call_and_validate(checks=CHECKED, headers={"Authorization": f"Bearer {api.key}"})

    fuzz()
    if mode == "positive":
        assert engine.requests or engine.embedded
