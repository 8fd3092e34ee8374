"""Real agents whose wall clocks are wrong, and jump: membership does not look at them; trust and links bear them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from running_lab import SETTINGS, RunningLab, running, until

from agent.cluster.trust.service import TrustService
from agent.config import Config
from agent.lab import Lab, LabAgent, free_net, stack_of
from hal.world_wire import SOCKET

pytestmark = pytest.mark.timeout(300)  # several processes start, on a machine that may be busy

SOURCE = Path(__file__).parents[1] / "fakes" / "shifted_clock.c"
YEAR = 365 * 86_400


class Clocks:
    """A wall clock for each module, off by so many seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._shim = folder, folder / "shifted_clock.so"
        compiler = shutil.which("cc") or ""
        line = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self._shim), str(SOURCE)]
        subprocess.run(line, check=True, timeout=60)

    def shift(self, module: str, seconds: int) -> None:
        """From now on."""
        with (self._folder / module).open("r+b" if (self._folder / module).exists() else "w+b") as file:
            file.write(struct.pack("@l", seconds))

    def within(self, module: str) -> tuple[str, ...]:
        """What runs a command by that clock."""
        return ("/usr/bin/env", f"LD_PRELOAD={self._shim}", f"CLOCK_SHIFT={self._folder / module}")


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, and so no wrong clock: apt-get install gcc")
    if sys.version_info < (3, 11):
        pytest.skip("before Python 3.11 locks wait by the wall clock, the kernel's, which is not shifted")
    return Clocks(tmp_path)


@pytest.fixture
def lab(clocks: Clocks, tmp_path: Path) -> Iterator[RunningLab]:
    """One clock stands in 1970, as without a battery, and one is a year ahead."""
    shifts = {"module-1": 1000 - int(time.time()), "module-2": YEAR}
    for module, seconds in shifts.items():
        clocks.shift(module, seconds)
    with running(lambda: _lab(tmp_path / "lab", clocks, shifts)) as lab:
        yield lab


def _lab(folder: Path, clocks: Clocks, modules: Mapping[str, int]) -> Lab:
    folder.mkdir()
    net = free_net(str(folder), len(modules), (8080, 5381, 5382))
    addresses = {module: f"{net}.{number}" for number, module in enumerate(modules, 1)}
    agents = [
        LabAgent(
            module,
            address,
            folder / module,
            {
                **SETTINGS,
                "state_dir": str(folder / module),
                "server.bind": address,
                "hardware.world": str(folder / SOCKET),
                "hardware.module": module,
            },
            clocks.within(module),
        )
        for module, address in addresses.items()
    ]
    return Lab(folder, stack_of(addresses), agents, Config(folder).server.cluster_port)


def test_wrong_clocks_and_clocks_that_jump_keep_nobody_from_the_stack(lab: RunningLab, clocks: Clocks) -> None:
    before = lab.together()
    years = {taken.at for taken in (lab.epochs(module)[-1] for module in lab.modules)}
    assert max(years) - min(years) > 50 * YEAR, "the clocks are as wrong as they are meant to be"
    stacks = {module: TrustService(agent.state_dir, agent.device) for module, agent in lab.agents.items()}

    def all_say(locked: bool) -> bool:
        return all(trust.roster().locked is locked for trust in stacks.values())

    stacks["module-1"].lock(True)
    until(lambda: all_say(True))
    clocks.shift("module-1", YEAR // 2)
    clocks.shift("module-2", -30 * YEAR)
    stacks["module-1"].lock(False)
    until(lambda: all_say(False))
    assert lab.together().token == before.token, "nobody left for an hour that was no hour"
    lab.world.unstack("module-2")
    lab.together("module-2")
    lab.world.stack("module-1", "module-2")
    assert lab.together().term > before.term
