"""Opens the drivers of a real machine: a Jetson on its carrier, or whatever Linux machine has its parts named.

A part that is wired and does not answer is an error with a hint, never made up. A part that is not wired is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from hal.base import (
    AlertLine,
    BoardFacts,
    Face,
    Hardware,
    LoadSwitch,
    MissingPartError,
    OwnTag,
    PowerMeter,
    StackLink,
    Supply,
    TagReader,
    Thermometers,
)
from hal.boards import BoardWiring
from hal.gpio import GpioAlertLine, GpioLoadSwitch, GpioStackLines
from hal.i2c import I2cChip
from hal.jetson_stats import JetsonStats, open_jetson_stats
from hal.link import UdpStackLink
from hal.nfc_reader import NfcReader, open_reader
from hal.power import HwmonPowerMeter
from hal.power_cap import SOCKET, HelperPowerCap
from hal.power_rapl import RaplMeter
from hal.supply import Stusb4500, SysfsSupply
from hal.sysfs import Sysfs
from hal.tag import Nt3hTag
from hal.thermal import SysfsThermometers
from hal.unwired import UnwiredAlertLine, UnwiredLink, UnwiredLoadSwitch

Part = TypeVar("Part")


def open_board(facts: BoardFacts, wires: BoardWiring, sysfs: Sysfs) -> Hardware:
    """Everything that ``wires`` names. Its ``close`` gives it all back.

    Raises MissingPartError for a part that is named and does not answer; what was opened until then is closed.
    """
    with ExitStack() as opened:

        def kept(part: Part, close: Callable[[Part], None]) -> Part:
            opened.callback(close, part)
            return part

        dev = sysfs.path("dev")
        switches: dict[Face, str] = {"top": wires.stack_top, "bottom": wires.stack_bottom}
        lines = kept(GpioStackLines(switches, dev), GpioStackLines.close)
        alert: AlertLine = UnwiredAlertLine()
        if wires.alert:
            alert = kept(GpioAlertLine(wires.alert, dev), GpioAlertLine.close)
        load_switch: LoadSwitch = UnwiredLoadSwitch()
        if wires.load_enable:
            load_switch = kept(GpioLoadSwitch(wires.load_enable, dev), GpioLoadSwitch.close)
        readers: dict[Face, TagReader] = {}
        if wires.reader:
            device = sysfs.path(wires.reader)
            if not device.exists():
                raise MissingPartError(
                    f"no NFC reader: {device} is not there", "the udev rules make it for a reader's serial port"
                )
            readers[wires.reader_face] = kept(open_reader(wires.reader_face, str(device)), NfcReader.close)
        tag: OwnTag | None = None
        if wires.tag_bus:
            chip = kept(I2cChip("the NFC tag", wires.tag_bus, wires.tag_address, sysfs), I2cChip.close)
            tag = Nt3hTag(chip, face=wires.tag_face)
            if tag.state().state == "missing":
                raise MissingPartError(tag.state().detail, "check tag_bus and tag_address under [hardware.wiring]")
        inputs = SysfsSupply(sysfs, wires.supply_w)
        supply: Supply = inputs
        if wires.sink_bus:
            sink = I2cChip("the USB-C sink", wires.sink_bus, wires.sink_address, sysfs)
            supply = Stusb4500(kept(sink, I2cChip.close), inputs)
        link: StackLink = UnwiredLink()
        if wires.link:
            link = UdpStackLink(wires.link, sysfs)
        opened.callback(link.close)
        power: PowerMeter
        thermal: Thermometers
        if wires.meter == "jetson-stats":
            power = thermal = kept(open_jetson_stats(), JetsonStats.close)
        else:
            power = HwmonPowerMeter(sysfs, wires.meter, wires.meter_label) if wires.meter else RaplMeter(sysfs)
            thermal = SysfsThermometers(sysfs)
        hardware = Hardware(
            board=facts,
            machine=facts,
            simulated=False,
            lines=lines,
            alert=alert,
            load_switch=load_switch,
            readers=readers,
            tag=tag,
            link=link,
            power=power,
            cap=kept(HelperPowerCap(sysfs.path(str(SOCKET))), HelperPowerCap.close),
            thermal=thermal,
            supply=supply,
        )
        return replace(hardware, close=opened.pop_all().close)
