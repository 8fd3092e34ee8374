"""A board is known by its device tree; anything else is a Linux machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.base import HardwareError
from hal.boards import BOARDS, linux_machine, recognise, rewired, wiring
from hal.open import open_hardware


def tree(root: Path, compatible: str = "", model: str = "") -> Path:
    folder = root / "proc" / "device-tree"
    folder.mkdir(parents=True)
    if compatible:
        (folder / "compatible").write_bytes(b"".join(name.encode() + b"\0" for name in compatible.split()))
    (folder / "model").write_bytes(model.encode() + b"\0")
    return root


@pytest.mark.parametrize(
    ("compatible", "model", "name", "gib"),
    [
        ("nvidia,p3768-0000+p3767-0000 nvidia,p3767-0000 nvidia,tegra234", "", "Orin NX 16GB", 16),
        ("nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234", "", "Orin Nano 8GB", 8),
        ("nvidia,p3737-0000+p3701-0005 nvidia,tegra234", "", "AGX Orin 64GB", 64),
        ("nvidia,p3971-0089+p3834-0008 nvidia,tegra264", "", "AGX Thor", 128),
        ("maker,carrier nvidia,tegra234", "Maker's Carrier with NVIDIA Jetson Orin NX", "Orin NX 16GB", 16),
        ("", "NVIDIA Jetson AGX Thor Developer Kit", "AGX Thor", 128),
    ],
)
def test_a_jetson_is_recognised(tmp_path: Path, compatible: str, model: str, name: str, gib: int) -> None:
    facts = recognise(tree(tmp_path, compatible, model))
    assert facts is not None and facts.name.endswith(name) and facts.memory_bytes == gib << 30


@pytest.mark.parametrize(
    ("compatible", "model"),
    [("raspberrypi,5-model-b brcm,bcm2712", "Raspberry Pi 5"), ("maker,p3767-0000", "A thorough board"), ("", "")],
)
def test_other_boards_are_not(tmp_path: Path, compatible: str, model: str) -> None:
    assert recognise(tree(tmp_path, compatible, model)) is None
    assert open_hardware("auto", tmp_path).simulated


def test_a_recognised_board_that_lacks_a_part_says_so_and_is_simulated_only_on_request(tmp_path: Path) -> None:
    tree(tmp_path, "nvidia,p3767-0000")
    with pytest.raises(HardwareError, match="Orin NX") as caught:
        open_hardware("auto", tmp_path)
    assert 'mode = "simulated"' in caught.value.hint
    assert open_hardware("simulated", tmp_path).simulated


def test_an_unknown_mode_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="pretended") as caught:
        open_hardware("pretended", tmp_path)
    assert "simulated" in caught.value.hint


def test_a_carriers_names_are_data_that_its_owner_may_override() -> None:
    its = wiring(BOARDS["nvidia,p3767-0000"])
    assert (its.stack_top, its.tag_address) == ("STACK_DET_TOP", 0x55)
    other = rewired(its, {"stack_top": "GPIO17", "tag_address": "0x56", "reader_face": "bottom"})
    assert (other.stack_top, other.tag_address, other.reader_face) == ("GPIO17", 0x56, "bottom")
    for bad in ({"stak_top": "x"}, {"tag_address": "here"}, {"reader_face": "left"}):
        with pytest.raises(HardwareError) as caught:
            rewired(its, bad)
        assert caught.value.hint or "left" in str(caught.value)


def test_a_machine_that_is_no_jetson_has_nothing_wired(tmp_path: Path) -> None:
    plain = wiring(linux_machine(tmp_path))
    assert not (plain.stack_top or plain.alert or plain.reader or plain.tag_bus or plain.link or plain.meter)


def test_an_override_that_no_wiring_has_is_an_error_in_every_mode(tmp_path: Path) -> None:
    for mode in ("auto", "simulated", "real"):
        with pytest.raises(HardwareError, match="stak"):
            open_hardware(mode, tmp_path, wiring={"stak_top": "x"})


def test_any_linux_machine_states_its_memory_and_cores(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       2048 kB\n")
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nflags : x\n\nprocessor\t: 1\n")
    facts = linux_machine(tmp_path)
    assert (facts.name, facts.memory_bytes, facts.cores, facts.tops) == ("Linux machine", 2 << 20, 2, 0.0)
    assert open_hardware("auto", tmp_path).machine == facts
    assert linux_machine().memory_bytes > 1 << 28
