"""Modules that share one supply. What must be true at every instant (the sum, each contact, the alert) is checked by
the stack itself after every tick; the tests say what else is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtual_stack import LEASE_S, WAIT_S, VirtualStack, ask, formed

from agent.errors import NotFoundError, UnavailableError


def up(stack: VirtualStack, *names: str) -> bool:
    return all(stack.caps()[name] > 10.0 for name in names)


def test_modules_share_a_supply_evenly_and_who_has_a_contract_comes_first(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    assert stack.caps() == {"a": 20.0, "b": 20.0, "c": 15.0}
    ask(stack, "c", "b", 30)
    stack.run(LEASE_S + 1.0)
    assert stack.caps() == {"a": 15.0, "b": 30.0, "c": 10.0}
    for module in stack.modules.values():  # the same at every node
        (book,) = module.contracts.books()
        assert book.node_id == "node-a" and [grant.granted_w for grant in book.grants] == [30.0]
        applied = {share.node_id: share.applied_w for share in book.shares}
        assert applied == {"node-a": 15.0, "node-b": 30.0, "node-c": 10.0}
    assert all(not module.service.trouble for module in stack.modules.values())


def test_a_contract_given_back_at_another_node_leaves_its_node_at_its_floor(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    contract = ask(stack, "b", "c", 30)
    stack.run(LEASE_S + 1.0)
    assert stack["b"].contracts.cancel(contract) == contract
    stack.run(LEASE_S + 1.0)
    assert stack.caps() == {"a": 25.0, "b": 20.0, "c": 10.0}
    with pytest.raises(NotFoundError):
        stack["b"].contracts.cancel(contract)


def test_whose_floor_does_not_fit_keeps_its_load_off_until_a_stronger_supply_comes(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3, supply_w=30.0)
    off = [name for name, module in stack.modules.items() if not module.hardware.load_switch.enabled()]
    assert len(off) == 1
    stack.run(10.0)
    assert "not admitted" in stack[off[0]].service.trouble
    with pytest.raises(UnavailableError, match="not admitted"):
        ask(stack, "a", off[0], 20)
    stack.hands(1.0).plug("a", 65.0)
    stack.until(lambda: up(stack, "a", "b", "c"))
    assert stack[off[0]].service.trouble == ""


def test_when_the_module_at_the_supply_falls_silent_all_are_at_their_floors_within_a_lease(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    assert up(stack, "a", "b", "c")
    stack["a"].stop()
    stack.run(LEASE_S + 0.1)
    assert set(stack.caps().values()) == {10.0}
    with pytest.raises(UnavailableError) as refused:
        ask(stack, "b", "b", 20)
    assert refused.value.hint and refused.value.headers()["Retry-After"]
    stack["a"].start()
    stack.until(lambda: up(stack, "a", "b", "c"))


def test_a_node_that_cannot_reach_the_module_at_the_supply_says_so_and_is_at_its_floor(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2)
    asked = stack["b"].ask

    def deaf(node: str, purpose: str, body: object, timeout_s: float) -> dict[str, object]:
        stack.cuts.add(("a", "b"))
        try:
            return asked(node, purpose, body, timeout_s)
        finally:
            stack.cuts.clear()

    stack["b"].service.links = type("Deaf", (), {"ask": staticmethod(deaf)})()  # membership hears on, the links do not
    stack.run(LEASE_S + 0.5)
    assert stack.caps()["b"] == 10.0
    assert stack["b"].service.trouble == "node-a, where the supply is plugged in, does not answer: held at the floor"
    with pytest.raises(UnavailableError, match="cannot be reached"):
        ask(stack, "b", "b", 20)


def test_an_alert_of_any_module_drops_all_at_once_and_what_comes_back_is_less(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2, supply_w=60.0)
    assert stack.caps() == {"a": 25.0, "b": 25.0}
    stack.world.fail("alert", "b")
    stack.run(0.1)
    assert stack.caps() == {"a": 10.0, "b": 10.0}
    stack.world.mend("alert", "b")
    stack.run(LEASE_S + 1.0)
    assert stack.caps() == {"a": 25.0, "b": 20.0}
    stack.run(12.0)
    assert stack.caps() == {"a": 25.0, "b": 25.0}


def test_the_office_moves_with_the_supply_and_contracts_move_along(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    contract = ask(stack, "a", "b", 30)
    stack.run(LEASE_S + 1.0)
    before = stack["c"].seat.node.term
    world = stack.hands()
    world.unplug("a")
    world.plug("c", 65.0)
    stack.run(1.0)
    assert set(stack.caps().values()) == {10.0} and "taken over" in stack["c"].service.alert
    stack.until(lambda: up(stack, "b"))
    assert [stack[name].seat.holder for name in "abc"] == ["node-c"] * 3
    after = stack["a"].seat.node.term
    assert before is not None and after is not None and after > before and after.holder == "node-c"
    (book,) = stack["a"].contracts.books()
    assert [(grant.promise.id, grant.granted_w) for grant in book.grants] == [(contract, 30.0)]


def test_a_second_supply_below_takes_the_office_over_and_nobody_loses_a_watt(tmp_path: Path) -> None:
    stack = VirtualStack(tmp_path, 3)
    stack.hands().unplug("a")
    stack.hands().plug("c", 65.0)
    stack.run(WAIT_S + 3.0)
    assert stack.caps() == {"a": 20.0, "b": 20.0, "c": 15.0}
    stack.hands(1.5).plug("a", 65.0)
    for _ in range(100):
        stack.run(0.1)
        assert min(stack.caps().values()) == 15.0 and not stack["a"].seat.raised
    assert [stack[name].seat.holder for name in "abc"] == ["node-a"] * 3
    stack.hands(1.5).unplug("a")  # the one above goes on; it knows of no book, so it waits
    stack.run(1.5)
    assert set(stack.caps().values()) == {10.0}
    stack.until(lambda: up(stack, "a", "b", "c"))
    assert [stack[name].seat.holder for name in "abc"] == ["node-c"] * 3


def test_what_goes_through_a_contact_stays_within_its_limit(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3, supply_w=140.0, contact_w=45.0)
    stack.run(LEASE_S)
    assert stack.caps() == {"a": 40.0, "b": 25.0, "c": 20.0}
    ask(stack, "a", "c", 40, least=30)
    stack.run(LEASE_S + 1.0)
    assert stack.caps() == {"a": 40.0, "b": 15.0, "c": 30.0}
    with pytest.raises(UnavailableError, match="45 W that reach"):
        ask(stack, "b", "b", 40, least=20)


def test_the_agent_at_the_supply_comes_back_with_its_old_state_and_pulls_no_alert(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    before = stack["a"].seat.office.new_term("stack")
    stack["a"].stop()
    stack.run(0.4)
    stack["a"].start()
    while stack["a"].seat.kind != "stack":
        stack.run(0.1)
    term = stack["a"].seat.office.allocator.term  # type: ignore[union-attr]
    assert term.number > before.number and not stack["a"].service.pulling
    for _ in range(60):
        stack.run(0.1)
        assert not stack["b"].seat.raised
    assert up(stack, "a", "b", "c")


def test_contracts_outlive_the_agent_that_made_them_and_none_that_was_given_back_returns(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    kept, gone = ask(stack, "a", "b", 30), ask(stack, "a", "c", 20)
    stack.run(LEASE_S + 1.0)
    stack["a"].stop()
    stack.run(5.0)
    stack["a"].start()
    stack.until(lambda: up(stack, "b", "c"))
    (book,) = stack["b"].contracts.books()
    assert {grant.promise.id for grant in book.grants} == {kept, gone}
    stack["a"].contracts.cancel(gone)
    stack.run(5.0)
    (book,) = stack["b"].contracts.books()
    assert [grant.promise.id for grant in book.grants] == [kept] and stack.caps()["b"] == 30.0


def test_an_agent_that_comes_back_at_another_supply_than_it_left_pulls_the_alert(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2)
    world = stack.hands()
    world.unplug("a")
    stack.run(1.0)
    stack["a"].stop()
    stack.run(1.0)
    stack.hands().plug("a", 65.0)
    stack["a"].start()
    stack.run(0.5)
    assert stack["a"].service.pulling


def test_a_member_that_restarts_is_at_its_floor_and_forgets_no_term(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2)
    term = stack["b"].seat.node.term
    stack["b"].stop()
    stack.run(0.2)
    stack["b"].start()
    stack.run(0.1)
    assert stack.caps()["b"] == 10.0 and stack["b"].seat.node.term == term
    stack.until(lambda: up(stack, "b"))


def test_a_module_whose_agent_hangs_is_counted_with_its_floor_until_it_is_lifted_off(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    stack["c"].stop()
    stack.run(20.0)
    assert stack.caps() == {"a": 25.0, "b": 20.0, "c": 10.0}
    stack.hands().unstack("c")
    stack.run(LEASE_S + 2.0)
    assert stack.caps() == {"a": 30.0, "b": 25.0, "c": 0.0}


def test_a_module_that_hangs_is_counted_by_whoever_touches_it_when_the_supply_moves_there(tmp_path: Path) -> None:
    stack = formed(tmp_path, 4)
    stack["c"].stop()
    stack.run(5.0)
    world = stack.hands()
    world.unplug("a")
    world.plug("d", 140.0)
    stack.run(WAIT_S + 5.0)
    assert stack.caps() == {"a": 40.0, "b": 40.0, "c": 10.0, "d": 30.0}


def test_a_module_that_hangs_when_it_is_put_on_is_counted_by_the_face_that_it_closes(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2, supply_w=50.0)
    stack["b"].stop()
    stack.run(LEASE_S + 1.0)
    stack.hands().unstack("b")
    stack.until(lambda: stack.caps()["a"] == 40.0)
    stack.hands(4.0).stack("a", "b")
    stack.run(LEASE_S * 2)
    assert stack.caps() == {"a": 30.0, "b": 10.0}  # of 45 W
    (book,) = stack["a"].contracts.books()
    assert {share.node_id: share.silent for share in book.shares} == {"node-a": False, "unheard-1": True}
    stack["b"].start()
    stack.until(lambda: stack.caps() == {"a": 25.0, "b": 20.0})
    (book,) = stack["a"].contracts.books()
    assert {share.node_id for share in book.shares} == {"node-a", "node-b"}


def test_modules_that_hang_between_two_that_speak_are_counted(tmp_path: Path) -> None:
    stack = formed(tmp_path, 4, supply_w=100.0)
    stack["b"].stop()
    stack["d"].stop()
    stack.run(LEASE_S + 1.0)
    stack.hands().unstack("b")
    stack.run(LEASE_S * 2)
    stack.hands(4.0).stack("d", "a")  # b and d hang: b, c, d, a
    stack.run(LEASE_S * 4)
    caps = stack.caps()
    assert caps["b"] == caps["d"] == 10.0 and sum(caps.values()) <= 90.0 and up(stack, "a", "c")


def test_a_newcomer_whose_tag_is_not_read_yet_takes_no_watts_from_anybody(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3, supply_w=100.0)
    stack.hands().unstack("c")
    stack.run(LEASE_S * 3)
    ask(stack, "a", "a", 40.0)
    ask(stack, "b", "b", 40.0)
    stack.until(lambda: stack.caps()["a"] == stack.caps()["b"] == 40.0)
    stack.hands().stack("b", "c")
    for _ in range(30):
        stack.run(0.1)
        assert not stack["a"].seat.raised and not stack["b"].seat.raised
    assert stack.caps()["a"] >= 30.0


def test_a_module_that_is_lifted_off_keeps_nothing_of_what_it_was_granted(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2)
    stack.hands().unstack("b")
    stack.run(LEASE_S + 1.0)
    assert not stack["b"].hardware.load_switch.enabled() and stack["b"].seat.state == "alone"
    assert stack["b"].seat.kind == "own" and stack["a"].hardware.cap.applied() == 40.0
    stack.hands().stack("a", "b")
    stack.until(lambda: up(stack, "a", "b"))


def test_a_newcomer_whose_load_is_off_is_let_in_without_an_alert(tmp_path: Path) -> None:
    stack = formed(tmp_path, 3)
    stack.hands().unstack("c")
    stack.run(LEASE_S + 2.0)
    assert stack.caps() == {"a": 30.0, "b": 25.0, "c": 0.0}  # all that there is
    stack.hands().stack("b", "c")
    while not up(stack, "c"):
        stack.run(0.1)
        assert not stack["a"].seat.raised
    assert stack.caps() == {"a": 20.0, "b": 20.0, "c": 15.0}


def test_two_stacks_that_meet_share_the_lower_ones_supply(tmp_path: Path) -> None:
    stack = formed(tmp_path, 4, supply_w=100.0)
    stack.hands().unstack("c")
    stack.hands(3.0).plug("c", 100.0)
    stack.run(10.0)
    assert stack.caps() == {"a": 40.0, "b": 40.0, "c": 40.0, "d": 40.0}
    stack.hands(1.5).stack("b", "c")  # 160 W on 100 W: the supply itself pulls the line until they have found together
    stack.until(lambda: {module.seat.holder for module in stack.modules.values()} == {"node-a"})
    stack.until(lambda: up(stack, "a", "b", "c", "d"))


def test_a_stack_without_any_supply_takes_itself_off_and_each_lives_on_its_battery(tmp_path: Path) -> None:
    stack = formed(tmp_path, 2)
    stack.hands().unplug("a")
    stack.run(8.0)
    assert not any(module.hardware.load_switch.enabled() for module in stack.modules.values())
    assert all(module.hardware.cap.applied() == 40.0 for module in stack.modules.values())
    contract = ask(stack, "a", "b", 20)
    assert [book.node_id for book in stack["a"].contracts.books()] == ["node-a", "node-b"]
    assert stack["b"].hardware.cap.applied() == 20.0 and stack["a"].contracts.cancel(contract) == contract
    stack.hands().plug("b", 65.0)
    stack.until(lambda: up(stack, "a", "b") or stack.caps()["a"] > 10.0)
