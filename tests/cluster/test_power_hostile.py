"""What a module of the stack may say of power and not get by it: whole services, of which one lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from virtual_stack import LEASE_S, WAIT_S, VirtualStack, ask, formed

from agent.cluster.power.messages import Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.node import PowerNode, Want
from agent.cluster.power.wire import message_from_json, message_to_json
from agent.errors import RequestError, UnavailableError

MODULE = '{"floor_w": 10.0, "peak_w": 40.0, "steps_w": [10, 40], "applied_w": null, "top": false, "bottom": true}'


def test_nobody_speaks_for_another_and_nobody_takes_the_book_whose_supply_it_is_not(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    answer = stack["a"].handlers["power"]
    node = PowerNode(stack["c"].service.member, "ab" * 8)
    request = message_to_json(node.request(Want(40.0), None, 0.0))
    with pytest.raises(RequestError, match="not for you"):
        answer("node-b", {"message": request, "module": {}})
    with pytest.raises(RequestError, match="no cluster"):
        answer("node-x", {"message": request, "module": {}})
    with pytest.raises(RequestError, match="fields of a Module"):
        answer("node-c", {"message": request, "module": {"floor_w": -1}, "contracts": []})
    with pytest.raises(RequestError, match="no higher"):
        answer("node-c", {"message": request, "module": json.loads(MODULE.replace("10.0", "41.0")), "contracts": []})
    bodies: tuple[object, ...] = (None, [], {}, {"message": 1}, {"message": "{}"}, {"message": "x" * 9000})
    for body in bodies:
        with pytest.raises(RequestError):
            answer("node-c", body)
    takeover = Takeover(Term(99, "node-b", "cd" * 8))
    assert answer("node-b", {"message": message_to_json(takeover)})["message"] is None
    assert stack["a"].seat.kind == "stack" and not stack["a"].seat.office.allocator.retired  # type: ignore[union-attr]
    assert (
        stack["b"].handlers["power"]("node-c", {"message": request, "module": json.loads(MODULE), "contracts": []})[
            "message"
        ]
        is None
    )


def test_a_grant_of_anybody_but_the_module_that_was_asked_does_not_count(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    stack.checks = False  # one of them lies

    def lie(_node: str, body: object) -> dict[str, object]:
        assert isinstance(body, dict)
        request = message_from_json(body["message"])
        assert isinstance(request, PowerRequest)
        term = Term(1000, "node-b", "ef" * 8)
        grant = PowerGrant(request.node_id, request.boot, term, 10**6 + request.seq, request.seq, 40.0)
        return {"message": message_to_json(grant), "contracts": []}

    stack["a"].handlers["power"] = lie
    stack.run(LEASE_S + 1.0)
    assert stack.caps()["c"] == 10.0


@pytest.mark.parametrize(
    "change",
    [{"granted_w": -1.0}, {"granted_w": "30"}, {"reason": "x" * 501}, {"reason": "a\nb"}, {"promise": {}}, {"more": 1}],
)
def test_what_the_module_at_the_supply_tells_is_checked_before_it_is_told_on(
    tmp_path: Path, change: dict[str, object]
) -> None:
    stack = formed(tmp_path, 2)
    honest = stack["a"].handlers["power-contract"]
    stack["a"].handlers["power-contract"] = lambda node, body: {**honest(node, body), **change}
    with pytest.raises(UnavailableError, match="not understood"):
        ask(stack, "b", "b", 20)


def test_a_book_that_another_module_than_the_earlier_one_hands_on_is_not_taken(tmp_path: Path) -> None:
    stack = VirtualStack(tmp_path, 2)
    stack.hands().unplug("a")
    stack.hands().plug("b", 65.0)
    stack.run(WAIT_S + 3.0)
    honest = stack["b"].handlers["power"]

    def lie(node: str, body: object) -> dict[str, object]:
        assert isinstance(body, dict)
        message = message_from_json(body["message"])
        if not isinstance(message, Takeover):
            return honest(node, body)
        book = Handover(Term(7, "node-x", "ab" * 8), message.term.birth, ())
        return {"message": message_to_json(book), "office": True}

    stack["b"].handlers["power"] = lie
    stack.hands(2.5).plug("a", 65.0)
    stack.run(0.6)
    assert stack["a"].seat.kind is None
    stack.run(0.9)
    assert stack["a"].service.pulling  # without a book it waits
