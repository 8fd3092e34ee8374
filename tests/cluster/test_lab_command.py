"""`thox lab` as a person has it: a terminal that tells, `thox sim` in another one, Ctrl-C, and nothing left over."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_lab import START_S, until

pytestmark = pytest.mark.timeout(300)  # several processes start, on a machine that may be busy

THOX = (sys.executable, "-m", "agent")


class Terminal:
    """A lab that runs, and what it has said."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self._said = state_dir / "said"
        self._environ = {name: text for name, text in os.environ.items() if not name.startswith("THOX_")}
        self._environ |= {"THOX_STATE_DIR": str(state_dir), "THOX_CLUSTER_MDNS": "false"}
        with self._said.open("wb") as said:
            line = [*THOX, "lab", "2", *options]
            self.process = subprocess.Popen(line, env=self._environ, stdout=said, stderr=said)

    def said(self) -> str:
        return self._said.read_text()

    def shows(self, text: str, seconds: float = START_S) -> None:
        until(lambda: text in self.said() or self.process.poll() is not None, self.said, seconds)
        assert text in self.said(), self.said()

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"pid (\d+)", self.said())]

    def sim(self, *arguments: str) -> str:
        line = [*THOX, "sim", *arguments]
        return subprocess.run(line, env=self._environ, capture_output=True, text=True, check=True, timeout=60).stdout

    def close(self) -> None:
        """Whatever a test did."""
        self.process.kill()
        self.process.wait(10)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for terminal in started:
        terminal.close()


def _runs(group: int) -> bool:
    """Whether any process of it does; one that nobody has waited for yet does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def test_a_lab_tells_what_becomes_of_its_devices_and_leaves_none_running(labs: list[Terminal], tmp_path: Path) -> None:
    lab = Terminal(tmp_path, "--restart")
    labs.append(lab)
    lab.shows("module-1, module-2; module-1 leads")
    assert len(re.findall(r"thox_[\w-]{43}", lab.said())) >= 2, "a key of each"
    assert "module-2" in lab.sim("status")
    lab.sim("unstack", "module-2")
    lab.shows(": module-2; module-2 leads")
    upper, lower = lab.pids()
    os.killpg(lower, signal.SIGKILL)
    lab.shows("module-1 ended (SIGKILL)")
    lab.shows("module-1 starts again")
    lab.sim("stack", "module-2", "--on", "module-1")
    until(lambda: lab.said().count("module-1, module-2; module-1 leads") == 2, lab.said)
    os.killpg(upper, signal.SIGSTOP)
    lab.process.kill()
    lab.process.wait(10)
    until(lambda: not any(map(_runs, lab.pids())))

    again = Terminal(tmp_path)
    labs.append(again)
    again.shows("module-1, module-2; module-1 leads")
    assert "thox key create" in again.said() and not re.findall(r"thox_[\w-]{43}", again.said())
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(30) == 0 and "The lab ends." in again.said()
    assert not any(map(_runs, again.pids())) and not (tmp_path / "lab" / "world.sock").exists()
