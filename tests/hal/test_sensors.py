"""Watts, degrees and supplies as sysfs has them, on trees of each board: right, or a fault, but never made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_trees import AGX_ORIN, JETSONS, ORIN_NX, THOR, BoardTree, jetson

from hal.base import MissingPartError, Reading
from hal.boards import recognise, wiring
from hal.power import HwmonPowerMeter
from hal.power_rapl import RaplMeter
from hal.supply import SysfsSupply
from hal.sysfs import Sysfs
from hal.thermal import SysfsThermometers


@pytest.fixture
def tree(tmp_path: Path) -> BoardTree:
    return BoardTree(tmp_path)


def fault(reading: Reading) -> bool:
    return reading.quality == "fault" and reading.value is None


@pytest.mark.parametrize(("part", "watts"), [(ORIN_NX, 9.072), (AGX_ORIN, 13.6), (THOR, 43.0)])
def test_each_board_says_what_the_whole_module_draws(tmp_path: Path, part: str, watts: float) -> None:
    _, facts = jetson(tmp_path, part)
    wires = wiring(facts)
    meter = HwmonPowerMeter(Sysfs(tmp_path), wires.meter, wires.meter_label)
    assert meter.total().value == pytest.approx(watts) and meter.total().unit == "W"


def test_rails_go_by_their_labels_and_a_channel_that_leads_nowhere_is_none(tmp_path: Path) -> None:
    jetson(tmp_path, AGX_ORIN)
    rails = HwmonPowerMeter(Sysfs(tmp_path), "ina3221", "").rails()
    assert set(rails) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert rails["VDD_GPU_SOC"].value == pytest.approx(5.7) and rails["VDD_GPU_SOC"].source == "hwmon:VDD_GPU_SOC"


@pytest.mark.parametrize("part", JETSONS)
def test_every_board_is_recognised_by_its_tree_and_every_sensor_of_it_reads(tmp_path: Path, part: str) -> None:
    _, facts = jetson(tmp_path, part)
    assert recognise(tmp_path) == facts
    meter = HwmonPowerMeter(Sysfs(tmp_path), wiring(facts).meter, wiring(facts).meter_label)
    zones = SysfsThermometers(Sysfs(tmp_path)).zones()
    assert {reading.quality for reading in [*meter.rails().values(), *zones.values()]} == {"ok"}
    assert zones["tj-thermal"].value == 41.5


@pytest.mark.parametrize("wrong", ["", "garbage", "99999999", "-5000"])
def test_a_meter_that_reads_nonsense_is_a_fault_and_never_a_number(tree: BoardTree, wrong: str) -> None:
    chip = tree.ina3221("1-0040", VDD_IN=(5_000, 2_000), VDD_SOC=(5_000, 1_000))
    meter = HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN")
    tree.put(f"{chip}/curr1_input", wrong)
    assert fault(meter.total()) and fault(meter.rails()["VDD_IN"])
    assert meter.rails()["VDD_SOC"].quality == "ok"


def test_a_running_module_that_draws_nothing_is_a_fault(tree: BoardTree) -> None:
    tree.ina3221("1-0040", VDD_IN=(0, 0))
    assert fault(HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN").total())


def test_a_meter_whose_driver_goes_away_is_a_fault_and_comes_back_under_another_number(tree: BoardTree) -> None:
    chip = tree.ina3221("1-0040", VDD_IN=(5_000, 2_000))
    meter = HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN")
    (tree.root / chip).rename(tree.root / "gone")
    assert fault(meter.total())
    (tree.root / "gone").rename(tree.root / "sys/class/hwmon/hwmon7")
    assert meter.total().value == 10.0


def test_a_board_without_its_meter_or_its_channel_says_what_to_do(tree: BoardTree) -> None:
    with pytest.raises(MissingPartError, match="ina3221") as missing:
        HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN")
    assert "modprobe ina3221" in missing.value.hint
    tree.ina3221("1-0040", VDD_OTHER=(5_000, 2_000))
    with pytest.raises(MissingPartError, match="VDD_OTHER") as missing:
        HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN")
    assert "meter_label" in missing.value.hint


def test_a_switched_off_channel_is_no_rail(tree: BoardTree) -> None:
    chip = tree.ina3221("1-0040", VDD_IN=(5_000, 2_000), VDD_SOC=(5_000, 1_000))
    tree.put(f"{chip}/in2_enable", 0)
    assert set(HwmonPowerMeter(Sysfs(tree.root), "ina3221", "VDD_IN").rails()) == {"VDD_IN"}


@pytest.mark.parametrize("millidegrees", ["", "hot", "-274000", "900000"])
def test_a_failed_thermometer_is_a_state_and_never_zero_degrees(tree: BoardTree, millidegrees: str) -> None:
    tree.zone("cpu-thermal", millidegrees)
    tree.zone("gpu-thermal", 40_250)
    zones = SysfsThermometers(Sysfs(tree.root)).zones()
    assert fault(zones["cpu-thermal"]) and zones["gpu-thermal"].value == 40.25


def test_zones_of_one_name_are_told_apart(tree: BoardTree) -> None:
    for millidegrees in (40_000, 50_000, 60_000):
        tree.zone("cpu-thermal", millidegrees)
    zones = SysfsThermometers(Sysfs(tree.root)).zones()
    assert [(name, reading.value) for name, reading in zones.items()] == [
        ("cpu-thermal", 40.0),
        ("cpu-thermal#2", 50.0),
        ("cpu-thermal#3", 60.0),
    ]


def test_a_machine_without_thermometers_says_so(tree: BoardTree) -> None:
    with pytest.raises(MissingPartError, match="thermometer"):
        SysfsThermometers(Sysfs(tree.root))


def test_a_contract_of_usb_power_delivery_is_what_the_supply_can_give(tree: BoardTree) -> None:
    port = tree.psy(
        "tcpm-source-psy-2-0025", type="USB", online=1, voltage_now=20_000_000, current_now=3_250_000, voltage_max=0
    )
    supply = SysfsSupply(Sysfs(tree.root))
    assert supply.external() and supply.available().value == pytest.approx(65.0)
    tree.put(f"{port}/online", 0)
    assert not supply.external() and fault(supply.available())


def test_of_a_charger_counts_what_it_could_give_and_of_several_the_strongest(tree: BoardTree) -> None:
    tree.psy("charger", type="USB", online=1, voltage_max=20_000_000, current_max=5_000_000, current_now=100_000)
    tree.psy("plug", type="Mains", online=1)
    assert SysfsSupply(Sysfs(tree.root)).available().value == pytest.approx(100.0)


def test_a_supply_behind_a_barrel_jack_gives_what_its_owner_says(tree: BoardTree) -> None:
    assert SysfsSupply(Sysfs(tree.root)).external()
    assert fault(SysfsSupply(Sysfs(tree.root)).available())
    assert SysfsSupply(Sysfs(tree.root), 45.0).available().value == 45.0


def test_of_several_batteries_the_emptiest_speaks_and_a_mouse_has_no_say(tree: BoardTree) -> None:
    sysfs = Sysfs(tree.root)
    assert SysfsSupply(sysfs).battery() is None
    tree.psy("hidpp_battery_0", type="Battery", scope="Device", capacity=3)
    assert SysfsSupply(sysfs).battery() is None
    tree.psy("BAT0", type="Battery", present=1, capacity=80)
    second = tree.psy("BAT1", type="Battery", present=1, capacity=35)
    battery = SysfsSupply(sysfs).battery()
    assert battery is not None and (battery.value, battery.unit) == (35.0, "%")
    assert not SysfsSupply(sysfs).external()
    tree.put(f"{second}/capacity", 180)
    battery = SysfsSupply(sysfs).battery()
    assert battery is not None and fault(battery)


def test_rapl_counts_watts_between_two_looks_and_across_a_wrap(tree: BoardTree) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    for name, value in (("name", "package-0"), ("energy_uj", 1_000_000), ("max_energy_range_uj", 5_000_000)):
        tree.put(f"{zone}/{name}", value)
    tree.put("sys/class/powercap/intel-rapl:0:0/name", "core")
    now = [100.0]
    meter = RaplMeter(Sysfs(tree.root), clock=lambda: now[0])
    assert meter.total().quality == "stale"
    now[0] += 0.1
    tree.put(f"{zone}/energy_uj", 4_000_000)
    assert meter.total().value == pytest.approx(30.0)
    assert meter.total().value == pytest.approx(30.0), "too soon: the last reading still counts"
    now[0] += 0.1
    tree.put(f"{zone}/energy_uj", 500_000)
    assert meter.rails()["package-0"].value == pytest.approx(15.0)
    now[0] += 0.1
    (tree.root / zone / "energy_uj").unlink()
    assert fault(meter.total())


def test_a_machine_without_counters_has_no_rapl(tree: BoardTree) -> None:
    with pytest.raises(MissingPartError, match="powercap"):
        RaplMeter(Sysfs(tree.root))
