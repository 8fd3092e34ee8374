"""A bench that a file names: whose hands it has, and how it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import Person, bench_of

from hal.open import open_hardware
from hal.world_client import WorldClient


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    host = open_hardware("simulated", serve_at=tmp_path / "world.sock")
    yield tmp_path / "world.sock"
    host.close()


def stack(world: Path, hands: str) -> Path:
    file = world.with_name("stack.toml")
    file.write_text(f'world = "{world}"\nmodule = "module-1"\nhands = "{hands}"\n')
    return file


def test_a_world_elsewhere_is_a_bench_and_is_left_as_it_was(world: Path) -> None:
    for _ in range(2):
        bench = bench_of(stack(world, "world"))
        bench.hands.contact("top", True)
        edge = bench.hardware.lines.wait(10)
        assert edge is not None and edge.closed
        bench.hands.close()
        bench.hardware.close()
    look = WorldClient(world)
    assert look.hand("status")["stacks"] == [["module-1"]]
    look.close()


def test_hands_of_ones_own_lie_beside_the_file(world: Path) -> None:
    world.with_name("robot.py").write_text(
        "class Arm:\n    def __init__(self, hardware):\n        self.board = hardware.board.name\n"
    )
    bench = bench_of(stack(world, "robot:Arm"))
    assert getattr(bench.hands, "board", "") == bench.hardware.board.name
    bench.hardware.close()


def test_hands_that_nobody_knows_are_a_mistake(world: Path) -> None:
    with pytest.raises(pytest.UsageError, match="person"):
        bench_of(stack(world, "robot"))
    person = bench_of(stack(world, "person"))
    assert isinstance(person.hands, Person)
    person.hardware.close()
