"""A whole board over the real kernel: it opens; a missing part is an error with a hint; nothing is left taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from plant import BUS, plant

from hal.base import MissingPartError
from hal.open import open_hardware

BOARD = Path("/run/board")
WIRING = {
    "meter_label": "ina3221 0-0040#1",
    "tag_bus": "",
    "sink_bus": "",
    "supply_w": "65",
    "link": "lo",
    "reader": "",  # its process takes seconds to start; the contract suite has it
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stack_bottom": "NO_LINE"}, "NO_LINE"),
        ({"alert": "NO_ALERT"}, "NO_ALERT"),
        ({"load_enable": "NO_SWITCH"}, "NO_SWITCH"),
        ({"reader": "/dev/no-reader"}, "no-reader"),
        ({"tag_bus": "no-bus"}, "no-bus"),
        ({"tag_bus": BUS, "tag_address": "0x51"}, "0x51"),
        ({"tag_bus": BUS, "tag_address": "0x40"}, "ina3221"),
        ({"sink_bus": BUS, "sink_address": "0x51"}, "0x51"),
        ({"link": "thox-none"}, "thox-none"),
        ({"meter": "ina999"}, "ina999"),
        ({"meter_label": "VDD_OTHER"}, "VDD_OTHER"),
    ],
)
def test_a_part_that_is_missing_is_an_error_with_a_hint_and_the_rest_is_given_back(
    change: dict[str, str], named: str
) -> None:
    with pytest.raises(MissingPartError, match=named) as missing:
        open_hardware("auto", BOARD, wiring=WIRING | change)
    assert missing.value.hint and "Orin NX" in str(missing.value)
    open_hardware("auto", BOARD, wiring=WIRING).close()


def test_a_board_that_is_closed_leaves_its_load_off_and_its_alert_to_the_others() -> None:
    hardware = open_hardware("auto", BOARD, wiring=WIRING)
    assert not hardware.simulated and hardware.board is hardware.machine
    hardware.load_switch.enable(True)
    hardware.alert.pull(True)
    hardware.close()
    assert not plant().wires.level("LOAD_EN")
    again = open_hardware("auto", BOARD, wiring=WIRING)
    assert not again.alert.raised()
    again.close()


def test_a_machine_without_stack_and_meter_says_that_it_has_no_meter() -> None:
    wiring = dict.fromkeys(("stack_top", "stack_bottom", "alert", "load_enable", "reader", "link"), "")
    with pytest.raises(MissingPartError, match="energy counter"):
        open_hardware("real", Path("/"), wiring=wiring)
    alone = open_hardware("real", Path("/"), wiring=wiring | {"meter": "ina3221", "meter_label": "ina3221 0-0040#1"})
    assert alone.lines.closed() == {"top": False, "bottom": False} and alone.readers == {} and alone.tag is None
    assert not alone.alert.raised() and not alone.load_switch.enabled()
    alone.close()
