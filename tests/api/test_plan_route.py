"""GET /v1/cluster/plan at a stack of one: what is told, to whom, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from cluster_app import Device, open_device
from sparse_checkpoint import write_sparse

from agent.api import schema_cluster

NODE = "node-0123456789ab"
SMALL = {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with open_device(tmp_path) as opened:
        write_sparse(opened.store.folder / "thin", num_hidden_layers=4, **SMALL)
        write_sparse(opened.store.folder / "endless", num_hidden_layers=900)
        yield opened


def test_a_model_that_fits_has_all_its_layers_on_the_one_node_and_takes_what_a_load_takes(device: Device) -> None:
    answer = device.get("/v1/cluster/plan?model=thin")
    jsonschema.validate(answer, schema_cluster.PLAN)
    assert (answer["node"], answer["leader"], answer["hardware"]) == (NODE, NODE, "simulated")
    assert (answer["model"], answer["layers"], answer["state"]) == ("thin", 4, "possible")
    stage = answer["stages"][0]
    assert (stage["node"], stage["first_layer"], stage["last_layer"]) == (NODE, 0, 3)
    assert stage["needed_bytes"] == answer["needed_bytes"] == device.get("/v1/models/thin")["needed"]["needed_bytes"]
    node = answer["nodes"][0]
    assert node["has_files"] and node["reachable"] and node["free_bytes"] >= stage["needed_bytes"]
    device.host.load("thin")
    assert device.get("/v1/cluster/plan?model=thin")["state"] == "serving"


def test_no_more_is_free_than_the_board_has_though_the_machine_below_has_more(device: Device) -> None:
    shown = device.get("/v1/nodes")["nodes"][0]["memory"]["free_for_models_bytes"]
    assert 0 < shown <= 16 << 30
    device.host.load("thin")
    assert device.get("/v1/nodes")["nodes"][0]["memory"]["free_for_models_bytes"] <= (16 << 30) - (100 << 20)


def test_an_embedding_model_is_one_part(device: Device) -> None:
    answer = device.get("/v1/cluster/plan?model=e")
    assert (answer["layers"], answer["cache_tokens"], len(answer["stages"])) == (1, 0, 1)


def test_a_model_that_fits_nowhere_is_refused_with_what_is_missing(device: Device) -> None:
    error = device.refused("GET", "/v1/cluster/plan?model=endless", 507)
    assert error["param"] == "model" and error["needed_bytes"] > error["available_bytes"] > 0
    assert f"one more node with {-(-error['missing_bytes'] >> 20)} MiB free" in error["hint"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?model=", 400), ("?model=../x", 400), ("?model=" + "x" * 201, 400), ("?model=nobody", 404)],
)
def test_what_is_no_model_is_said(device: Device, query: str, status: int) -> None:
    error = device.refused("GET", f"/v1/cluster/plan{query}", status)
    assert error["param"] == "model"


def test_it_needs_the_permission_cluster(device: Device) -> None:
    for permission, status in (("cluster", 200), ("inference", 403), ("power", 403)):
        key = device.key_for(permission)
        assert device.call("GET", "/v1/cluster/plan?model=thin", key=key).status_code == status
