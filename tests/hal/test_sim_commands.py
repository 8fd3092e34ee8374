"""`thox sim` and `thox hw` against a World that is served as a running node serves its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli import main
from hal.base import Hardware
from hal.open import open_hardware
from hal.world_wire import SOCKET

Thox = Callable[..., tuple[int, str, str]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Hardware]:
    hardware = open_hardware("simulated", serve_at=tmp_path / SOCKET)
    yield hardware
    hardware.close()


@pytest.fixture
def thox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Thox:
    monkeypatch.setenv("THOX_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_person_stacks_unplugs_heats_and_breaks(node: Hardware, thox: Thox) -> None:
    status, picture, _ = thox("sim", "stack")
    assert status == 0 and "Simulated" in picture
    assert picture.index("module-2") < picture.index("module-1") and "of 100 W" in picture
    edge = node.lines.wait(10)
    assert edge is not None and (edge.face, edge.closed) == ("top", True)
    thox("sim", "unplug")
    assert not node.supply.external()
    thox("sim", "plug", "--watts", "100")
    assert node.supply.available().value == 100.0
    thox("sim", "drain", "40")
    battery = node.supply.battery()
    assert battery is not None and battery.value == pytest.approx(40.0)
    assert "60 °C" in thox("sim", "heat", "60")[1]
    assert "broken: thermal" in thox("sim", "fail", "thermal")[1]
    assert all(reading.quality == "fault" for reading in node.thermal.zones().values())
    assert "broken" not in thox("sim", "mend", "all")[1]
    assert "40.0 W of 40" in thox("sim", "load", "1")[1]
    assert "load 0%" in thox("sim", "load", "own")[1]
    assert "link cut upwards" in thox("sim", "cut", "module-1", "module-2")[1]
    assert "10% lost" in thox("sim", "link", "--loss", "0.1")[1]
    assert "║" not in thox("sim", "unstack")[1]
    world = json.loads(thox("sim", "status", "--json")[1])
    assert world["stacks"] == [["module-1"], ["module-2"]]


def test_what_cannot_be_done_is_said_with_a_hint(node: Hardware, thox: Thox) -> None:
    for arguments in (("unstack",), ("stack", "module-7"), ("load", "3"), ("remove", "module-7")):
        status, out, error = thox("sim", *arguments)
        assert status == 1 and not out and error.startswith("thox: "), arguments
    with pytest.raises(SystemExit):
        thox("sim", "fail", "everything")


def test_without_a_running_node_sim_says_how_to_get_one(thox: Thox) -> None:
    status, _, error = thox("sim", "status")
    assert status == 1 and "thox run" in error


def test_hw_shows_the_running_nodes_parts_readings_and_stack(node: Hardware, thox: Thox) -> None:
    status, out, _ = thox("hw")
    assert status == 0
    for text in ("Orin NX 16GB", "simulated", "this module", "VDD_SOC", "tj-thermal", "SimLines", "65.0 W"):
        assert text in out
    thox("sim", "stack")
    assert node.lines.wait(10)
    thox("sim", "fail", "reader")
    status, out, _ = thox("hw")
    assert status == 1 and "the NFC reader is dead" in out and "a neighbour" in out


def test_hw_needs_no_running_node(thox: Thox) -> None:
    status, out, _ = thox("hw")
    assert status == 0 and "simulated: its watts and degrees are made up" in out
