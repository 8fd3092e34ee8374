"""The closed loop over the real kernel: load, registers, hwmon, ladder, devfreq, read back. And who may move it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plant import FULL_W, GPU, IDLE_W, plant

from hal.base import HardwareError
from hal.power import HwmonPowerMeter
from hal.power_cap import SOCKET, HelperPowerCap
from hal.supply import SysfsSupply
from hal.sysfs import Sysfs
from hal.thermal import SysfsThermometers

SOON_S = 20.0


@pytest.fixture
def cap() -> Iterator[HelperPowerCap]:
    made = HelperPowerCap()
    made.feed(60.0)
    made.apply(1e6)
    yield made
    plant().busy = 0.0
    made.feed(60.0)
    made.apply(1e6)
    made.close()


@pytest.fixture
def meter() -> HwmonPowerMeter:
    return HwmonPowerMeter(Sysfs(), "ina3221", "ina3221 0-0040#1")


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)  # between two looks at a file that tells nobody of its changes


def test_load_rises_the_meter_sees_it_the_ladder_steps_down_and_the_watts_obey(
    cap: HelperPowerCap, meter: HwmonPowerMeter
) -> None:
    granted = 22.0
    assert cap.applied() == 40.0
    for load in (0.0, 0.4, 0.7, 1.0):
        plant().busy = load
        drawn = IDLE_W + load * (FULL_W[1173] - IDLE_W)
        eventually(lambda drawn=drawn: meter.total().value == pytest.approx(drawn, rel=0.03))  # type: ignore[misc]
        if drawn > granted:
            break
    assert drawn > granted, "the load was to rise above what is granted"
    taken = cap.apply(granted)
    assert taken == 20.0 == cap.applied()
    assert (GPU / "max_freq").read_text().strip() == "816000000" == (GPU / "cur_freq").read_text().strip()
    eventually(lambda: (meter.total().value or 99.0) <= taken)
    plant().busy = 1.0
    eventually(lambda: meter.total().value == pytest.approx(FULL_W[816], rel=0.02))
    assert (meter.total().value or 99.0) <= taken


def test_a_module_that_nobody_feeds_is_at_its_floor_within_its_time(
    cap: HelperPowerCap, meter: HwmonPowerMeter
) -> None:
    plant().busy = 1.0
    cap.feed(0.3)
    before = time.monotonic()
    eventually(lambda: (GPU / "max_freq").read_text().strip() == "408000000")
    assert time.monotonic() - before >= 0.2
    eventually(lambda: (meter.total().value or 99.0) <= cap.floor_w)


def test_a_cap_that_somebody_else_lifts_is_noticed(cap: HelperPowerCap) -> None:
    cap.apply(10.0)
    (GPU / "max_freq").write_text("1173000000")
    assert cap.applied() == 40.0
    assert cap.apply(10.0) == 10.0


def test_a_clock_that_is_pinned_high_comes_down_through_the_real_kernel(cap: HelperPowerCap) -> None:
    (GPU / "min_freq").write_text("1173000000")
    assert cap.apply(15.0) == 15.0
    assert (GPU / "cur_freq").read_text().strip() == "612000000"


def test_a_user_outside_the_group_is_kept_from_the_helper() -> None:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)
        try:
            HelperPowerCap()
        except HardwareError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_user_who_gets_at_the_socket_all_the_same_is_turned_away() -> None:
    mode = SOCKET.stat().st_mode
    SOCKET.chmod(0o666)
    try:
        test_a_user_outside_the_group_is_kept_from_the_helper()
    finally:
        SOCKET.chmod(mode)


def test_a_zone_reads_what_the_kernel_says_and_a_sensor_that_fails_is_a_fault() -> None:
    zones = SysfsThermometers(Sysfs())
    emulated = Path("/sys/class/thermal/thermal_zone0/emul_temp")
    emulated.write_text("71500")
    assert [reading.value for reading in zones.zones().values()] == [71.5]
    emulated.write_text("990000")
    assert [reading.quality for reading in zones.zones().values()] == ["fault"]
    emulated.write_text("0")


def test_a_battery_and_a_plug_are_what_the_kernel_says() -> None:
    supply = SysfsSupply(Sysfs())
    parameters = Path("/sys/module/test_power/parameters")
    for charge in (7, 93):
        (parameters / "battery_capacity").write_text(str(charge))
        battery = supply.battery()
        assert battery is not None and battery.value == charge
    for plugged in (False, True):
        plant().plug(plugged)
        assert supply.external() is plugged
        assert supply.available().quality == "fault", "this plug does not say what it gives"
        assert (SysfsSupply(Sysfs(), 45.0).available().value == 45.0) is plugged
    (parameters / "battery_present").write_text("false")
    assert supply.battery() is None
    (parameters / "battery_present").write_text("true")
