"""Contracts end by themselves, and the cap follows a supply that changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.cluster.contracts import Ask, PowerContracts
from agent.errors import NotFoundError
from hal.base import Hardware, Reading
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
