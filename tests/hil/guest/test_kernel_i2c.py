"""I2C chips and the kernel's own drivers for them: who may read what, and that hwmon's figures are the registers'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plant import BUS, IDLE_W, METER, Chips, plant

from hal.base import MissingPartError
from hal.i2c import I2cChip, bus_number
from hal.power import HwmonPowerMeter
from hal.supply import Stusb4500, SysfsSupply
from hal.sysfs import Sysfs

INA226, INA238, TMP102, SINK, UNKNOWN, ABSENT = 0x41, 0x44, 0x48, 0x28, 0x55, 0x51


@pytest.fixture
def chips() -> Chips:
    plant().busy = 0.0
    plant().look()
    return plant().chips


@pytest.fixture
def bound(chips: Chips) -> Iterator[list[int]]:
    addresses: list[int] = []
    yield addresses
    for address in addresses:
        chips.unbind(address)


def test_a_bus_is_found_by_its_name_and_an_unknown_one_says_which_there_are() -> None:
    assert bus_number(BUS, Sysfs()) == plant().chips.bus
    with pytest.raises(MissingPartError, match="no I2C bus") as missing:
        bus_number("c250000.i2c", Sysfs())
    assert BUS in missing.value.hint


def test_a_chip_that_a_driver_holds_is_never_read_past_it(chips: Chips) -> None:
    before = chips.read(METER, 0x00)
    with pytest.raises(MissingPartError, match="held by the driver ina3221") as held:
        I2cChip("the meter", BUS, METER, Sysfs())
    assert "/sys" in held.value.hint and chips.read(METER, 0x00) == before


def test_a_driver_that_takes_the_chip_from_under_us_wins(chips: Chips, bound: list[int]) -> None:
    with I2cChip("a thermometer", BUS, TMP102, Sysfs()) as chip:
        chip.write_byte(0x00, 0x19)
        assert chip.read_byte(0x00) == 0x19
        chips.write(TMP102, r00=0x1900, r01=0x60A0, r02=0x4B00, r03=0x5000)
        chips.bind("tmp102", TMP102)
        bound.append(TMP102)
        with pytest.raises(MissingPartError, match="held by the driver"):
            chip.read_byte(0x00)


def test_a_chip_that_is_not_there_is_missing_with_a_hint() -> None:
    with I2cChip("the tag", BUS, ABSENT, Sysfs()) as chip, pytest.raises(MissingPartError, match="0x51") as missing:
        chip.read_byte(0x00)
    assert "address" in missing.value.hint


def test_blocks_are_written_and_read_back() -> None:
    with I2cChip("the tag", BUS, UNKNOWN, Sysfs()) as chip:
        chip.write_block(0x10, range(16))
        assert chip.read_block(0x10, 16) == bytes(range(16))
        assert chip.read_byte(0x1F) == 15


@pytest.mark.parametrize(("millivolts", "milliamperes"), [(5_000, 1_000), (5_040, 5_600), (19_000, 2_000)])
def test_an_ina3221s_registers_are_the_watts_that_the_meter_reads(
    chips: Chips, millivolts: int, milliamperes: int
) -> None:
    second = {"r03": milliamperes * 10_000 // 40_000 << 3, "r04": millivolts // 8 << 3}  # 10 mOhm, its default
    chips.write(METER, **second)
    rail = HwmonPowerMeter(Sysfs(), "ina3221", "").rails()["ina3221 0-0040#2"]
    assert rail.value == pytest.approx(millivolts * milliamperes / 1e6, rel=0.01)
    chips.write(METER, r03=0, r04=0)


def test_an_ina226_and_an_ina238_read_in_watts(chips: Chips, bound: list[int]) -> None:
    chips.write(INA226, r00=0x4527, r01=4_000, r02=16_000, r03=800, r04=10_000, r05=2_048, rFE=0x5449, rFF=0x2260)
    chips.bind("ina226", INA226)
    bound.append(INA226)
    chips.write(INA238, r00=0, r01=0xFB68, r05=6_080, r07=1_000, rFE=0x5449, rFF=0x2381)
    chips.bytes(INA238, 0x08, (107_500).to_bytes(3, "big"))  # 400 uW each, at 10 mOhm
    chips.bind("ina238", INA238)
    bound.append(INA238)
    rails = HwmonPowerMeter(Sysfs(), "ina3221", "").rails()
    assert rails["ina226 0-0041"].value == pytest.approx(5.0)  # 800 of 6.25 mW: 25 times 250 uA, at 10 mOhm
    assert rails["ina238 0-0044"].value == pytest.approx(43.0)


def test_the_total_is_what_the_plant_draws(chips: Chips) -> None:
    meter = HwmonPowerMeter(Sysfs(), "ina3221", "ina3221 0-0040#1")
    assert meter.total().value == pytest.approx(IDLE_W, rel=0.02)


def test_a_driver_that_is_unbound_is_a_fault_and_when_it_is_back_a_reading(chips: Chips) -> None:
    meter = HwmonPowerMeter(Sysfs(), "ina3221", "ina3221 0-0040#1")
    driver = Path("/sys/bus/i2c/drivers/ina3221")
    (driver / "unbind").write_text("0-0040")
    try:
        assert (meter.total().quality, meter.total().value) == ("fault", None)
    finally:
        (driver / "bind").write_text("0-0040")
        Path(f"{Sysfs().chips('ina3221')[0]}/shunt1_resistor").write_text("5000")
    assert meter.total().quality == "ok"


def test_a_sinks_registers_are_the_contract_of_usb_power_delivery(chips: Chips) -> None:
    def little(value: int) -> bytes:
        return value.to_bytes(4, "little")

    chips.bytes(SINK, 0x0E, b"\x01")
    chips.bytes(SINK, 0x70, b"\x03")
    for number, (fiftieths, centiamperes) in enumerate(((100, 300), (300, 300), (400, 325))):
        chips.bytes(SINK, 0x85 + 4 * number, little(fiftieths << 10 | centiamperes))
    with I2cChip("the USB-C sink", BUS, SINK, Sysfs()) as chip:
        supply = Stusb4500(chip, SysfsSupply(Sysfs()))
        chips.bytes(SINK, 0x91, little(1 << 28 | 300 << 10))
        assert supply.external() and supply.available().value == pytest.approx(15.0)
        chips.bytes(SINK, 0x91, little(4 << 28 | 325 << 10))
        assert supply.available().value == pytest.approx(15.0 * 3.25), "15 or 20 V: the lower is promised"
        chips.bytes(SINK, 0x70, b"\x02")
        assert supply.available().value == pytest.approx(15.0 * 3.25)
        chips.bytes(SINK, 0x0E, b"\x00")
        assert not supply.external() and supply.available().quality == "fault"
    with pytest.raises(MissingPartError):
        Stusb4500(I2cChip("the USB-C sink", BUS, ABSENT, Sysfs()), SysfsSupply(Sysfs()))
