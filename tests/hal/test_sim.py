"""A simulated module behaves as a device would: it draws, heats, obeys and breaks."""

from __future__ import annotations

import math

import pytest
from test_contract import RECORD

from hal.base import HardwareError, MissingPartError, Reading
from hal.sim import SimDevice
from hal.world_state import AMBIENT_C, FAULTS, IDLE_W, LADDER_W, TAU_S, ZONES_K_PER_W


class Desk:
    """A device with a clock and a load that the test turns."""

    def __init__(self) -> None:
        self.now, self.load = 1000.0, 0.0
        self.device = SimDevice(lambda: self.now, lambda: self.load)
        self.hardware = self.device.hardware

    def watts(self) -> float | None:
        return self.hardware.power.total().value

    def celsius(self, zone: str = "tj-thermal") -> float:
        value = self.hardware.thermal.zones()[zone].value
        assert value is not None
        return value


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_power_follows_the_load_and_never_passes_the_cap(desk: Desk) -> None:
    assert desk.watts() == IDLE_W
    for worst in LADDER_W:
        assert desk.hardware.cap.apply(worst) == worst
        desk.load = 1.0
        assert desk.watts() == worst
        desk.load = 7.0
        assert desk.watts() == worst
    rails = [reading.value for reading in desk.hardware.power.rails().values()]
    assert sum(value or 0 for value in rails) == pytest.approx(desk.watts())


def test_heat_follows_power_by_the_law_of_one_resistance_and_one_capacity(desk: Desk) -> None:
    assert desk.celsius() == AMBIENT_C
    desk.load = 1.0
    end = AMBIENT_C + ZONES_K_PER_W["tj-thermal"] * LADDER_W[-1]
    desk.now += TAU_S
    assert desk.celsius() == pytest.approx(end + (AMBIENT_C - end) / math.e)
    desk.now += 100 * TAU_S
    assert desk.celsius() == pytest.approx(end)
    desk.hardware.cap.apply(10.0)  # a cap cools
    desk.now += 100 * TAU_S
    assert desk.celsius() == pytest.approx(AMBIENT_C + ZONES_K_PER_W["tj-thermal"] * 10.0)
    desk.device.world.heat(60.0)
    desk.now += 100 * TAU_S
    assert desk.celsius() == pytest.approx(60.0 + ZONES_K_PER_W["tj-thermal"] * 10.0)


def test_looking_more_often_does_not_change_the_heat() -> None:
    often, once = Desk(), Desk()
    for desk, looks in ((often, 50), (once, 1)):
        desk.load = 0.5
        for _ in range(looks):
            desk.now += 60.0 / looks
            desk.celsius()
    assert often.celsius() == pytest.approx(once.celsius())


def test_a_failed_sensor_is_a_state_and_never_a_number(desk: Desk) -> None:
    for part in ("meter", "thermal", "supply", "lines"):
        desk.device.fail(part)
    readings: list[Reading] = [desk.hardware.power.total(), desk.hardware.supply.available()]
    readings += [*desk.hardware.power.rails().values(), *desk.hardware.thermal.zones().values()]
    assert all(reading.value is None and reading.quality == "fault" for reading in readings)
    for ask in (desk.hardware.supply.external, desk.hardware.lines.closed):
        with pytest.raises(MissingPartError) as caught:
            ask()
        assert "thox sim mend" in caught.value.hint
    desk.device.mend("meter")
    assert desk.watts() == IDLE_W


def test_a_noisy_meter_jumps_and_stays_a_meter(desk: Desk) -> None:
    desk.device.fail("meter-noise")
    values = {desk.watts() for _ in range(20)}
    assert len(values) > 1 and all(value is not None and abs(value - IDLE_W) <= IDLE_W / 5 + 1e-9 for value in values)


def test_a_stuck_cap_says_what_it_really_took(desk: Desk) -> None:
    desk.device.fail("cap")
    assert desk.hardware.cap.apply(10.0) == LADDER_W[-1]


def test_a_cap_that_is_not_fed_in_time_is_at_its_floor_from_that_moment_on(desk: Desk) -> None:
    desk.hardware.cap.feed(3.0)
    desk.load = 1.0
    desk.now += 2.9
    assert desk.watts() == 40.0
    desk.now += 0.1
    assert (desk.watts(), desk.hardware.cap.applied()) == (10.0, 10.0)
    assert desk.hardware.cap.apply(40.0) == 40.0  # it acts once, as a board's root helper does
    desk.now += 60.0
    assert desk.hardware.cap.applied() == 40.0
    desk.hardware.cap.feed(3.0)
    desk.now += 3.0
    assert desk.hardware.cap.applied() == 10.0


def test_a_battery_carries_an_unplugged_device_until_it_is_empty(desk: Desk) -> None:
    supply = desk.hardware.supply
    full = supply.battery()
    assert supply.external() and full is not None and full.value == 100.0
    desk.device.world.unplug(desk.device.name)
    assert not supply.external() and supply.available().value == 45.0
    desk.load = 1.0
    desk.now += 3600 * 50 / 40 / 2  # half of 50 Wh at 40 W
    half = supply.battery()
    assert half is not None and half.value == pytest.approx(50.0)
    desk.now += 3600
    with pytest.raises(MissingPartError, match="power") as caught:
        desk.hardware.power.total()
    assert "thox sim plug" in caught.value.hint
    desk.device.world.plug(desk.device.name)
    assert desk.watts() == 40.0


def test_dead_nfc_parts_say_so_in_their_state(desk: Desk) -> None:
    reader, tag = desk.hardware.readers["top"], desk.hardware.tag
    assert tag is not None
    assert (reader.state().state, tag.state().state) == ("ok", "ok")
    desk.device.fail("reader")
    desk.device.fail("tag")
    assert (reader.state().state, tag.state().state) == ("fault", "fault")
    assert reader.state().detail == FAULTS["reader"]
    with pytest.raises(MissingPartError):
        tag.publish(RECORD)


def test_a_closed_link_refuses_instead_of_waiting(desk: Desk) -> None:
    desk.hardware.link.close()
    with pytest.raises(HardwareError):
        desk.hardware.link.receive(5.0)
