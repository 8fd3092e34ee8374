"""``thox hw``: what hardware this device has, what each part says now, and what is missing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_picture import describe, stack_picture
from agent.cli_print import complain, output, print_table
from agent.cli_sim import world_socket
from agent.cluster.report.parts import part_states
from agent.config import Config
from hal.base import Hardware, HardwareError, PartState, Reading, TagReader, answer_of
from hal.open import open_hardware

WATCH_S = 1.0
_CARRIER = {True: "a partner", False: "no partner", None: "partner unknown"}
_STYLES = {"ok": "green", "fault": "red", "missing": "red", "restarting": "yellow"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="again each second, until Ctrl-C")


def call(options: argparse.Namespace, config: Config) -> int:
    """Exit status 1 when a part is at fault or missing."""
    try:
        hardware = _open(config)
    except HardwareError as error:
        complain(str(error), error.hint)
        return 1
    console = output()
    try:
        while True:
            if options.watch:
                console.clear()
            states = part_states(hardware)
            _print(console, hardware, states)
            if not options.watch:
                return 1 if any(state.state != "ok" for state in states) else 0
            time.sleep(WATCH_S)
    finally:
        hardware.close()


def _open(config: Config) -> Hardware:
    """The hardware that the node of this configuration has: the World of one that runs, where it is simulated."""
    its, served = config.hardware, world_socket(config)
    opened = open_hardware(its.mode, world=served if its.world else None, module=its.module, wiring=its.wiring)
    if opened.simulated and not its.world and served.is_socket():
        try:
            joined = open_hardware(world=served, module=its.module)
        except HardwareError:  # the node that served it is gone
            return opened
        opened.close()
        return joined
    return opened


def _print(console: Console, hardware: Hardware, states: tuple[PartState, ...]) -> None:
    board, machine = hardware.board, hardware.machine
    kind = "simulated: its watts and degrees are made up" if hardware.simulated else "real"
    console.print(Text.assemble(("board     ", "dim"), f"{board.name}, {board.cores} cores, {board.tops:g} TOPS"))
    console.print(Text.assemble(("machine   ", "dim"), f"{machine.name}, {machine.cores} cores"))
    console.print(Text.assemble(("hardware  ", "dim"), (kind, "yellow" if hardware.simulated else "green")))
    console.print()
    console.print(Text(stack_picture(hardware)))
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("part", "driver", "state", "now"):
        table.add_column(title, overflow="fold")
    shown = _readings(hardware)
    for state in states:
        driver, now = shown.get(state.part, ("", ""))
        table.add_row(state.part, driver, Text(state.state, style=_STYLES[state.state]), Text(state.detail or now))
    print_table(table, console)
    absent = [name for name, there in (("nfc-reader", hardware.readers), ("nfc-tag", hardware.tag)) if not there]
    if absent:
        console.print(Text(f"\nnot on this machine: {', '.join(absent)}"))


def _readings(hardware: Hardware) -> dict[str, tuple[str, str]]:
    """Part -> its driver, and what it says now."""
    lines, power, cap, supply = hardware.lines, hardware.power, hardware.cap, hardware.supply
    asked: dict[str, tuple[object, Callable[[], str]]] = {
        "stack-lines": (
            lines,
            lambda: ", ".join(f"{face} {'closed' if on else 'open'}" for face, on in lines.closed().items()),
        ),
        "alert-line": (hardware.alert, lambda: "raised" if hardware.alert.raised() else "quiet"),
        "load-switch": (hardware.load_switch, lambda: "on" if hardware.load_switch.enabled() else "off"),
        "link": (hardware.link, lambda: f"{hardware.link.address()}, {_CARRIER[hardware.link.carrier()]}"),
        "power-meter": (power, lambda: f"{_value(power.total())} ({_values(power.rails())})"),
        "power-cap": (cap, lambda: f"{cap.applied():g} W, of {cap.floor_w:g} to {cap.peak_w:g}"),
        "thermometers": (hardware.thermal, lambda: _values(hardware.thermal.zones())),
        "power-supply": (
            supply,
            lambda: (
                f"{'plugged in' if supply.external() else 'unplugged'}, {_value(supply.available())}"
                f", battery {_value(supply.battery())}"
            ),
        ),
    }
    for reader in hardware.readers.values():
        asked[f"nfc-reader-{reader.face}"] = (reader, partial(_seen, reader))
    if hardware.tag is not None:
        asked["nfc-tag"] = (hardware.tag, str)
    return {part: (type(driver).__name__, answer_of(ask) or "") for part, (driver, ask) in asked.items()}


def _seen(reader: TagReader) -> str:
    record = reader.seen()
    return f"{reader.face}: " + ("nothing there" if record is None else ", ".join(describe(record)))


def _values(readings: Mapping[str, Reading]) -> str:
    return ", ".join(f"{name} {_value(reading)}" for name, reading in readings.items())


def _value(reading: Reading | None) -> str:
    if reading is None:
        return "none"
    unit = {"degC": "°C"}.get(reading.unit, reading.unit)
    return reading.quality if reading.value is None else f"{reading.value:.1f} {unit}"
