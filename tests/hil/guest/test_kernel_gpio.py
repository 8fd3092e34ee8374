"""The GPIO drivers over the kernel's own lines: names, edges with the kernel's time, debouncing, ownership."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gpiod
import pytest
from gpiod.line import Direction
from plant import Plant, plant

from hal.base import MissingPartError
from hal.gpio import GpioAlertLine, GpioInput, GpioLoadSwitch, GpioStackLines, find_line

TOP = "STACK_DET_TOP"


@pytest.fixture
def lines() -> Iterator[GpioStackLines]:
    plant().contact("top", False)
    made = GpioStackLines({"top": TOP, "bottom": "STACK_DET_BOTTOM"})
    yield made
    made.close()
    plant().contact("top", False)


@pytest.fixture
def the() -> Plant:
    return plant()


def test_an_edge_carries_the_kernels_own_time_of_the_interrupt(lines: GpioStackLines, the: Plant) -> None:
    before = time.monotonic()
    the.contact("top", True)
    pulled = time.monotonic()
    while time.monotonic() < pulled + 0.3:
        pass  # nobody looks meanwhile
    edge = lines.wait(10.0)
    assert edge is not None and edge.closed and before <= edge.at < pulled + 0.25


def test_a_magnet_that_chatters_is_one_edge(lines: GpioStackLines, the: Plant) -> None:
    for _ in range(7):
        the.contact("top", True)
        the.contact("top", False)
    the.contact("top", True)
    edge = lines.wait(10.0)
    assert edge is not None and edge.closed
    assert lines.wait(0.3) is None and lines.closed() == {"top": True, "bottom": False}


def test_edges_of_both_faces_come_in_the_order_in_which_they_were(lines: GpioStackLines, the: Plant) -> None:
    the.contact("bottom", True)
    first = lines.wait(10.0)
    the.contact("top", True)
    the.contact("bottom", False)
    second, third = lines.wait(10.0), lines.wait(10.0)
    assert first is not None and second is not None and third is not None
    assert first.face == "bottom" and {second.face, third.face} == {"top", "bottom"}
    assert first.at < second.at <= third.at


def test_a_line_that_is_ours_is_nobody_elses_and_it_says_so(lines: GpioStackLines, the: Plant) -> None:
    with pytest.raises(MissingPartError, match="in use") as taken:
        GpioStackLines({"top": TOP})
    assert "gpioinfo" in taken.value.hint
    with gpiod.Chip(the.wires.device) as chip:
        assert chip.get_line_info(TOP).consumer == "thox"
        assert chip.get_line_info(TOP).debounce_period.total_seconds() == 0.05


def test_a_line_that_no_chip_has_is_missing_with_a_hint() -> None:
    with pytest.raises(MissingPartError, match="NO_SUCH_LINE") as missing:
        find_line("NO_SUCH_LINE")
    assert "gpio-line-names" in missing.value.hint


def test_what_was_taken_before_a_missing_line_is_given_back() -> None:
    with pytest.raises(MissingPartError):
        GpioStackLines({"top": TOP, "bottom": "NO_SUCH_LINE"})
    GpioStackLines({"top": TOP}).close()


def test_a_face_without_a_switch_is_never_closed() -> None:
    made = GpioStackLines({"top": "", "bottom": ""})
    assert made.closed() == {"top": False, "bottom": False} and made.wait(0.01) is None
    made.close()


def test_a_pulse_on_the_alert_line_is_seen_however_short(the: Plant) -> None:
    alert = GpioAlertLine("PWR_ALERT#")
    the.wires.pull_alert(True)
    the.wires.pull_alert(False)
    assert (alert.wait(10.0), alert.wait(10.0), alert.wait(0.05)) == (True, False, None)
    alert.close()


def test_a_pulled_alert_is_low_on_the_wire_and_open_when_it_is_let_go(the: Plant) -> None:
    alert = GpioAlertLine("PWR_ALERT#")
    alert.pull(True)
    assert the.wires.level("PWR_ALERT#") is False and alert.raised()
    alert.pull(False)
    with gpiod.Chip(the.wires.device) as chip:
        assert chip.get_line_info("PWR_ALERT#").direction is Direction.INPUT
    assert alert.wait(10.0) is True and alert.wait(10.0) is False
    alert.close()


def test_a_readers_field_at_our_tag_is_seen(the: Plant) -> None:
    field = GpioInput("NFC_FD")
    assert not field.active() and field.wait(0.01) is None
    the.wires.drive("NFC_FD", high=False)
    assert field.wait(10.0) is True and field.active()
    the.wires.drive("NFC_FD", high=True)
    assert field.wait(10.0) is False
    field.close()


def test_the_load_switch_is_off_before_and_after_us(the: Plant) -> None:
    switch = GpioLoadSwitch("LOAD_EN")
    assert not the.wires.level("LOAD_EN")
    switch.enable(True)
    assert the.wires.level("LOAD_EN") and switch.enabled()
    switch.close()
    assert not the.wires.level("LOAD_EN")
