"""What a stack shares besides keys: further names of models, settings, and what models each node has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents_table import Room, table_of
from fake_models import write_checkpoint

from agent.cluster.documents.manifest import ModelManifest
from agent.cluster.documents.names import SharedNames
from agent.cluster.documents.service import TELL_S
from agent.cluster.documents.settings import SharedSettings
from agent.cluster.documents.store import open_documents
from agent.cluster.state import node_id
from agent.config import load
from agent.errors import NotFoundError
from agent.identity import device_id
from agent.models.store import ModelStore

MODEL = {"kind": "text", "bytes": 7, "parameters": 1, "quantisation": "F32", "digest": "d", "source": "local"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Room]:
    with table_of(tmp_path, "ab") as made:
        yield made


def test_another_name_of_a_model_is_good_on_all_nodes_until_one_of_them_takes_it_back(pair: Room) -> None:
    table, _, (a, b) = pair
    first, second = SharedNames(a.store), SharedNames(b.store)
    first["gpt-4o"] = "thox-nano"
    a.store.change(lambda documents: documents.put("name", "odd", ["no", "model"]))
    table.look()
    assert dict(second) == {"gpt-4o": "thox-nano"} and len(second) == 1
    del second["gpt-4o"]
    table.look()
    assert not first
    with pytest.raises(KeyError):
        del first["gpt-4o"]


def test_a_setting_of_the_stack_holds_on_every_node_that_says_nothing_itself(pair: Room, tmp_path: Path) -> None:
    table, _, (a, b) = pair
    own = load(environ={"THOX_STATE_DIR": str(tmp_path), "THOX_LIMITS_CLUSTER_PER_MINUTE": "7"})
    first = SharedSettings(a.store, load(environ={"THOX_STATE_DIR": str(tmp_path)}))
    second = SharedSettings(b.store, own)
    told: list[str] = []
    b.store.on_change("config", lambda: told.append(second.now().models.registry))
    first.put("models.registry", "registry.example/thox")
    first.put("limits.cluster_per_minute", "50")
    table.look()
    assert told == ["registry.example/thox"] and second.now().sources["models.registry"] == "the stack"
    assert (first.now().limits.cluster_per_minute, second.now().limits.cluster_per_minute) == (50, 7)
    second.remove("models.registry")
    table.look()
    assert first.now().models.registry == ""
    with pytest.raises(NotFoundError):
        first.remove("models.registry")


def test_each_node_tells_which_models_it_has_and_all_know_until_it_is_forgotten(pair: Room, tmp_path: Path) -> None:
    table, devices, services = pair
    stores = [ModelStore(tmp_path / str(number), {}) for number in (1, 2)]
    manifests = []
    for device, service, store in zip(devices, services, stores, strict=True):
        manifests.append(ModelManifest(service.store, device.id, store.models))
        service.tell_also(manifests[-1].tell)
    first, second = (node_id(device.id) for device in devices)
    with stores[1].incoming("org/model:tag") as folder:
        write_checkpoint(folder)
    model = stores[1].find("org/model:tag")
    table.look()
    assert manifests[0].nodes_with("org/model:tag") == (second,)
    (kept,) = manifests[0].models_of(second)
    assert (kept.name, kept.kind, kept.bytes, kept.digest) == ("org/model:tag", "text", model.bytes, model.digest)
    assert manifests[0].models_of(first) == manifests[0].models_of("node-0") == ()
    before = services[1].store.read().revision
    table.now += TELL_S
    table.look()
    assert services[1].store.read().revision == before, "nothing is written that is known"
    stores[1].copy("org/model:tag", "second")
    stores[1].remove("org/model:tag")
    table.now += TELL_S
    table.look()
    assert [each.name for each in manifests[0].models_of(second)] == ["second"]
    devices[0].trust.forget(devices[1].id)
    table.look()
    assert manifests[0].models_of(second) == ()


@pytest.mark.parametrize("value", [3, {}, {"kind": "text"}, {**MODEL, "bytes": "7"}, {**MODEL, "digest": 7}])
def test_a_model_that_is_none_is_left_out_of_what_others_have(tmp_path: Path, value: object) -> None:
    store = open_documents(tmp_path)
    device = device_id(tmp_path)
    store.change(lambda documents: documents.put("model", f"{device}/odd", value))
    store.change(lambda documents: documents.put("model", f"{device}/good", MODEL))
    manifest = ModelManifest(store, device, lambda: ())
    assert [each.name for each in manifest.models_of(node_id(device))] == ["good"]
