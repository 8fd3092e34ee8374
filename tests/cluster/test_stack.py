"""The whole of a node's stack, several of them: who touches comes to trust, becomes a cluster and can be asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from touching_stack import TouchingStack, touching_stack, until

from agent.cluster.link.frames import LinkError
from agent.errors import NotFoundError, RequestError, UnavailableError


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[TouchingStack]:
    with touching_stack(tmp_path, 2) as stack:
        stack.together()
        yield stack


def test_modules_that_touch_trust_one_another_and_become_one_cluster(tmp_path: Path) -> None:
    with touching_stack(tmp_path, 3) as stack:
        cluster = stack.together()
        assert cluster.leader.id == stack.nodes[0].id
        assert [(link.lower, link.upper) for link in cluster.links] == [
            (stack.nodes[0].id, stack.nodes[1].id),
            (stack.nodes[1].id, stack.nodes[2].id),
        ]
        record = stack.nodes[0].hardware.readers["top"].seen()
        assert record is not None and record.device_id == stack.nodes[1].device
        until(lambda: all(node.hardware.readers["top"].seen() is not None for node in stack.nodes[:2]))


def test_a_node_that_was_restarted_comes_back_to_the_same_stack(pair: TouchingStack) -> None:
    first, second = pair.nodes
    before = pair.together()
    second.stop()
    until(lambda: len(first.cluster().nodes) == 1)
    second.start()
    after = pair.together()
    assert after.id == before.id and after.epoch > before.epoch


def test_what_one_node_asks_the_other_answers_and_both_know_who_the_other_is(pair: TouchingStack) -> None:
    first, second = pair.nodes
    first.stack.peers.serve("greet", lambda node, body: {"from": node, "said": body})
    second.stack.peers.serve("greet", lambda node, body: {"from": node, "said": body, "by": "second"})
    answer = first.stack.peers.ask(second.id, "greet", "hello")
    assert answer == {"from": first.id, "said": "hello", "by": "second"}
    assert first.stack.peers.ask(first.id, "greet", 1) == {"from": first.id, "said": 1}


def test_what_the_other_refuses_reads_as_if_it_were_refused_here(pair: TouchingStack) -> None:
    first, second = pair.nodes

    def refuse(_node: str, body: object) -> dict[str, object]:
        if body == "find":
            raise NotFoundError("there is no such thing", hint="look elsewhere", param="thing")
        if body == "later":
            raise UnavailableError("not now", retry_after=9.0)
        raise RequestError("that makes no sense", param="it")

    second.stack.peers.serve("try", refuse)
    with pytest.raises(NotFoundError, match="no such thing") as missing:
        first.stack.peers.ask(second.id, "try", "find")
    assert (missing.value.hint, missing.value.param) == ("look elsewhere", "thing")
    with pytest.raises(UnavailableError, match="not now"):
        first.stack.peers.ask(second.id, "try", "later")
    with pytest.raises(RequestError, match="no sense"):
        first.stack.peers.ask(second.id, "try", "nonsense")
    with pytest.raises(LinkError, match="nobody here answers 'unheard'"):
        first.stack.peers.ask(second.id, "unheard", {})


def test_a_slow_answer_ends_in_time_and_delays_no_other_question(pair: TouchingStack) -> None:
    first, second = pair.nodes
    gate = threading.Event()

    def slow(_node: str, _body: object) -> dict[str, object]:
        assert gate.wait(30)
        return {}

    second.stack.peers.serve("slow", slow)
    second.stack.peers.serve("quick", lambda _node, _body: {"quick": True})
    errors: list[Exception] = []

    def ask() -> None:
        try:
            first.stack.peers.ask(second.id, "slow", {}, 1.0)
        except LinkError as error:
            errors.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    assert first.stack.peers.ask(second.id, "quick", {}, 10.0) == {"quick": True}
    asker.join(10)
    gate.set()
    assert len(errors) == 1 and not asker.is_alive()
    assert first.stack.peers.ask(second.id, "slow", {}, 10.0) == {}


def test_a_node_that_is_gone_or_was_never_there_is_not_waited_for(pair: TouchingStack) -> None:
    first, second = pair.nodes
    began = time.monotonic()
    with pytest.raises(LinkError, match="not to be heard"):
        first.stack.peers.ask("node-000000000000", "greet", {})
    assert time.monotonic() - began < 1.0
    second.stop()
    with pytest.raises(LinkError):
        first.stack.peers.ask(second.id, "greet", {}, 2.0)
    second.start()


def test_a_question_after_a_restart_of_the_other_goes_over_a_new_connection(pair: TouchingStack) -> None:
    first, second = pair.nodes
    second.stack.peers.serve("greet", lambda _node, _body: {"life": 1})
    assert first.stack.peers.ask(second.id, "greet", {}) == {"life": 1}
    second.stop()
    second.start()
    second.stack.peers.serve("greet", lambda _node, _body: {"life": 2})
    pair.together()
    assert first.stack.peers.ask(second.id, "greet", {}) == {"life": 2}


def test_a_port_that_another_program_has_is_said_and_the_node_goes_on_alone(tmp_path: Path) -> None:
    with touching_stack(tmp_path, 1) as stack:
        node = stack.nodes[0]
        stack.together()
        assert node.stack.fault == ""
        node.stop()
        with socket.create_server((node.world.look(node.name).address, node.link_port)):
            node.start()
            stack.together()
            assert "cannot be listened on" in node.stack.fault
