"""What every driver promises, whatever is behind it. Each way to open hardware runs through all of it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from hal.base import Hardware, Reading
from hal.open import open_hardware

WAYS = ("simulated", "auto")


@pytest.fixture(params=WAYS)
def hardware(request: pytest.FixtureRequest, tmp_path: Path) -> Hardware:
    return open_hardware(request.param, root=tmp_path)  # an empty tree is no board that anybody knows


def check(reading: Reading, unit: str) -> None:
    assert reading.unit == unit and reading.source
    assert (reading.value is not None) == (reading.quality == "ok")
    assert reading.value is None or math.isfinite(reading.value)
    assert 0 <= time.monotonic() - reading.at < 60


def test_the_board_states_its_facts(hardware: Hardware) -> None:
    assert hardware.board.name and hardware.board.cores >= 1
    assert hardware.board.memory_bytes >= 1 << 30 and hardware.board.tops >= 0


def test_both_faces_are_known_and_waiting_for_an_edge_ends(hardware: Hardware) -> None:
    assert set(hardware.lines.closed()) == {"top", "bottom"}
    began = time.monotonic()
    assert hardware.lines.wait(0.02) is None
    assert time.monotonic() - began < 5


def test_the_meter_reads_plausible_watts(hardware: Hardware) -> None:
    total = hardware.power.total()
    check(total, "W")
    assert total.value is None or 0 < total.value <= hardware.cap.peak_w
    assert hardware.power.rails()
    for rail in hardware.power.rails().values():
        check(rail, "W")


def test_the_cap_never_takes_a_step_above_what_was_granted(hardware: Hardware) -> None:
    cap = hardware.cap
    assert 0 < cap.floor_w <= cap.applied() <= cap.peak_w
    before = 0.0
    for watts in (cap.floor_w + i * (cap.peak_w - cap.floor_w) / 40 for i in range(41)):
        taken = cap.apply(watts)
        assert cap.floor_w <= taken <= watts + 1e-9
        assert taken == cap.applied() and taken >= before
        before = taken
    assert before == cap.peak_w


def test_the_cap_stops_at_its_ends(hardware: Hardware) -> None:
    assert hardware.cap.apply(0.0) == hardware.cap.floor_w
    assert hardware.cap.apply(1e6) == hardware.cap.peak_w


def test_every_zone_has_a_temperature_or_says_why_not(hardware: Hardware) -> None:
    zones = hardware.thermal.zones()
    assert zones
    for reading in zones.values():
        check(reading, "degC")


def test_the_supply_says_what_it_can_give(hardware: Hardware) -> None:
    assert hardware.supply.external() in (True, False)
    check(hardware.supply.available(), "W")
    battery = hardware.supply.battery()
    if battery is not None:
        check(battery, "%")
