"""Model management over HTTP: load, unload, pull, copy, delete, and who may."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from cluster_app import Device, open_device
from fake_models import write_checkpoint
from fake_registry import FakeRegistry

from agent.api import schema_models
from agent.models.disk import packed_folder
from agent.models.options import LoadOptions


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def device(tmp_path: Path, registry: FakeRegistry) -> Iterator[Device]:
    with open_device(tmp_path, registry.host) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path, registry: FakeRegistry) -> Path:
    folder = write_checkpoint(tmp_path / "source")
    registry.add("medical:latest", folder)
    return folder


def states(device: Device) -> dict[str, str]:
    return {model["id"]: model["state"] for model in device.get("/v1/models")["data"]}


def test_the_list_has_every_model_and_every_other_name_with_its_state(device: Device) -> None:
    device.post("/v1/models/load", model="a")
    answer = device.get("/v1/models")
    nodes = {model["id"]: model["nodes"] for model in answer["data"]}
    assert nodes == {"a": ["node-1", "node-2"], "gpt-4o": ["node-1", "node-2"], "b": [], "e": []}
    jsonschema.validate(answer, schema_models.LIST_ANSWER)
    assert states(device) == {"a": "loaded", "b": "available", "e": "available", "gpt-4o": "loaded"}
    by_id = {model["id"]: model for model in answer["data"]}
    assert by_id["gpt-4o"]["root"] == "a" and by_id["e"]["kind"] == "embedding"
    assert by_id["a"]["owned_by"] == "thox" and by_id["a"]["context_length"] == 512


def test_one_model_is_found_by_name_alias_or_not_at_all(device: Device) -> None:
    assert device.get("/v1/models/a")["id"] == "a"
    answer = device.get("/v1/models/gpt-4o")
    jsonschema.validate(answer, schema_models.SHOW_ANSWER)
    assert (answer["id"], answer["root"]) == ("gpt-4o", "a")
    assert device.refused("GET", "/v1/models/A", 404)["hint"] == "did you mean a?"
    device.refused("GET", "/v1/models/a%20b", 400)


def test_a_broken_model_is_listed_with_its_reason(device: Device) -> None:
    with device.store.incoming("x") as folder:
        write_checkpoint(folder)
        (folder / "config.json").unlink()
    answer = device.get("/v1/models/x")
    assert answer["state"] == "broken" and "config.json" in answer["error"]
    device.refused("POST", "/v1/models/load", 500, model="x")


def test_a_model_is_loaded_with_options_and_unloaded(device: Device) -> None:
    options = {"context_length": 32768, "quantisation": "int8", "slots": 2}
    answer = device.post("/v1/models/load", model="gpt-4o", options=options)
    jsonschema.validate(answer, schema_models.STATE_ANSWER)
    assert (answer["model"], answer["state"], answer["context_length"]) == ("a", "loaded", 512)
    assert device.loader.opened[0].options == LoadOptions(512, "int8", 2)
    answer = device.post("/v1/models/unload", model="a")
    assert (answer["model"], answer["state"]) == ("a", "available") and device.loader.opened[0].closed


def test_a_load_need_not_be_waited_for(device: Device) -> None:
    device.loader.gate.clear()
    assert device.post("/v1/models/load", model="a", wait=False)["state"] == "loading"
    device.loader.gate.set()
    assert device.post("/v1/models/load", model="a")["state"] == "loaded"


@pytest.mark.parametrize(
    ("body", "param", "hint"),
    [
        ({}, "model", None),
        ({"model": 5}, "model", None),
        ({"model": "../a"}, "model", None),
        ({"model": "a", "options": []}, "options", None),
        ({"model": "a", "options": {"context_lenght": 5}}, "options.context_lenght", "did you mean context_length?"),
        ({"model": "a", "options": {"quantization": "int8"}}, "options.quantization", "did you mean quantisation?"),
        ({"model": "a", "options": {"quantisation": "int3"}}, "options.quantisation", None),
        ({"model": "a", "options": {"context_length": 0}}, "options.context_length", None),
        ({"model": "a", "options": {"slots": True}}, "options.slots", None),
        ({"model": "a", "wait": "yes"}, "wait", None),
        ({"model": "a", "options": {"cache_type": "int8"}}, "options.cache_type", None),
        ({"model": "a", "options": {"keep_alive": "soon"}}, "options.keep_alive", "write seconds, or 90s, 10m, 24h"),
        ({"model": "a", "options": {"keep_alive": True}}, "options.keep_alive", None),
    ],
)
def test_a_load_that_makes_no_sense_names_the_field(
    device: Device, body: dict[str, object], param: str, hint: str | None
) -> None:
    error = device.refused("POST", "/v1/models/load", 400, **body)
    assert error["param"] == param and (hint is None or error["hint"] == hint)
    assert not device.loader.opened


def test_a_model_that_answers_is_unloaded_only_when_told_to_cancel(device: Device) -> None:
    lease = device.host.lease("a")
    device.refused("POST", "/v1/models/unload", 503, model="a", wait_s=0)
    assert device.post("/v1/models/unload", model="a", cancel=True)["state"] == "available"
    lease.release()


def test_a_model_is_pulled(device: Device, source: Path) -> None:
    answer = device.post("/v1/models/pull", model="medical")
    jsonschema.validate(answer, schema_models.PULL_ANSWER)
    assert answer["bytes"] == sum(file.stat().st_size for file in source.iterdir())
    assert states(device)["medical"] == "available"
    assert device.post("/v1/models/load", model="medical")["state"] == "loaded"


def test_a_pull_can_be_watched(device: Device, source: Path) -> None:
    response = device.call("POST", "/v1/models/pull", {"model": "medical", "stream": True})
    lines = [line.removeprefix("data: ") for line in response.get_data(as_text=True).split("\n\n") if line]
    steps = [json.loads(line) for line in lines[:-1]]
    assert response.mimetype == "text/event-stream" and lines[-1] == "[DONE]"
    assert steps[-1]["status"] == "success" and steps[-1]["completed"] == steps[-1]["total"] > 0
    assert device.get("/v1/models/medical")["source"].startswith("127.0.0.1")


def test_what_goes_wrong_in_the_middle_of_a_pull_is_an_event_and_before_it_a_status(
    device: Device, source: Path, registry: FakeRegistry
) -> None:
    assert device.call("POST", "/v1/models/pull", {"model": "nothing", "stream": True}).status_code == 404
    for digest in registry.blobs:
        registry.blobs[digest] = bytes(len(registry.blobs[digest]))
    response = device.call("POST", "/v1/models/pull", {"model": "medical", "stream": True})
    last = json.loads(response.get_data(as_text=True).strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == 500 and "digest" in last["error"]["message"]
    assert "medical" not in states(device)


def test_a_pull_can_be_watched_line_by_line(device: Device, source: Path) -> None:
    headers = {"Authorization": f"Bearer {device.key}", "Accept": "application/x-ndjson"}
    response = device.app.test_client().post("/v1/models/pull", json={"model": "medical"}, headers=headers)
    steps = [json.loads(line) for line in response.get_data(as_text=True).splitlines()]
    assert response.mimetype == "application/x-ndjson" and steps[-1]["status"] == "success"
    files = {blob["path"]: blob for step in steps for blob in step["blobs"]}
    assert files["model.safetensors"]["completed"] == files["model.safetensors"]["total"] > 0


def test_a_pull_outlives_its_client_and_ends_when_it_is_cancelled(
    device: Device, source: Path, registry: FakeRegistry
) -> None:
    registry.hold = threading.Event()
    headers = {"Authorization": f"Bearer {device.key}"}
    body = {"model": "medical", "stream": True}
    response = device.app.test_client().post("/v1/models/pull", json=body, headers=headers, buffered=False)
    assert next(iter(response.response))
    response.close()
    answer = device.get("/v1/models/pull")
    jsonschema.validate(answer, schema_models.PULLS_ANSWER)
    assert [pull["model"] for pull in answer["data"]] == ["medical"]
    cancelled = device.call("DELETE", "/v1/models/pull", {"model": "medical"})
    assert cancelled.get_json() == {"model": "medical", "status": "cancelled"}
    assert device.get("/v1/models/pull")["data"] == []
    assert device.call("DELETE", "/v1/models/pull", {"model": "medical"}).status_code == 404
    registry.hold.set()
    device.post("/v1/models/pull", model="medical")


def test_a_folder_of_the_device_is_taken_in_for_an_admin_alone(device: Device, source: Path) -> None:
    body = {"model": source.as_uri(), "name": "mine"}
    refused = device.call("POST", "/v1/models/pull", body, device.key_for("models"))
    assert refused.status_code == 403 and "mine" not in states(device)
    assert device.post("/v1/models/pull", **body)["model"] == "mine"
    assert states(device)["mine"] == "available"


def test_a_model_gets_a_further_name_as_openais_clients_delete_it(device: Device) -> None:
    name = "ft:gpt-4o-mini:acemeco:suffix:abc123"
    answer = device.post("/v1/models/alias", source="a", destination=name)
    assert (answer["id"], answer["root"]) == (name, "a")
    deleted = device.call("DELETE", f"/v1/models/{name}")
    jsonschema.validate(deleted.get_json(), schema_models.DELETE_ANSWER)
    assert deleted.get_json() == {"id": name, "object": "model", "deleted": True}
    device.refused("DELETE", f"/v1/models/{name}", 404)
    for call in ("alias", "copy"):
        for destination in ("b", "pull", "usage"):
            device.refused("POST", f"/v1/models/{call}", 400, source="a", destination=destination)
        device.refused("POST", f"/v1/models/{call}", 404, source="c", destination="d")


def test_a_copy_stays_when_the_first_is_deleted(device: Device, source: Path) -> None:
    device.post("/v1/models/pull", model="medical")
    answer = device.post("/v1/models/copy", source="medical", destination="mine")
    assert (answer["id"], answer["root"], answer["state"]) == ("mine", "mine", "available")
    usage = {one["model"]: one for one in device.get("/v1/models/usage")["models"]}
    assert usage["mine"]["shared_bytes"] == usage["mine"]["bytes"] > 0
    packed = packed_folder(device.disk.packed, device.store.find("mine"))
    packed.mkdir(parents=True)
    cut = device.puller.blobs.partial("sha256:00")
    cut.write_bytes(b"the beginning of a pull")
    device.call("DELETE", "/v1/models/medical")
    assert device.post("/v1/models/load", model="mine")["state"] == "loaded" and packed.exists()
    device.call("DELETE", "/v1/models/mine")
    assert not packed.exists() and cut.exists()
    assert [blob.path for blob in device.puller.blobs.unreferenced()] == [cut]


def test_a_model_is_shown_with_what_it_says_of_itself_and_what_a_load_would_take(device: Device) -> None:
    with device.store.incoming("x") as folder:
        write_checkpoint(folder)
        (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# X\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
        (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "eos_token_id": 3}))
    answer = device.get("/v1/models/x")
    assert (answer["licence"], answer["template"], answer["sampling"]) == (
        "apache-2.0",
        "{{ messages }}",
        {"temperature": 0.6},
    )
    assert (answer["format"], answer["quantisation"]) == ("safetensors", "F32")
    needed = answer["needed"]
    assert needed["needed_bytes"] == needed["weights_bytes"] + needed["cache_bytes"] + needed["workspace_bytes"]
    assert needed["available_bytes"] > 0 and answer["path"].endswith("/models/x")
    assert "path" not in device.call("GET", "/v1/models/x", key=device.key_for("inference")).get_json()


def test_pruning_frees_what_no_model_needs(device: Device, source: Path, registry: FakeRegistry) -> None:
    device.post("/v1/models/pull", model="medical")
    usage = device.get("/v1/models/usage")
    jsonschema.validate(usage, schema_models.USAGE_ANSWER)
    assert usage["unused_bytes"] == 0 and usage["models_bytes"] > 128 and usage["free_bytes"] > 0
    device.disk.packed.joinpath("gone").mkdir(parents=True)
    device.disk.packed.joinpath("gone", "int8").write_bytes(bytes(5000))
    device.call("DELETE", "/v1/models/medical")
    assert device.get("/v1/models/usage")["unused_bytes"] == 0  # its blobs went with it
    (device.puller.blobs.folder / "sha256-00").write_bytes(bytes(70))
    usage = device.get("/v1/models/usage")
    assert (usage["unused_bytes"], usage["packed_bytes"]) == (70, 5000)
    answer = device.post("/v1/models/prune")
    jsonschema.validate(answer, schema_models.PRUNE_ANSWER)
    assert answer["freed_bytes"] == 5070
    usage = device.get("/v1/models/usage")
    assert (usage["unused_bytes"], usage["packed_bytes"]) == (0, 0)


def test_packed_weights_of_models_that_are_not_loaded_go_only_when_asked_for(device: Device) -> None:
    for name in ("a", "b"):
        packed_folder(device.disk.packed, device.store.find(name)).mkdir(parents=True)
    device.post("/v1/models/load", model="a")
    device.post("/v1/models/prune")
    assert len(list(device.disk.packed.iterdir())) == 2
    device.post("/v1/models/prune", packed=True)
    assert [path.name for path in device.disk.packed.iterdir()] == [
        packed_folder(device.disk.packed, device.store.find("a")).name
    ]


@pytest.mark.parametrize(("asked", "kept"), [(600, 600), ("10m", 600), ("0.5h", 1800), (-1, None), ("-1", None)])
def test_a_load_says_how_long_the_model_stays(device: Device, asked: object, kept: float | None) -> None:
    answer = device.post("/v1/models/load", model="a", options={"keep_alive": asked, "cache_type": "f16"})
    assert answer["memory"]["needed_bytes"] > 0 and answer["answering"] == 0
    assert answer["expires_in_s"] == (kept if kept is None else pytest.approx(kept, abs=5))
    assert device.post("/v1/models/load", model="a", options={"keep_alive": -1})["expires_in_s"] is None
    assert len(device.loader.opened) == 1


def test_deleting_frees_memory_and_disk_but_never_what_came_with_the_software(device: Device, source: Path) -> None:
    device.post("/v1/models/pull", model="medical")
    device.post("/v1/models/load", model="medical")
    lease = device.host.lease("medical")
    assert device.call("DELETE", "/v1/models/medical").get_json()["deleted"] is True
    assert not list(device.store.folder.iterdir()) and "medical" not in states(device)
    assert not device.loader.opened[0].closed  # the last answer ends in peace
    lease.release()
    assert device.loader.opened[0].closed
    device.post("/v1/models/load", model="a")
    assert device.refused("DELETE", "/v1/models/a", 400)["hint"]
    assert states(device)["a"] == "loaded"


def test_management_needs_the_permission_models_and_the_list_any_of_three(device: Device) -> None:
    inference, models = device.key_for("inference"), device.key_for("models")
    for method, path, body in (
        ("POST", "/v1/models/load", {"model": "a"}),
        ("POST", "/v1/models/unload", {"model": "a"}),
        ("POST", "/v1/models/alias", {"source": "a", "destination": "z"}),
        ("GET", "/v1/models/usage", None),
        ("POST", "/v1/models/prune", {}),
        ("GET", "/v1/models/pull", None),
        ("DELETE", "/v1/models/z", None),
    ):
        assert device.call(method, path, body, inference).status_code == 403
        assert device.call(method, path, body, models).status_code == 200
    assert device.call("POST", "/v1/models/pull", {"model": "x"}, inference).status_code == 403
    for key in (inference, models, device.key_for("cluster")):
        assert device.call("GET", "/v1/models", key=key).status_code == 200
    assert device.call("GET", "/v1/models", key=device.key_for("power")).status_code == 403
