"""The simulated device behaves as a device would: it draws, heats, obeys and breaks."""

from __future__ import annotations

import math

import pytest

from hal.base import MissingPartError, Reading
from hal.sim import AMBIENT_C, IDLE_W, LADDER_W, TAU_S, ZONES_K_PER_W, SimDevice, stack, unstack


class Bench:
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
def bench() -> Bench:
    return Bench()


def test_power_follows_the_load_and_never_passes_the_cap(bench: Bench) -> None:
    assert bench.watts() == IDLE_W
    for worst in LADDER_W:
        assert bench.hardware.cap.apply(worst) == worst
        bench.load = 1.0
        assert bench.watts() == worst
        bench.load = 7.0
        assert bench.watts() == worst
    rails = [reading.value for reading in bench.hardware.power.rails().values()]
    assert sum(value or 0 for value in rails) == pytest.approx(bench.watts())


def test_heat_follows_power_by_the_law_of_one_resistance_and_one_capacity(bench: Bench) -> None:
    assert bench.celsius() == AMBIENT_C
    bench.load = 1.0
    end = AMBIENT_C + ZONES_K_PER_W["tj-thermal"] * LADDER_W[-1]
    bench.now += TAU_S
    assert bench.celsius() == pytest.approx(end + (AMBIENT_C - end) / math.e)
    bench.now += 100 * TAU_S
    assert bench.celsius() == pytest.approx(end)
    bench.hardware.cap.apply(10.0)  # a cap cools
    bench.now += 100 * TAU_S
    assert bench.celsius() == pytest.approx(AMBIENT_C + ZONES_K_PER_W["tj-thermal"] * 10.0)


def test_looking_more_often_does_not_change_the_heat() -> None:
    often, once = Bench(), Bench()
    for bench, looks in ((often, 50), (once, 1)):
        bench.load = 0.5
        for _ in range(looks):
            bench.now += 60.0 / looks
            bench.celsius()
    assert often.celsius() == pytest.approx(once.celsius())


def test_a_failed_sensor_is_a_state_and_never_a_number(bench: Bench) -> None:
    for part in ("meter", "thermal", "supply"):
        bench.device.fail(part)
    readings: list[Reading] = [bench.hardware.power.total(), bench.hardware.supply.available()]
    readings += [*bench.hardware.power.rails().values(), *bench.hardware.thermal.zones().values()]
    assert all(reading.value is None and reading.quality == "fault" for reading in readings)
    with pytest.raises(MissingPartError):
        bench.hardware.supply.external()
    bench.device.mend("meter")
    assert bench.watts() == IDLE_W


def test_a_stuck_cap_says_what_it_really_took(bench: Bench) -> None:
    bench.device.fail("cap")
    assert bench.hardware.cap.apply(10.0) == LADDER_W[-1]


def test_stacking_two_devices_gives_each_one_edge() -> None:
    lower, upper = Bench(), Bench()
    stack(lower.device, upper.device)
    stack(lower.device, upper.device)  # they already are
    for bench, face in ((lower, "top"), (upper, "bottom")):
        edge = bench.hardware.lines.wait(1.0)
        assert edge is not None and (edge.face, edge.closed, edge.at) == (face, True, 1000.0)
        assert bench.hardware.lines.wait(0.0) is None
    unstack(lower.device, upper.device)
    edge = lower.hardware.lines.wait(1.0)
    assert edge is not None and not edge.closed and not lower.hardware.lines.closed()["top"]
