"""Contracts end by themselves, and the cap follows a supply that changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.cluster.alert import QUIET_S
from agent.cluster.contracts import FEED_S, Ask, PowerContracts
from agent.cluster.power_derate import FIRST_WAIT_S, STEP
from agent.errors import NotFoundError, UnavailableError
from hal.base import Hardware, HardwareError, Reading
from hal.sim import SimDevice


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def ask(watts: float, ttl_s: float = 60.0, least: float = 0.0) -> Ask:
    return Ask("me", watts, least, "normal", ttl_s)


def test_a_contract_ends_by_itself_and_nobody_has_to_ask() -> None:
    hardware = SimDevice().hardware
    contracts = PowerContracts("me", hardware)
    contracts.start()
    try:
        contracts.request(ask(25, ttl_s=0.05))
        assert hardware.cap.applied() == 25.0
        until(lambda: hardware.cap.applied() == 10.0)
        assert contracts.grants() == []
    finally:
        contracts.close()


def test_without_any_contract_the_cap_stays_where_the_board_came_up() -> None:
    hardware = SimDevice().hardware
    contracts = PowerContracts("me", hardware)
    contracts.settle()
    assert hardware.cap.applied() == hardware.cap.peak_w


class Sagging:
    """A supply whose capacity a test turns down."""

    def __init__(self, hardware: Hardware) -> None:
        self.watts = 65.0
        self._inner = hardware.supply

    def external(self) -> bool:
        return True

    def available(self) -> Reading:
        return replace(self._inner.available(), value=self.watts)

    def battery(self) -> None:
        return None


def test_a_supply_that_sags_takes_watts_back_and_ends_what_it_cannot_carry() -> None:
    plain = SimDevice().hardware
    supply = Sagging(plain)
    hardware = replace(plain, supply=supply)
    contracts = PowerContracts("me", hardware)
    contracts.request(ask(40, least=20))
    supply.watts = 27.0
    assert [grant.granted_w for grant in contracts.grants()] == [27.0]
    assert hardware.cap.applied() == 25.0
    supply.watts = 15.0
    assert contracts.grants() == [] and hardware.cap.applied() == 10.0


def test_a_contract_that_is_not_in_force_cannot_be_ended() -> None:
    now = 0.0
    contracts = PowerContracts("me", SimDevice().hardware, lambda: now)
    grant = contracts.request(ask(20, ttl_s=5))
    now = 5.0
    with pytest.raises(NotFoundError):
        contracts.cancel(grant.contract.id)


class Clock:
    """Time that a test moves, for the World and the contracts alike."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_cap_whose_agent_is_gone_falls_to_the_floor_by_itself(clock: Clock) -> None:
    device = SimDevice(clock)
    contracts = PowerContracts("me", device.hardware, clock)
    contracts.request(ask(25, ttl_s=3600))
    for _ in range(5):
        clock.now += FEED_S - 1
        contracts.settle()
        assert device.hardware.cap.applied() == 25.0
    clock.now += FEED_S + 1
    assert device.hardware.cap.applied() == 10.0


def test_a_cap_is_fed_no_longer_than_the_contract_lasts(clock: Clock) -> None:
    device = SimDevice(clock)
    PowerContracts("me", device.hardware, clock).request(ask(25, ttl_s=5))
    clock.now += 5.1
    assert device.hardware.cap.applied() == 10.0


def test_a_cap_that_was_moved_by_others_is_set_again(clock: Clock) -> None:
    hardware = SimDevice(clock).hardware
    contracts = PowerContracts("me", hardware, clock)
    contracts.request(ask(25, ttl_s=3600))
    for watts in (10.0, 40.0):  # a dead man's switch that acted; a helper that was started anew
        hardware.cap.apply(watts)
        contracts.settle()
        assert hardware.cap.applied() == 25.0


def test_an_alert_drops_the_module_to_its_floor_and_what_comes_back_is_less(clock: Clock) -> None:
    hardware = SimDevice(clock).hardware
    contracts = PowerContracts("me", replace(hardware, supply=Weak(hardware, 30.0)), clock)
    contracts.request(ask(30, ttl_s=3600))
    look = contracts.watch_alert
    look(True)
    assert hardware.cap.applied() == 10.0 and "floor" in contracts.alert
    with pytest.raises(UnavailableError):
        contracts.request(ask(20))
    look(False)
    assert hardware.cap.applied() == 10.0  # the others of the stack may not have noticed yet
    clock.now += QUIET_S
    look(False)
    assert contracts.grants()[0].granted_w == pytest.approx(30 * (1 - STEP)) and hardware.cap.applied() == 25.0
    with pytest.raises(UnavailableError, match="after an alert"):
        contracts.request(ask(30, least=28))
    clock.now += FIRST_WAIT_S
    look(False)
    assert contracts.grants()[0].granted_w == 30.0 and contracts.alert == ""


def test_after_an_alert_without_any_contract_the_cap_returns_to_where_it_came_up(clock: Clock) -> None:
    hardware = SimDevice(clock).hardware
    hardware.cap.apply(30.0)
    contracts = PowerContracts("me", hardware, clock)
    contracts.watch_alert(True)
    assert hardware.cap.applied() == 10.0
    contracts.watch_alert(False)
    for _ in range(2):
        clock.now += FIRST_WAIT_S
        contracts.watch_alert(False)
    assert hardware.cap.applied() == 30.0
    hardware.cap.apply(20.0)  # and it is its owner's again
    contracts.settle()
    assert hardware.cap.applied() == 20.0


def test_the_line_is_heard_and_a_line_that_fails_ends_nothing() -> None:
    device = SimDevice()
    contracts = PowerContracts("me", device.hardware)
    device.world.add("other")
    device.world.stack(device.name, "other")
    contracts.start()
    try:
        device.world.unplug(device.name)
        device.world.drain(0.0, device.name)
        device.world.drain(0.0, "other")
        with pytest.raises(HardwareError):
            device.hardware.alert.raised()
        device.world.plug(device.name)
        device.world.fail("alert", "other")
        until(lambda: device.hardware.cap.applied() == 10.0)
        device.world.mend("alert", "other")
        until(lambda: "a moment ago" in contracts.alert)
    finally:
        contracts.close()


class Weak(Sagging):
    """A supply of so many watts."""

    def __init__(self, hardware: Hardware, watts: float) -> None:
        super().__init__(hardware)
        self.watts = watts
