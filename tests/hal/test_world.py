"""A World on a clock that the test turns: what flows through a stack, what its lines say, and what breaks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_contract import RECORD

from hal.base import Edge, Hardware, HardwareError, MissingPartError
from hal.boards import ORIN_NX_16
from hal.sim import sim_hardware
from hal.world import World
from hal.world_port import LocalPort
from hal.world_state import FAULTS, IDLE_W, STANDBY_W, tag_to_json


class Table:
    """Modules a, b, c ... side by side, a supply of 65 W in the first."""

    def __init__(self, names: str = "abc", battery_wh: float = 50.0) -> None:
        self.now = 100.0
        self.world = World(lambda: self.now)
        for name in names:
            self.world.add(name, battery_wh=battery_wh)
        self.world.plug(names[0])
        self.of: dict[str, Hardware] = {name: sim_hardware(LocalPort(self.world, name), ORIN_NX_16) for name in names}

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.world.advance()

    def tower(self, *names: str) -> None:
        for lower, upper in itertools.pairwise(names):
            self.world.stack(lower, upper)
        self.pass_time(1.0)
        for name in names:
            while self.of[name].lines.wait(0) or self.of[name].readers["top"].wait(0):
                pass

    def status(self, name: str) -> dict[str, object]:
        module: dict[str, object] = self.world.status()["modules"][name]
        return module

    def watts(self, name: str) -> float | None:
        return self.of[name].power.total().value


@pytest.fixture
def table() -> Table:
    return Table()


# --- the stack -------------------------------------------------------------------------------------------------------


def test_modules_are_stacked_by_hands_that_know_what_is_impossible(table: Table) -> None:
    world = table.world
    world.stack("b", "c")
    world.stack("a", "b")
    assert world.status()["stacks"] == [["a", "b", "c"]]
    for lower, upper in (("a", "b"), ("a", "c"), ("c", "a"), ("a", "x")):
        with pytest.raises(HardwareError):
            world.stack(lower, upper)
    with pytest.raises(HardwareError, match="stands on nothing"):
        world.unstack("a")
    world.unstack("b")
    assert world.status()["stacks"] == [["a"], ["b", "c"]]
    world.stack("a", "b")
    world.remove("b")
    assert world.status()["stacks"] == [["a"], ["c"]]


def test_edges_come_one_for_each_face_when_the_line_has_been_still_for_50_ms(table: Table) -> None:
    table.world.stack("a", "b")
    table.pass_time(0.049)
    assert table.of["a"].lines.wait(0) is None and not table.of["a"].lines.closed()["top"]
    table.pass_time(0.001)
    assert table.of["a"].lines.wait(0) == Edge("top", True, 100.05)
    assert table.of["b"].lines.wait(0) == Edge("bottom", True, 100.05)
    assert table.of["c"].lines.wait(0) is None
    table.world.unstack("b")
    table.pass_time(0.01)
    table.world.stack("a", "b")  # back before anybody noticed
    table.pass_time(1.0)
    assert table.of["a"].lines.wait(0) is None


@pytest.mark.parametrize(
    ("fault", "edges"), [("top-bounce", [True, False]), ("top-noise", [True, False]), ("top-stuck", [])]
)
def test_a_bad_line_gives_no_edge_that_is_not_true(table: Table, fault: str, edges: list[bool]) -> None:
    table.world.fail(fault, "a")
    seen = []
    acts: list[Callable[[], None]] = [lambda: table.world.stack("a", "b"), lambda: table.world.unstack("b")]
    for act in acts:
        act()
        for _ in range(1000):
            table.pass_time(0.001)
        while edge := table.of["a"].lines.wait(0):
            seen.append(edge.closed)
    assert seen == edges


def test_a_bouncing_line_is_still_only_when_it_has_stopped_bouncing(table: Table) -> None:
    table.world.fail("top-bounce", "a")
    table.world.stack("a", "b")
    table.pass_time(1.0)
    edge = table.of["a"].lines.wait(0)
    assert edge is not None and edge.closed and edge.at == pytest.approx(100.07)


def test_a_chattering_line_gives_edges_for_as_long_as_it_chatters(table: Table) -> None:
    table.world.fail("top-chatter", "a")
    table.pass_time(2.0)
    count = 0
    while table.of["a"].lines.wait(0):
        count += 1
    assert count >= 8
    table.world.mend("top-chatter", "a")
    table.pass_time(1.0)
    while table.of["a"].lines.wait(0):
        pass
    table.pass_time(2.0)
    assert table.of["a"].lines.wait(0) is None and not table.of["a"].lines.closed()["top"]


def test_a_mended_line_says_what_it_missed(table: Table) -> None:
    table.world.fail("top-stuck", "a")
    table.world.stack("a", "b")
    table.pass_time(1.0)
    table.world.mend("all", "a")
    table.pass_time(0.05)
    assert table.of["a"].lines.closed()["top"]


# --- NFC -------------------------------------------------------------------------------------------------------------


def test_a_tag_is_read_by_the_module_below_and_with_no_power_on_it() -> None:
    table = Table("ab", battery_wh=0.0)
    table.world.write_tag("b", tag_to_json(RECORD))
    assert not table.status("b")["powered"]
    reader = table.of["a"].readers["top"]
    table.world.cut("b", "a")
    table.world.stack("a", "b")
    table.pass_time(0.3)
    sighting = reader.wait(0)
    assert sighting is not None and sighting.record == RECORD == reader.seen()
    table.world.unstack("b")
    table.pass_time(0.5)
    gone = reader.wait(0)
    assert gone is not None and gone.record is None and reader.seen() is None


@pytest.mark.parametrize(("fault", "name"), [("torn-tag", "b"), ("reader", "a")])
def test_a_torn_tag_and_a_dead_reader_show_nothing_until_they_are_mended(table: Table, fault: str, name: str) -> None:
    table.world.write_tag("b", tag_to_json(RECORD))
    reader = table.of["a"].readers["top"]
    table.world.fail(fault, name)
    table.world.stack("a", "b")
    table.pass_time(1.0)
    assert reader.seen() is None and reader.wait(0) is None
    table.world.mend(fault, name)
    table.pass_time(1.0)
    assert reader.seen() == RECORD
    table.world.fail(fault, name)
    table.pass_time(1.0)
    assert reader.seen() is None


def test_a_record_that_is_none_is_refused(table: Table) -> None:
    good = tag_to_json(RECORD)
    assert good is not None
    for bad in ({**good, "tops": "many"}, {**good, "more": 1}, {"device_id": "x"}):
        with pytest.raises(HardwareError):
            table.world.write_tag("b", bad)


# --- power -----------------------------------------------------------------------------------------------------------


def test_the_load_switch_decides_how_much_a_module_takes_from_the_stack() -> None:
    table = Table("ab", battery_wh=0.0)
    table.tower("a", "b")
    table.world.load(1.0, "b")
    assert table.watts("b") == STANDBY_W
    table.of["b"].load_switch.enable(True)
    assert table.watts("b") == 40.0
    assert table.world.status()["contacts"][0]["watts"] == 40.0


def test_a_module_with_a_battery_takes_from_that_what_the_stack_does_not_give(table: Table) -> None:
    table.tower("a", "b")
    table.world.load(1.0, "b")
    assert table.watts("b") == 40.0
    assert table.world.status()["contacts"][0]["watts"] == STANDBY_W
    table.pass_time(3600)
    assert table.status("b")["battery_percent"] == pytest.approx(100 - 100 * (40 - STANDBY_W) / 50, abs=0.1)


def test_the_voltage_droops_the_alert_line_falls_and_the_supply_browns_out_when_the_load_stays() -> None:
    table = Table("abc", battery_wh=0.0)
    table.tower("a", "b", "c")
    for name in "bc":
        table.of[name].load_switch.enable(True)
    for name, load in (("a", 1.0), ("b", 0.5)):
        table.world.load(load, name)
    supply = table.world.status()["supplies"]["a"]
    assert supply["drawn_w"] > 65 and 18 < supply["volts"] < 19
    assert not table.of["c"].alert.raised()
    table.world.load(1.0, "b")  # 84.6 W: beyond 18 V, and beyond 16 V
    assert all(table.of[name].alert.wait(0) is True for name in "abc")
    table.pass_time(0.04)
    assert table.watts("a") == 40.0  # it bears that for 50 ms
    table.of["a"].cap.apply(10.0)
    table.of["b"].cap.apply(10.0)
    assert table.of["c"].alert.wait(0) is False  # in time
    table.pass_time(1.0)
    assert table.watts("a") == 10.0
    for name in "ab":
        table.of[name].cap.apply(40.0)
    table.pass_time(0.06)
    with pytest.raises(MissingPartError):
        table.watts("a")
    assert table.world.status()["supplies"]["a"]["on"] is False
    table.pass_time(1.1)
    assert table.world.status()["supplies"]["a"]["on"] is True
    assert table.status("b")["boots"] == 2 and not table.of["b"].load_switch.enabled()


def test_a_battery_carries_a_module_whose_supply_has_switched_off(table: Table) -> None:
    table.world.plug("a", 20.0)
    table.world.load(1.0, "a")
    table.pass_time(0.06)
    assert table.watts("a") == 40.0 and table.of["a"].supply.available().value == 45.0
    table.world.load(0.1, "a")
    table.pass_time(1.1)
    assert table.of["a"].supply.available().value == 20.0


def test_a_contact_that_carries_too_much_pulls_the_alert_line() -> None:
    table = Table("abc")
    table.world.plug("a", 200.0)
    table.world.contact(70.0)
    table.tower("a", "b", "c")
    for name in "bc":
        table.of[name].load_switch.enable(True)
        table.world.load(1.0, name)
    assert [contact["watts"] for contact in table.world.status()["contacts"]] == [80.0, 40.0]
    assert table.of["a"].alert.wait(0) is True
    table.of["c"].cap.apply(30.0)
    assert table.of["a"].alert.wait(0) is False


def test_the_supply_may_be_in_the_middle_and_move(table: Table) -> None:
    table.tower("a", "b", "c")
    for name in "abc":
        table.of[name].load_switch.enable(True)
    table.world.unplug("a")
    assert table.status("a")["battery_percent"] == 100.0
    table.world.plug("b", 100.0)
    contacts = [round(contact["watts"], 6) for contact in table.world.status()["contacts"]]
    assert contacts == [IDLE_W, IDLE_W]
    assert [table.of[name].supply.external() for name in "abc"] == [False, True, False]


def test_the_alert_line_ends_where_the_stack_ends(table: Table) -> None:
    table.world.stack("a", "b")
    table.of["b"].alert.pull(True)
    assert table.of["a"].alert.wait(0) is True and table.of["c"].alert.wait(0) is None
    table.world.unstack("b")
    assert table.of["a"].alert.wait(0) is False and table.of["b"].alert.raised()
    table.world.fail("alert", "c")
    assert table.of["c"].alert.wait(0) is True
    table.of["c"].alert.pull(False)
    assert table.of["c"].alert.raised()


# --- the link --------------------------------------------------------------------------------------------------------


def got(hardware: Hardware) -> list[bytes]:
    found = []
    while arrived := hardware.link.receive(0):
        found.append(arrived[0])
    return found


def test_datagrams_reach_all_modules_of_the_stack_and_no_other(table: Table) -> None:
    table.world.add("d")
    table.tower("a", "b", "c")
    table.of["a"].link.send(b"hello")
    assert table.of["b"].link.receive(0) == (b"hello", "127.0.0.1")
    assert got(table.of["c"]) == [b"hello"] and got(table.of["a"]) == []
    assert table.of["c"].link.carrier() and not table.world.reaches("a", "d")


def test_a_cut_between_two_that_touch_stops_all_that_passes_there_in_that_direction(table: Table) -> None:
    table.tower("a", "b", "c")
    table.world.cut("b", "a")
    for name in "abc":
        table.of[name].link.send(name.encode())
    assert [got(table.of[name]) for name in "abc"] == [[], [b"a", b"c"], [b"a", b"b"]]
    assert table.world.reaches("a", "c") and not table.world.reaches("c", "a")
    table.world.join("b", "a")
    table.world.cut("a", "c")  # these do not touch: their own datagrams alone
    for name in "abc":
        table.of[name].link.send(name.encode())
    assert [got(table.of[name]) for name in "abc"] == [[b"b", b"c"], [b"a", b"c"], [b"b"]]


def test_datagrams_are_late_and_lost_as_it_is_set(table: Table) -> None:
    table.tower("a", "b")
    table.world.link(delay_s=0.2)
    table.of["a"].link.send(b"late")
    table.pass_time(0.19)
    assert got(table.of["b"]) == []
    table.pass_time(0.02)
    assert got(table.of["b"]) == [b"late"]
    table.world.link(loss=0.5)
    for _ in range(400):
        table.of["a"].link.send(b"x")
    assert 150 < len(got(table.of["b"])) < 250
    table.world.link()
    table.world.fail("link", "a")
    table.of["a"].link.send(b"never")
    assert got(table.of["b"]) == [] and table.of["a"].link.carrier() is False


# --- all of it -------------------------------------------------------------------------------------------------------


def test_every_fault_can_be_made_and_mended_and_leaves_the_world_as_it_was(table: Table) -> None:
    table.world.write_tag("b", tag_to_json(replace(RECORD, tops=1.0)))
    table.tower("a", "b")
    before = table.world.look("a")
    for fault in FAULTS:
        table.world.fail(fault, "a")
        table.pass_time(0.7)
        table.world.mend(fault, "a")
        table.pass_time(0.7)
    after = table.world.look("a")
    assert replace(after, at=before.at, celsius=before.celsius) == before


@pytest.mark.parametrize(
    ("hand", "arguments"),
    [
        ("plug", {"name": "a", "watts": -1.0}),
        ("plug", {"name": "a", "watts": float("nan")}),
        ("unplug", {"name": "b"}),
        ("heat", {"celsius": 1e9}),
        ("load", {"name": "a", "share": 2.0}),
        ("drain", {"name": "a", "percent": 101.0}),
        ("fail", {"name": "a", "fault": "everything"}),
        ("link", {"loss": 2.0}),
        ("contact", {"watts": -1.0}),
        ("add", {"name": "a"}),
        ("add", {"name": "\n"}),
        ("remove", {"name": "x"}),
    ],
)
def test_a_hand_that_makes_no_sense_says_so_and_changes_nothing(
    table: Table, hand: str, arguments: dict[str, object]
) -> None:
    before = table.world.status()
    with pytest.raises(HardwareError):
        getattr(table.world, hand)(**arguments)
    assert table.world.status() == before
