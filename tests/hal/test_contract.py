"""What every driver promises, whatever is behind it: simulated (in this process or another), a kernel, a real stack."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from hands import Bench

from hal.base import Edge, Face, Hardware, HardwareError, Reading, Sighting, TagRecord

START_S = 60.0  # for a driver's own process, on a busy machine
SOON_S = 10.0  # for what happens within a second where nothing else runs
RECORD = TagRecord(
    device_id="01234567-89ab-cdef-0123-456789abcdef",
    fingerprint="ab" * 32,
    face="bottom",
    firmware="0.1.0",
    ram_bytes=16 << 30,
    tops=100.0,
    floor_w=10.0,
    peak_w=40.0,
    addresses=("127.0.0.2",),
    boot_nonce="cd" * 16,
)


@pytest.fixture
def hardware(bench: Bench) -> Hardware:
    return bench.hardware


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


@pytest.mark.parametrize("face", ["top", "bottom"])
def test_a_neighbour_that_comes_and_goes_is_one_edge_each(bench: Bench, face: Face) -> None:
    lines = bench.hardware.lines
    for closed in (True, False):
        before = time.monotonic()
        bench.hands.contact(face, closed)
        edge = lines.wait(SOON_S)
        assert edge is not None and (edge.face, edge.closed) == (face, closed)
        assert before <= edge.at <= time.monotonic()
        assert lines.closed()[face] is closed
    assert lines.wait(0.2) is None
    assert not any(lines.closed().values())


def test_an_alert_is_seen_by_who_pulls_it_and_ends_when_it_is_let_go(hardware: Hardware) -> None:
    alert = hardware.alert
    assert alert.wait(0.0) is None and not alert.raised()
    for pulled in (True, False):
        alert.pull(pulled)
        assert alert.wait(SOON_S) is pulled
        assert alert.raised() is pulled


def test_the_alert_stays_while_another_module_pulls_it(bench: Bench) -> None:
    bench.hands.contact("top", True)
    alert = bench.hardware.alert
    bench.hands.pull_alert(True)
    assert alert.wait(SOON_S) is True
    alert.pull(True)
    alert.pull(False)
    assert alert.raised()
    bench.hands.pull_alert(False)
    assert alert.wait(SOON_S) is False
    bench.hands.contact("top", False)


def test_the_load_switch_is_off_until_somebody_switches_it_on(hardware: Hardware) -> None:
    assert not hardware.load_switch.enabled()
    hardware.load_switch.enable(True)
    assert hardware.load_switch.enabled()
    hardware.load_switch.enable(False)
    assert not hardware.load_switch.enabled()


def test_a_reader_tells_its_face_and_sees_nothing_where_nothing_is(hardware: Hardware) -> None:
    for face, reader in hardware.readers.items():
        assert reader.face == face
        until = time.monotonic() + START_S
        while reader.state().state == "restarting" and time.monotonic() < until:
            hardware.lines.wait(0.02)  # its process starts
        assert reader.state().state == "ok"
        assert reader.seen() is None and reader.wait(0.02) is None


def test_the_neighbours_tag_is_read_when_it_comes_when_it_changes_and_no_more_when_it_goes(bench: Bench) -> None:
    reader = bench.hardware.readers["top"]
    bench.hands.tag(RECORD)
    bench.hands.contact("top", True)
    changed = replace(RECORD, cluster_id="ms-cluster-1")
    for record, act in ((RECORD, None), (changed, bench.hands.tag), (None, None)):
        if act is not None:
            act(record)
        elif record is None:
            bench.hands.contact("top", False)
        seen = reader.wait(START_S)
        assert isinstance(seen, Sighting) and seen.record == record
        assert reader.seen() == record


def test_the_own_tag_takes_a_record_and_is_well(hardware: Hardware) -> None:
    if hardware.tag is None:
        pytest.skip("this machine has no tag of its own")
    hardware.tag.publish(RECORD)
    hardware.tag.publish(replace(RECORD, cluster_id="ms-cluster-1"))
    assert hardware.tag.state().state == "ok"


def test_the_link_refuses_a_datagram_that_no_frame_carries_and_waiting_ends(hardware: Hardware) -> None:
    with pytest.raises(HardwareError, match="1201"):
        hardware.link.send(bytes(1201))
    hardware.link.send(bytes(1200))  # to nobody: lost, and not reported
    assert hardware.link.receive(0.02) is None
    assert hardware.link.address().count(".") == 3 or ":" in hardware.link.address()
    assert hardware.link.carrier() in (True, False, None)


def test_datagrams_go_both_ways_between_modules_that_touch(bench: Bench) -> None:
    link = bench.hardware.link
    bench.hands.contact("top", True)
    bench.hands.send(b"\x00from above\n")
    arrived = link.receive(SOON_S)
    assert arrived is not None and arrived[0] == b"\x00from above\n" and arrived[1]
    link.send(b"from below")
    assert bench.hands.received(SOON_S) == b"from below"
    assert link.carrier() in (True, None)
    bench.hands.contact("top", False)


def test_the_meter_reads_plausible_watts(hardware: Hardware) -> None:
    total = hardware.power.total()
    check(total, "W")
    assert total.value is None or 0 < total.value <= hardware.cap.peak_w
    assert hardware.power.rails()
    for rail in hardware.power.rails().values():
        check(rail, "W")


def test_a_module_that_works_draws_more_and_the_cap_holds_it(bench: Bench) -> None:
    power, cap = bench.hardware.power, bench.hardware.cap
    bench.hands.busy(0.0)
    idle = power.total().value
    cap.apply(cap.peak_w)
    bench.hands.busy(1.0)
    full = power.total().value
    taken = cap.apply((cap.floor_w + cap.peak_w) / 2)
    held, until = power.total().value, time.monotonic() + SOON_S
    while held is not None and held > taken and time.monotonic() < until:
        bench.hardware.lines.wait(0.02)  # a meter's next conversion
        held = power.total().value
    assert idle is not None and full is not None and held is not None
    assert idle < held <= taken + 1e-9 and held < full <= cap.peak_w


def test_the_cap_never_takes_a_step_above_what_was_granted(hardware: Hardware) -> None:
    cap = hardware.cap
    assert 0 < cap.floor_w <= cap.applied() <= cap.peak_w
    assert cap.steps_w == tuple(sorted(cap.steps_w)) and (cap.steps_w[0], cap.steps_w[-1]) == (cap.floor_w, cap.peak_w)
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


def test_a_cap_that_is_not_fed_drops_to_its_floor_once_and_takes_steps_again_when_it_is_told(
    hardware: Hardware,
) -> None:
    cap = hardware.cap
    cap.feed(60.0)
    assert cap.apply(cap.peak_w) == cap.peak_w
    cap.feed(0.05)
    until = time.monotonic() + SOON_S
    while cap.applied() != cap.floor_w:
        assert time.monotonic() < until
        hardware.lines.wait(0.02)
    assert cap.apply(cap.peak_w) == cap.peak_w
    hardware.lines.wait(0.1)
    assert cap.applied() == cap.peak_w


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


def test_a_supply_that_is_unplugged_is_external_no_more(bench: Bench) -> None:
    for plugged in (True, False, True):
        bench.hands.plug(plugged)
        assert bench.hardware.supply.external() is plugged
        assert (bench.hardware.supply.available().value or 0.0) >= 0.0


def test_an_edge_is_a_value_that_two_waits_never_share(bench: Bench) -> None:
    bench.hands.contact("bottom", True)
    bench.hands.contact("bottom", False)  # faster than the debouncing: no edge at all, or both
    first = bench.hardware.lines.wait(0.3)
    assert first is None or (isinstance(first, Edge) and bench.hardware.lines.wait(SOON_S) is not None)
    assert bench.hardware.lines.wait(0.1) is None
