"""The power contract at work in a module that nobody touches: its cap, its contracts, its alarms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from virtual_stack import VirtualModule, VirtualStack

from agent.cluster.power.derate import FIRST_WAIT_S
from agent.cluster.power.wire import Ask, Grant
from agent.errors import NotFoundError, UnavailableError


@pytest.fixture
def stack(tmp_path: Path) -> VirtualStack:
    made = VirtualStack(tmp_path, 1)
    made.run(1.0)
    return made


@pytest.fixture
def module(stack: VirtualStack) -> VirtualModule:
    return stack["a"]


def ask(module: VirtualModule, watts: float, ttl_s: float = 3600.0, least: float = 0.0) -> Grant:
    return module.contracts.request(Ask(module.id, watts, least, "normal", ttl_s))


def granted(module: VirtualModule) -> list[float]:
    return [grant.granted_w for book in module.contracts.books() for grant in book.grants]


def test_a_contract_ends_by_itself_and_its_module_is_at_its_floor_then(
    stack: VirtualStack, module: VirtualModule
) -> None:
    assert ask(module, 25, ttl_s=5).granted_w == 25.0 and module.hardware.cap.applied() == 25.0
    stack.run(4.7)
    assert granted(module) == [25.0]
    stack.run(0.6)
    assert granted(module) == [] and module.hardware.cap.applied() == 10.0


def test_without_any_contract_the_cap_is_its_owners(stack: VirtualStack, module: VirtualModule) -> None:
    cap = module.hardware.cap
    assert cap.applied() == cap.peak_w
    cap.apply(20.0)
    stack.run(10.0)
    assert cap.applied() == 20.0 and not module.hardware.load_switch.enabled()


def test_a_supply_that_is_too_weak_for_the_owners_wish_holds_the_cap_down(tmp_path: Path) -> None:
    stack = VirtualStack(tmp_path, 1, supply_w=30.0)
    stack.run(1.0)
    assert stack["a"].hardware.cap.applied() == 25.0


def test_a_supply_that_sags_takes_watts_back_and_ends_what_it_cannot_carry(
    stack: VirtualStack, module: VirtualModule
) -> None:
    ask(module, 40, least=20)
    stack.hands().plug("a", 30.0)
    stack.run(1.0)
    assert granted(module) == [25.0] and module.hardware.cap.applied() == 25.0
    stack.hands().plug("a", 20.0)
    stack.run(1.0)
    assert granted(module) == [] and module.hardware.cap.applied() == 10.0


def test_a_contract_that_is_not_in_force_cannot_be_given_back(stack: VirtualStack, module: VirtualModule) -> None:
    contract = ask(module, 20, ttl_s=5).promise.id
    stack.run(5.0)
    with pytest.raises(NotFoundError):
        module.contracts.cancel(contract)


def test_a_cap_whose_agent_is_gone_falls_to_the_floor_by_itself(stack: VirtualStack, module: VirtualModule) -> None:
    ask(module, 25)
    stack.run(20.0)
    assert module.hardware.cap.applied() == 25.0
    module.stop()
    stack.run(3.1)
    assert module.hardware.cap.applied() == 10.0


def test_an_agent_that_comes_back_knows_where_the_owner_had_the_cap(stack: VirtualStack, module: VirtualModule) -> None:
    module.hardware.cap.apply(30.0)
    stack.run(1.0)
    ask(module, 15)
    stack.run(1.0)
    module.stop()
    stack.run(5.0)
    module.start()
    stack.run(5.0)
    assert module.hardware.cap.applied() == 30.0
    stack.run(5.0)
    assert module.hardware.cap.applied() == 30.0


def test_a_cap_that_was_moved_by_others_is_set_again(stack: VirtualStack, module: VirtualModule) -> None:
    ask(module, 25)
    for watts in (10.0, 40.0):  # a dead man's switch that acted; a helper that was started anew
        module.hardware.cap.apply(watts)
        stack.run(0.3)
        assert module.hardware.cap.applied() == 25.0


def test_an_alert_drops_the_module_to_its_floor_and_what_comes_back_is_less(
    stack: VirtualStack, module: VirtualModule
) -> None:
    stack.hands().plug("a", 40.0)
    stack.run(1.0)
    ask(module, 36)
    stack.world.fail("alert", "a")
    stack.run(0.1)
    assert module.hardware.cap.applied() == 10.0 and "floor" in module.service.alert
    with pytest.raises(UnavailableError, match="alert line"):
        ask(module, 20)
    stack.world.mend("alert", "a")
    stack.run(1.0)
    assert granted(module) == [30.0] and module.hardware.cap.applied() == 30.0
    with pytest.raises(UnavailableError, match="after an alert"):
        ask(module, 36, least=34)
    stack.run(FIRST_WAIT_S)
    assert granted(module) == [36.0] and module.service.alert == ""


def test_a_pulse_of_the_alert_line_that_is_over_when_it_is_heard_still_drops_the_module(
    stack: VirtualStack, module: VirtualModule
) -> None:
    ask(module, 40)
    module.service.hear(True)
    assert module.seat.node.allowed(stack.now) == 10.0
    stack.run(1.0)
    assert module.hardware.cap.applied() == 40.0


def test_a_module_that_hears_its_own_pull_of_the_line_late_takes_nothing_off_the_supply(
    stack: VirtualStack, module: VirtualModule
) -> None:
    ask(module, 40)
    stack.hands().plug("a", 40.0)  # weaker than what is granted
    stack.run(0.5)
    module.service.hear(True)
    stack.run(3.5)
    assert granted(module) == [30.0] and module.service.alert == ""


def test_after_an_alert_without_any_contract_the_cap_is_its_owners_again(
    stack: VirtualStack, module: VirtualModule
) -> None:
    cap = module.hardware.cap
    cap.apply(30.0)
    stack.run(1.0)
    stack.world.fail("alert", "a")
    stack.run(1.0)
    assert cap.applied() == 10.0
    stack.world.mend("alert", "a")
    stack.run(5.0)
    assert cap.applied() == 30.0
    cap.apply(20.0)
    stack.run(5.0)
    assert cap.applied() == 20.0


def test_a_module_that_draws_more_than_it_is_granted_says_so(stack: VirtualStack, module: VirtualModule) -> None:
    stack.world.load(1.0, "a")
    ask(module, 40)
    stack.run(1.0)
    stack.world.fail("cap", "a")
    with pytest.raises(UnavailableError, match="does not follow"):
        ask(module, 20)
    module.contracts.cancel(module.contracts.books()[0].grants[0].promise.id)
    stack.run(1.0)
    assert module.service.trouble == "it draws 40.0 W, and 10 W are granted" and "40 W" in module.service.fault
    stack.world.mend("cap", "a")
    stack.run(1.0)
    assert module.service.trouble == "" and module.service.fault == ""


def test_no_watts_are_promised_while_the_supply_is_silent(stack: VirtualStack, module: VirtualModule) -> None:
    ask(module, 40)
    stack.world.fail("supply", "a")
    stack.run(3.1)
    assert module.hardware.cap.applied() == 10.0
    with pytest.raises(UnavailableError, match="does not say"):
        ask(module, 20)
    stack.world.mend("supply", "a")
    stack.run(1.0)
    assert granted(module) == [40.0] and module.hardware.cap.applied() == 40.0


def test_a_module_on_its_battery_shares_that_out_to_itself(stack: VirtualStack, module: VirtualModule) -> None:
    stack.hands().unplug("a")
    stack.run(1.0)
    assert ask(module, 25).supply_w == 45.0 and module.hardware.cap.applied() == 25.0
    stack.hands().plug("a")
    stack.run(1.0)
    assert granted(module) == [25.0] and module.contracts.books()[0].supply_w == 65.0


def test_a_number_in_the_file_that_no_float_holds_stops_nothing(
    stack: VirtualStack, module: VirtualModule, tmp_path: Path
) -> None:
    file = tmp_path / "a" / "power.json"
    module.stop()
    file.write_text(json.dumps({**json.loads(file.read_text()), "bound_w": 10**400}))
    module.start()
    stack.run(1.0)
    assert module.hardware.cap.applied() == 40.0


def test_a_file_that_is_broken_or_cannot_be_written_is_said_and_stops_nothing(
    stack: VirtualStack, module: VirtualModule, tmp_path: Path
) -> None:
    file = tmp_path / "a" / "power.json"
    number = module.seat.office.new_term("stack").number
    module.stop()
    file.write_text(file.read_text().replace(f'"number": {number}', '"number": "many"'))
    module.start()
    stack.run(1.0)
    assert module.hardware.cap.applied() == 40.0
    module.stop()
    file.unlink()
    file.mkdir()
    module.start()
    stack.run(1.0)
    assert "cannot be kept" in module.service.trouble and ask(module, 20).granted_w == 20.0
