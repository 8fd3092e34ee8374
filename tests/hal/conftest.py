"""The bench of the contract suite: every driver that opens, or with ``--hardware stack.toml`` the one named there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import Bench, WorldHands, bench_of
from wire_hands import WireHands

from hal.open import open_hardware
from hal.sim import MODULE
from hal.world_wire import SOCKET

WAYS = ("in this process", "over a socket")
WIRE = "over the wire"  # NFC's drivers on emulated chips: for what is about reader and tag


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hardware", metavar="STACK.TOML", help="run the contract suite of the hardware on this bench")


def _named(config: pytest.Config) -> str | None:
    named = config.getoption("--hardware", None)  # unknown where this file was read after the command line
    return None if named is None else str(named)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench" in metafunc.fixturenames and metafunc.module.__name__ == "test_contract":
        named = _named(metafunc.config)
        about_nfc = {"reader", "tag"} & set(metafunc.function.__name__.split("_"))
        ways = [named] if named else [*WAYS, WIRE] if about_nfc else [*WAYS]
        metafunc.parametrize("bench", ways, indirect=True)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param not in (*WAYS, WIRE):
        named = bench_of(Path(request.param))
        yield named
        named.hands.close()
        named.hardware.close()
        return
    host = open_hardware(
        "auto", root=tmp_path, serve_at=tmp_path / SOCKET
    )  # an empty tree is no board that anybody knows
    joined = open_hardware(world=tmp_path / SOCKET, module=MODULE)
    hands: WorldHands
    hardware = joined if request.param == "over a socket" else host
    if request.param == WIRE:
        hands = wire = WireHands(tmp_path / SOCKET, MODULE)
        hardware = wire.wired(host)
    else:
        hands = WorldHands(tmp_path / SOCKET, MODULE)
    yield Bench(hardware, hands)
    joined.close()
    hands.close()
    host.close()
