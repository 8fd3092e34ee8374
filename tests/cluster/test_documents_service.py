"""What one node of a stack learns all have soon: keys above all, through restarts, splits and the loss of a member."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from touching_stack import TouchingNode, TouchingStack, touching_stack, until

from agent.auth import KeyRing
from agent.errors import AuthenticationError


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
