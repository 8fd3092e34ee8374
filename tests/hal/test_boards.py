"""A board is known by its device tree; anything else is a Linux machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.base import HardwareError
from hal.boards import linux_machine, recognise
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


def test_a_recognised_board_without_drivers_says_so_and_is_simulated_only_on_request(tmp_path: Path) -> None:
    tree(tmp_path, "nvidia,p3767-0000")
    with pytest.raises(HardwareError, match="Orin NX") as caught:
        open_hardware("auto", tmp_path)
    assert "simulated" in caught.value.hint
    assert open_hardware("simulated", tmp_path).simulated


def test_an_unknown_mode_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="real"):
        open_hardware("real", tmp_path)


def test_any_linux_machine_states_its_memory_and_cores(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       2048 kB\n")
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nflags : x\n\nprocessor\t: 1\n")
    facts = linux_machine(tmp_path)
    assert (facts.name, facts.memory_bytes, facts.cores, facts.tops) == ("Linux machine", 2 << 20, 2, 0.0)
    assert open_hardware("auto", tmp_path).machine == facts
    assert linux_machine().memory_bytes > 1 << 28
