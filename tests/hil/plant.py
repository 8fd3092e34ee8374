"""What stands around the kernel of the guest: chips whose registers it writes, switches and wires whose levels it sets.

The kernel's drivers are real; this is the world that they measure. A module that draws watts by how busy it is and what
its GPU is capped to, an alert line with a neighbour on it, two Hall switches, a mains plug, an NFC reader.
"""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

import gpiod
from gpiod.line import Direction
from ntag_chip import NtagChip
from pn532_pty import Pn532
from smbus2 import SMBus

from hal.base import Face
from hal.i2c import bus_number
from hal.link import UdpStackLink
from hal.sysfs import Sysfs

BUS = "SMBus stub driver"
LINES = ("STACK_DET_TOP", "STACK_DET_BOTTOM", "NFC_FD", "PWR_ALERT#", "LOAD_EN")
GPU = Path("/sys/class/devfreq/17000000.gpu")
METER, SHUNT_OHM = 0x40, 0.005
IDLE_W = 4.6
MILLIVOLTS = 5040
# What it draws at most, by the GPU's frequency in MHz: a little less than the ladder's steps promise.
FULL_W = {306: 8.0, 408: 9.5, 612: 14.5, 816: 19.5, 918: 24.5, 1173: 39.0}


def swapped(word: int) -> int:
    """A register of these chips as SMBus has it: the other byte first."""
    return (word & 0xFF) << 8 | word >> 8 & 0xFF


class Chips:
    """Registers of the chips on the stand-in for a bus, also of those that a driver has bound."""

    def __init__(self) -> None:
        self.bus = bus_number(BUS, Sysfs())
        self._smbus = SMBus(self.bus, force=True)

    def write(self, address: int, **registers: int) -> None:
        """``r02=5000``: 16 bits into register 0x02."""
        for name, value in registers.items():
            self._smbus.write_word_data(address, int(name[1:], 16), swapped(value & 0xFFFF))

    def read(self, address: int, register: int) -> int:
        return swapped(self._smbus.read_word_data(address, register))

    def bytes(self, address: int, register: int, data: bytes) -> None:
        for offset, value in enumerate(data):
            self._smbus.write_byte_data(address, register + offset, value)

    def bind(self, driver: str, address: int) -> None:
        Path(f"/sys/bus/i2c/devices/i2c-{self.bus}/new_device").write_text(f"{driver} {address:#x}")

    def unbind(self, address: int) -> None:
        Path(f"/sys/bus/i2c/devices/i2c-{self.bus}/delete_device").write_text(f"{address:#x}")


class Wires:
    """A GPIO chip of the kernel's simulator, its lines named as on a carrier, and what pulls them from outside."""

    def __init__(self) -> None:
        config = Path("/sys/kernel/config/gpio-sim/stack")
        (config / "bank").mkdir(parents=True)
        (config / "bank/num_lines").write_text(str(len(LINES)))
        for offset, name in enumerate(LINES):
            (config / f"bank/line{offset}").mkdir()
            (config / f"bank/line{offset}/name").write_text(name)
        (config / "live").write_text("1")
        chip = (config / "bank/chip_name").read_text().strip()
        self.device = f"/dev/{chip}"
        self._folder = Path("/sys/devices/platform") / (config / "dev_name").read_text().strip() / chip
        self._neighbour_pulls = False
        self._lock = threading.Lock()
        for name in LINES[:4]:
            self.drive(name, high=True)
        threading.Thread(target=self._follow_alert, daemon=True).start()

    def drive(self, name: str, high: bool) -> None:
        (self._folder / f"sim_gpio{LINES.index(name)}/pull").write_text("pull-up" if high else "pull-down")

    def level(self, name: str) -> bool:
        return (self._folder / f"sim_gpio{LINES.index(name)}/value").read_text().strip() == "1"

    def pull_alert(self, pulled: bool) -> None:
        with self._lock:
            self._neighbour_pulls = pulled
            self.drive("PWR_ALERT#", high=not pulled)

    def _follow_alert(self) -> None:
        """A simulated line keeps its level when its driver lets go. A wire goes where its resistor, or another module's
        transistor, takes it."""
        with gpiod.Chip(self.device) as chip:
            chip.watch_line_info("PWR_ALERT#")
            while True:
                select.select([chip.fd], [], [])
                if chip.read_info_event().line_info.direction is Direction.INPUT:
                    with self._lock:
                        self.drive("PWR_ALERT#", high=not self._neighbour_pulls)


class Plant:
    """The module: draws what its load and its GPU's cap make it draw, and an INA3221's registers say so at once."""

    def __init__(self) -> None:
        self.chips, self.wires, self.reader = Chips(), Wires(), Pn532()
        self.neighbours_tag = NtagChip(bytes.fromhex("04a1b2c3d4e5f6"))
        self.neighbours_link = UdpStackLink("lo", Sysfs())
        self.busy = 0.0
        # What the chip has after a reset, and that a conversion is ready.
        self.chips.write(METER, r00=0x7127, r07=0x7FF8, r08=0x7FF8, r0F=0x0001, rFE=0x5449, rFF=0x3220)
        self.chips.bind("ina3221", METER)
        folder = Sysfs().chips("ina3221")[0]
        Path(f"{folder}/shunt1_resistor").write_text(str(round(SHUNT_OHM * 1e6)))
        self.look()
        threading.Thread(target=self._run, daemon=True).start()

    def watts(self) -> float:
        megahertz = int((GPU / "cur_freq").read_text()) // 1_000_000
        return IDLE_W + self.busy * (FULL_W[megahertz] - IDLE_W)

    def look(self) -> None:
        """Let the meter convert: bus voltage in 8 mV, shunt voltage in 40 uV, both from bit 3 on."""
        amperes = self.watts() / MILLIVOLTS * 1000
        shunt = int(amperes * SHUNT_OHM / 40e-6)
        self.chips.write(METER, r01=shunt << 3, r02=MILLIVOLTS // 8 << 3)

    def contact(self, face: Face, closed: bool) -> None:
        self.wires.drive("STACK_DET_TOP" if face == "top" else "STACK_DET_BOTTOM", high=not closed)
        if face == "top":
            self.reader.place(self.neighbours_tag) if closed else self.reader.remove()

    def plug(self, plugged: bool) -> None:
        for plug in ("ac", "usb"):
            Path(f"/sys/module/test_power/parameters/{plug}_online").write_text("on" if plugged else "off")

    def _run(self) -> None:
        poll = threading.Event()
        while True:
            poll.wait(0.02)
            self.look()


_plant: list[Plant] = []


def plant() -> Plant:
    """The one of this guest."""
    if not _plant:
        _plant.append(Plant())
    return _plant[0]


def in_guest() -> bool:
    return os.uname().machine == "x86_64" and "User Mode Linux" in Path("/proc/cpuinfo").read_text()
