"""Port 5381 of a stack of one: the shapes of the contract, the numbers of hal, and the truth about both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from cluster_app import Device, open_device
from touching_stack import until

from agent.api import schema_cluster, schema_power
from agent.api.schema import object_schema
from agent.cluster.power.timing import Timing
from hal.world_state import AMBIENT_C, IDLE_W, LADDER_W, SUPPLY_W


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with open_device(tmp_path) as opened:
        yield opened


NODE = "node-0123456789ab"


def test_the_topology_of_a_stack_of_one_is_a_leader_that_touches_nobody(device: Device) -> None:
    answer = device.get("/v1/topology")
    jsonschema.validate(answer, schema_cluster.TOPOLOGY)
    assert answer["cluster_id"].startswith("ms-cluster-") and len(answer["cluster_id"]) >= len("ms-cluster-") + 6
    assert (answer["node_count"], answer["leader"], answer["links"]) == (1, NODE, [])
    assert answer["hardware"] == "simulated"
    node = answer["nodes"][0]
    assert (node["id"], node["role"], node["ram_gb"]) == (NODE, "leader", 16)


def test_the_names_of_node_and_cluster_outlive_a_restart(device: Device, tmp_path: Path) -> None:
    with open_device(tmp_path / "again") as again:  # the id of the device is what stays
        assert again.get("/v1/topology")["cluster_id"] == device.get("/v1/topology")["cluster_id"]


def test_the_cluster_is_one_healthy_machine_that_says_what_it_can_do(device: Device) -> None:
    assert device.get("/v1/cluster")["status"] == "forming"  # nobody has looked yet whether others are there
    device.service.stack.start()
    until(lambda: device.get("/v1/cluster")["status"] != "forming")
    answer = device.get("/v1/cluster")
    jsonschema.validate(answer, schema_cluster.CLUSTER)
    assert (answer["status"], answer["total_ram_gb"], answer["total_tops"]) == ("healthy", 16, 100)
    assert (answer["node"], answer["reasons"], answer["leader_reached"]) == (NODE, [], True)
    assert answer["hardware"] == "simulated" and answer["active_model"] is None
    assert answer["capabilities"]["embeddings"] is True and answer["capabilities"]["pipeline_parallel"] is False
    device.host.load("b")
    device.host.lease("a").release()
    assert device.get("/v1/cluster")["active_model"] == "a"


def test_health_has_the_contracts_fields_and_the_numbers_of_the_thermometers(device: Device) -> None:
    device.now += 86_400.9
    device.busy = 1.0
    answer = device.get("/v1/health")
    jsonschema.validate(answer, schema_cluster.HEALTH)
    assert (answer["status"], answer["uptime_seconds"], answer["hardware"]) == ("ok", 86_400, "simulated")
    assert answer["temperature_c"] == pytest.approx(AMBIENT_C + 1.2 * LADDER_W[-1])
    assert set(answer["checks"].values()) == {"ok"}


@pytest.mark.parametrize("part", ["meter", "thermal", "supply"])
def test_a_failed_part_makes_the_node_degraded_and_its_number_null(device: Device, part: str) -> None:
    device.sim.fail(part)
    health, node = device.get("/v1/health"), device.get("/v1/nodes")["nodes"][0]
    assert health["status"] == "degraded" and node["status"] == "degraded"
    assert device.get("/v1/cluster")["status"] == "degraded" and NODE in device.get("/v1/cluster")["reasons"][0]
    assert sum(result != "ok" for result in health["checks"].values()) == 1
    assert (health["temperature_c"] is None) == (part == "thermal")
    assert (node["power"]["measured"]["value"] is None) == (part == "meter")
    assert (node["power"]["external"] is None) == (part == "supply")
    device.sim.mend(part)
    assert device.get("/v1/health")["status"] == "ok"


def test_a_model_that_cannot_be_loaded_is_a_check_that_fails(device: Device) -> None:
    device.loader.error = ZeroDivisionError()
    device.refused("POST", "/v1/models/load", 500, model="a")
    assert "a could not be loaded" in device.get("/v1/health")["checks"]["models"]


def test_the_nodes_show_heat_power_memory_models_and_versions(device: Device) -> None:
    device.host.load("a")
    answer = device.get("/v1/nodes")
    jsonschema.validate(answer, schema_cluster.NODES)
    node = answer["nodes"][0]
    assert node["power"]["measured"] == {"value": IDLE_W, "unit": "W", "quality": "ok", "source": "sim:VDD_IN"}
    assert node["power"]["supply"]["value"] == SUPPLY_W and node["power"]["battery"]["value"] == 100.0
    assert node["thermal_zones"]["tj-thermal"]["value"] == AMBIENT_C
    assert node["neighbours"] == {"top": False, "bottom": False}
    assert node["memory"]["available_bytes"] > 0 and node["memory"]["total_bytes"] == 16 << 30
    assert node["machine"] == {"name": "NVIDIA Jetson Orin NX 16GB", "cores": 8}
    model = node["models"][0]
    assert (model["model"], model["state"], model["context_length"]) == ("a", "loaded", 512)
    assert node["versions"]["agent"] == "0.1.0" and node["hardware"] == "simulated"
    device.sim.world.add("other")
    device.sim.world.stack(device.sim.name, "other")
    device.now += 0.1
    assert device.get("/v1/nodes")["nodes"][0]["neighbours"]["top"] is True


def test_a_contract_is_granted_applied_and_shown_with_what_is_measured(device: Device) -> None:
    answer = device.post("/v1/power/contract", requested_w=22.5, min_w=15, priority="high", ttl=60)
    jsonschema.validate(answer, schema_power.CONTRACT)
    assert (answer["node_id"], answer["granted_w"], answer["floor_w"], answer["supply_w"]) == (NODE, 22.5, 10, 65)
    assert answer["applied_w"] == 20.0  # the step below what is granted
    assert answer["expires_at"] == pytest.approx(time.time() + 60, abs=3)
    device.busy = 1.0
    listed = device.get("/v1/power/contract")
    jsonschema.validate(listed, schema_power.CONTRACTS)
    assert [one["id"] for one in listed["data"]] == [answer["id"]]
    assert (listed["measured_w"], listed["cap_w"]) == (20.0, 20.0)


def test_a_priority_is_a_name_or_a_rank(device: Device) -> None:
    given = [device.post("/v1/power/contract", requested_w=20, priority=rank)["priority"] for rank in (0, 3, 5, 9)]
    assert given == ["low", "normal", "high", "critical"]
    jsonschema.validate({"requested_w": 20, "priority": 9}, object_schema(schema_power.CONTRACT_FIELDS))


def test_a_contract_that_expires_leaves_the_node_at_its_floor(device: Device) -> None:
    device.post("/v1/power/contract", requested_w=40, ttl=60)
    device.now += 59.9
    assert len(device.get("/v1/power/contract")["data"]) == 1
    device.now += 0.2
    listed = device.get("/v1/power/contract")
    assert (listed["data"], listed["cap_w"]) == ([], 10.0)


def test_a_contract_can_be_ended_and_asked_for_anew(device: Device) -> None:
    first = device.post("/v1/power/contract", requested_w=40)
    second = device.post("/v1/power/contract", requested_w=30)
    assert [one["id"] for one in device.get("/v1/power/contract")["data"]] == [second["id"]]
    device.refused("DELETE", f"/v1/power/contract/{first['id']}", 404)
    assert device.call("DELETE", f"/v1/power/contract/{second['id']}").get_json()["deleted"] is True
    assert device.get("/v1/power/contract")["cap_w"] == 10.0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "requested_w"),
        ({"requested_w": "40"}, "requested_w"),
        ({"requested_w": -1}, "requested_w"),
        ({"requested_w": 20, "min_w": 30}, "min_w"),
        ({"requested_w": 50, "min_w": 41}, "min_w"),
        ({"requested_w": 20, "priority": "highest"}, "priority"),
        ({"requested_w": 20, "priority": 10}, "priority"),
        ({"requested_w": 20, "ttl": 0}, "ttl"),
    ],
)
def test_a_contract_that_makes_no_sense_names_the_field(device: Device, body: dict[str, object], param: str) -> None:
    assert device.refused("POST", "/v1/power/contract", 400, **body)["param"] == param


def test_a_contract_for_a_node_that_is_not_there_is_not_found(device: Device) -> None:
    assert device.refused("POST", "/v1/power/contract", 404, requested_w=20, node_id="node-x")["hint"]
    assert device.post("/v1/power/contract", requested_w=20, node_id=NODE)["granted_w"] == 20


def test_no_watts_are_promised_when_the_supply_is_silent_or_the_cap_is_stuck(device: Device) -> None:
    kept = device.post("/v1/power/contract", requested_w=40)
    for part in ("supply", "cap"):
        device.sim.fail(part)
        error = device.refused("POST", "/v1/power/contract", 503, requested_w=20)
        assert error["hint"]
        device.sim.mend(part)
    listed = device.get("/v1/power/contract")
    assert [one["id"] for one in listed["data"]] == [kept["id"]] and listed["cap_w"] == 40.0
    assert device.get("/v1/health")["status"] == "ok"


def test_a_supply_that_falls_silent_brings_the_node_to_its_floor_until_it_speaks(device: Device) -> None:
    device.post("/v1/power/contract", requested_w=40)
    device.sim.fail("supply")
    device.now += Timing().lease_s
    listed = device.get("/v1/power/contract")
    assert (listed["data"][0]["granted_w"], listed["supply_w"], listed["cap_w"]) == (10.0, None, 10.0)
    device.sim.mend("supply")
    assert device.get("/v1/power/contract")["data"][0]["granted_w"] == 40.0


def test_a_stuck_cap_shows_in_the_health_of_the_node(device: Device) -> None:
    device.post("/v1/power/contract", requested_w=40, ttl=60)
    device.sim.fail("cap")
    device.now += 61
    device.service.power.settle()
    assert "40 W" in device.get("/v1/health")["checks"]["power_cap"]
    device.sim.mend("cap")
    device.service.power.settle()
    assert device.get("/v1/health")["checks"]["power_cap"] == "ok"


def test_reading_needs_the_permission_cluster_and_contracts_the_permission_power(device: Device) -> None:
    cluster, power, neither = (device.key_for(one) for one in ("cluster", "power", "inference"))
    for path in ("/v1/topology", "/v1/cluster", "/v1/nodes"):
        assert device.call("GET", path, key=cluster).status_code == 200
        assert device.call("GET", path, key=neither).status_code == 403
        assert device.call("GET", path, key="thox_wrong").status_code == 401
    for key, status in ((power, 200), (cluster, 403), (neither, 403)):
        assert device.call("POST", "/v1/power/contract", {"requested_w": 20}, key).status_code == status
    assert device.call("GET", "/v1/power/contract", key=cluster).status_code == 200
    assert device.call("GET", "/v1/health", key=neither).status_code == 200
    assert device.call("GET", "/v1/health", key="").status_code == 401


def test_a_probe_without_a_key_learns_whether_a_token_can_be_generated(device: Device) -> None:
    assert device.app.test_client().get("/health").status_code == 503
    device.host.load("a")
    assert device.app.test_client().get("/health").get_json()["status"] == "ok"
    assert b"thox_requests" in device.call("GET", "/metrics").get_data()
