"""The OpenAPI document of port 5381, fuzzed against the app: odd requests never get an answer out of shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cluster_app import Device, open_device
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks

CHECKED = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
ROUTES = (
    ("GET", "/v1/topology"),
    ("GET", "/v1/cluster"),
    ("GET", "/v1/cluster/plan"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/events"),
    ("GET", "/v1/health"),
    ("GET", "/v1/power/contract"),
    ("POST", "/v1/power/contract"),
    ("DELETE", "/v1/power/contract/{contract}"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("DELETE", "/v1/models/{model}"),
    ("POST", "/v1/models/load"),
    ("POST", "/v1/models/unload"),
    ("POST", "/v1/models/copy"),
    ("POST", "/v1/models/alias"),
    ("GET", "/v1/models/pull"),
    ("POST", "/v1/models/pull"),
    ("DELETE", "/v1/models/pull"),
    ("GET", "/v1/models/usage"),
    ("POST", "/v1/models/prune"),
)
WITH_INPUT = [route for route in ROUTES if route[0] != "GET"]  # the others leave nothing to get wrong


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with open_device(tmp_path) as opened:
        yield opened


def test_every_route_is_described(device: Device) -> None:
    paths = device.app.test_client().get("/openapi.json").get_json()["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert set(ROUTES) <= described
    assert described - set(ROUTES) == {("GET", "/health"), ("GET", "/metrics"), ("GET", "/openapi.json")}


def fuzz(device: Device, method: str, path: str, mode: str) -> None:
    operation = schemathesis.openapi.from_wsgi("/openapi.json", device.app)[path][method]

    @settings(
        max_examples=12,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def run(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict) and "model" in case.body:
            # Else hardly any request would reach a model. A pull without a registry ends before it leaves the device.
            case.body["model"] = "medical" if path.endswith("pull") else "a"
        response = case.call_and_validate(checks=CHECKED, headers={"Authorization": f"Bearer {device.key}"})
        assert response.status_code != 500
        if response.status_code >= 400:
            error = response.json()["error"]
            assert error["code"] == response.status_code and error["message"] and error["type"]

    run()


@pytest.mark.parametrize(("method", "path"), [*WITH_INPUT, ("GET", "/v1/models/{model}"), ("GET", "/v1/cluster/plan")])
def test_a_proper_request_gets_an_answer_in_shape(device: Device, method: str, path: str) -> None:
    fuzz(device, method, path, "positive")


@pytest.mark.parametrize(("method", "path"), [*WITH_INPUT, ("GET", "/v1/cluster/plan")])
def test_an_improper_request_gets_an_error_in_shape(device: Device, method: str, path: str) -> None:
    fuzz(device, method, path, "negative")
