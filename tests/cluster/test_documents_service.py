"""What one node of a stack learns all have soon: keys above all, through restarts, splits and the loss of a member."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_models import write_checkpoint
from touching_stack import TouchingNode, TouchingStack, touching_stack, until

from agent.auth import KeyRing
from agent.cluster.documents_store import open_documents
from agent.cluster.model_manifest import ModelManifest
from agent.cluster.shared_names import SharedNames
from agent.cluster.shared_settings import SharedSettings
from agent.cluster.state import node_id
from agent.config import load
from agent.errors import AuthenticationError, NotFoundError
from agent.identity import device_id
from agent.models.store import ModelStore

MODEL = {"kind": "text", "bytes": 7, "parameters": 1, "quantisation": "F32", "digest": "d", "source": "local"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[TouchingStack]:
    with touching_stack(tmp_path, 2) as stack:
        stack.together()
        yield stack


def ring_of(node: TouchingNode) -> KeyRing:
    """As the server of the running node has it."""
    return KeyRing(node.state_dir, node.stack.documents.store)


def takes(node: TouchingNode, text: str) -> bool:
    try:
        ring_of(node).verify(text)
    except AuthenticationError:
        return False
    return True


def agreed(stack: TouchingStack) -> bool:
    return len({node.stack.documents.store.read().digest for node in stack.nodes}) == 1


def put(node: TouchingNode, kind: str, key: str, value: object) -> None:
    node.stack.documents.store.change(lambda documents: documents.put(kind, key, value))


def value_of(node: TouchingNode, kind: str, key: str) -> object:
    return node.stack.documents.store.read().get(kind, key)


def test_a_key_made_on_one_node_works_on_all_and_revoked_on_another_it_stops_on_all(tmp_path: Path) -> None:
    with touching_stack(tmp_path, 3) as stack:
        first, second, third = stack.nodes
        stack.together()
        key, text = KeyRing(first.state_dir).create("laptop", ["inference"])  # as `thox key` does, beside the agent
        until(lambda: all(takes(node, text) for node in stack.nodes))
        assert ring_of(third).verify(text) == key and key.made_on == first.id
        KeyRing(second.state_dir).revoke("laptop")
        until(lambda: not any(takes(node, text) for node in stack.nodes))
        assert [node.stack.documents.fault for node in stack.nodes] == ["", "", ""]


def test_when_two_devices_meet_the_keys_of_both_are_good_on_both_and_the_same_name_twice_is_no_trouble(
    tmp_path: Path,
) -> None:
    with touching_stack(tmp_path, 2) as stack:
        owners = [ring_of(node).create_owner() for node in stack.nodes]
        stack.together()
        until(lambda: all(takes(node, str(owner)) for node in stack.nodes for owner in owners))
        assert ring_of(stack.nodes[0]).names() == ("owner", "owner")
        assert [KeyRing(node.state_dir).create_owner() for node in stack.nodes] == [None, None]


def test_what_was_revoked_while_a_node_was_off_is_revoked_when_it_is_back_and_the_rest_survives_it(
    pair: TouchingStack,
) -> None:
    first, second = pair.nodes
    revoked, kept = (ring_of(first).create(name, ["inference"])[1] for name in ("lost", "kept"))
    until(lambda: takes(second, revoked) and takes(second, kept))
    second.stop()
    ring_of(first).revoke("lost")
    second.start()
    assert takes(second, kept)
    until(lambda: not takes(second, revoked))


def test_halves_that_meet_again_have_what_either_wrote_and_a_revoked_key_stays_revoked(tmp_path: Path) -> None:
    with touching_stack(tmp_path, 2) as stack:
        first, second = stack.nodes
        stack.together()
        text = ring_of(first).create("laptop", ["inference"])[1]
        put(first, "config", "a", "before")
        until(lambda: takes(second, text) and agreed(stack))
        for source, target in (("module-1", "module-2"), ("module-2", "module-1")):
            stack.world.cut(source, target)
        until(lambda: all(len(node.cluster().nodes) == 1 for node in stack.nodes))
        ring_of(second).revoke("laptop")
        put(first, "config", "a", "of the first half")
        put(second, "config", "b", "of the second half")
        assert takes(first, text), "it cannot know yet"
        for source, target in (("module-1", "module-2"), ("module-2", "module-1")):
            stack.world.join(source, target)
        until(lambda: agreed(stack))
        for node in stack.nodes:
            assert not takes(node, text)
            assert value_of(node, "config", "a") == "of the first half"
            assert value_of(node, "config", "b") == "of the second half"


def test_what_a_member_wrote_stays_when_it_is_forgotten_and_what_it_writes_then_is_not_taken(tmp_path: Path) -> None:
    with touching_stack(tmp_path, 3) as stack:
        first, second, third = stack.nodes
        stack.together()
        before = ring_of(third).create("before", ["inference"])[1]
        until(lambda: takes(first, before) and takes(second, before))
        first.stack.trust.forget(third.device)
        for node in (first, second):
            until(lambda node=node: len(node.stack.trust.roster().members) == 2)  # type: ignore[misc]
            until(lambda node=node: _authors(node) <= {first.device, second.device})  # type: ignore[misc]
            assert takes(node, before)
        after = ring_of(third).create("after", ["inference"])[1]
        fresh = ring_of(first).create("fresh", ["inference"])[1]
        until(lambda: takes(second, fresh))
        assert not takes(first, after) and not takes(second, after) and not takes(third, fresh)


def _authors(node: TouchingNode) -> set[str]:
    return {str(row[5]) for row in node.stack.documents.store.read().to_json() if isinstance(row, list)}


def test_another_name_of_a_model_is_good_on_all_nodes_until_one_of_them_takes_it_back(pair: TouchingStack) -> None:
    first, second = (SharedNames(node.stack.documents.store) for node in pair.nodes)
    first["gpt-4o"] = "thox-nano"
    until(lambda: dict(second) == {"gpt-4o": "thox-nano"})
    put(pair.nodes[0], "name", "odd", ["no", "model"])
    until(lambda: agreed(pair))
    assert len(second) == 1 and second.get("odd") is None
    del second["gpt-4o"]
    until(lambda: not first)
    with pytest.raises(KeyError):
        del first["gpt-4o"]


def test_a_setting_of_the_stack_holds_on_every_node_that_says_nothing_itself(
    pair: TouchingStack, tmp_path: Path
) -> None:
    own = load(environ={"THOX_STATE_DIR": str(tmp_path), "THOX_LIMITS_CLUSTER_PER_MINUTE": "7"})
    plain = load(environ={"THOX_STATE_DIR": str(tmp_path)})
    first, second = (
        SharedSettings(node.stack.documents.store, config)
        for node, config in zip(pair.nodes, (plain, own), strict=True)
    )
    told: list[str] = []
    pair.nodes[1].stack.documents.store.on_change("config", lambda: told.append(second.now().models.registry))
    first.put("models.registry", "registry.example/thox")
    first.put("limits.cluster_per_minute", "50")
    until(lambda: agreed(pair) and first.now().models.registry == second.now().models.registry != "")
    until(lambda: "registry.example/thox" in told)
    assert second.now().sources["models.registry"] == "the stack"
    assert (first.now().limits.cluster_per_minute, second.now().limits.cluster_per_minute) == (50, 7)
    second.remove("models.registry")
    until(lambda: first.now().models.registry == "")
    with pytest.raises(NotFoundError):
        first.remove("models.registry")


def test_more_than_a_frame_of_documents_comes_over_and_a_damaged_file_is_filled_by_the_others(
    pair: TouchingStack,
) -> None:
    first, second = pair.nodes
    text = ring_of(second).create("laptop", ["inference"])[1]
    many = {f"{'é' * 100}{number}": [number, "x" * 14_000] for number in range(120)}

    def fill(documents: object) -> None:
        for key, value in many.items():
            documents.put("config", key, value)  # type: ignore[attr-defined]

    first.stack.documents.store.change(fill)
    until(lambda: agreed(pair))
    assert second.stack.documents.store.read().of("config") == many
    second.stop()
    file = second.state_dir / "documents.json"
    file.write_bytes(file.read_bytes()[:100_000])
    second.start()
    assert "damaged" in second.stack.documents.fault and not takes(second, text)
    until(lambda: takes(second, text) and second.stack.documents.fault == "")
    assert second.stack.documents.store.read().of("config") == many


def test_the_thread_ends_although_another_node_does_not_answer(pair: TouchingStack) -> None:
    first, second = pair.nodes
    asked = []

    def silent(_node: str, _body: object) -> dict[str, object]:
        asked.append(1)
        until(lambda: not first.stack.documents._thread.is_alive())
        return {}

    second.stack.peers.serve("documents", silent)
    put(first, "config", "a", 1)
    until(lambda: bool(asked))
    first.stack.documents.close()
    assert not first.stack.documents._thread.is_alive()


def test_each_node_tells_which_models_it_has_and_all_know_until_it_is_forgotten(
    tmp_path: Path, pair: TouchingStack
) -> None:
    stores = [ModelStore(tmp_path / str(number), {}) for number in (1, 2)]
    manifests = []
    for node, store in zip(pair.nodes, stores, strict=True):
        manifests.append(ModelManifest(node.stack.documents.store, node.device, store.models))
        node.stack.documents.tell_also(manifests[-1].tell)
    first, second = pair.nodes
    with stores[1].incoming("org/model:tag") as folder:
        write_checkpoint(folder)
    model = stores[1].find("org/model:tag")
    until(lambda: manifests[0].nodes_with("org/model:tag") == (second.id,))
    (kept,) = manifests[0].models_of(second.id)
    assert (kept.name, kept.kind, kept.bytes, kept.digest) == ("org/model:tag", "text", model.bytes, model.digest)
    assert manifests[0].models_of(first.id) == manifests[0].models_of("node-0") == ()
    stores[1].copy("org/model:tag", "second")
    stores[1].remove("org/model:tag")
    until(lambda: [each.name for each in manifests[0].models_of(second.id)] == ["second"])
    first.stack.trust.forget(second.device)
    until(lambda: manifests[0].models_of(second.id) == ())


@pytest.mark.parametrize("value", [3, {}, {"kind": "text"}, {**MODEL, "bytes": "7"}, {**MODEL, "digest": 7}])
def test_a_model_that_is_none_is_left_out_of_what_others_have(tmp_path: Path, value: object) -> None:
    store = open_documents(tmp_path)
    device = device_id(tmp_path)
    store.change(lambda documents: documents.put("model", f"{device}/odd", value))
    store.change(lambda documents: documents.put("model", f"{device}/good", MODEL))
    manifest = ModelManifest(store, device, lambda: ())
    assert [each.name for each in manifest.models_of(node_id(device))] == ["good"]
