"""NVIDIA's tool for power modes is slow, brings caps of its own and says nothing true: none of it may hold up a cap."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_trees import GPU_HZ, ORIN_NX, BoardTree, jetson

from hal.power_control import PowerControl
from hal.power_ladder import Step, ladder
from hal.power_mode_switch import PATIENCE_S, ModeSwitch
from hal.sysfs import Sysfs

GPU_CAP = "sys/class/devfreq/17000000.gpu/max_freq"
STATUS = "var/lib/nvpmodel/status"
STEPS = (Step(10.0, 408_000_000, 1_190_400, mode=3), Step(25.0, 816_000_000, 1_497_600, mode=2), Step(40.0, mode=0))


class Tool:
    """A script in nvpmodel's place: it waits until it is let go, then sets its mode, and takes the GPU's cap away."""

    def __init__(self, folder: Path, tree: BoardTree) -> None:
        self.path, self._gate = folder / "nvpmodel", folder / "gate"
        self._asked, self._done = folder / "asked", folder / "done"
        os.mkfifo(self._gate)
        self._asked.touch()
        self._done.touch()
        self.path.write_text(
            "#!/bin/sh\n"
            f"echo $2 >> {self._asked}\n"
            f"read go < {self._gate}\n"
            f"printf 'pmode:%04d' $2 > {tree.root / STATUS}\n"
            f"printf {GPU_HZ[-1]} > {tree.root / GPU_CAP}\n"
            f"echo $2 >> {self._done}\n"
            'echo "NVPM WARN: reboot required, continue? (YES/NO):"; read answer; exit 3\n'
        )
        self.path.chmod(0o755)

    @property
    def asked(self) -> list[int]:
        return [int(line) for line in self._asked.read_text().split()]

    def let_go(self, control: PowerControl) -> None:
        """Until the mode that is being set is set, and the one after it has begun."""
        before = len(self._done.read_text())
        with self._gate.open("w") as gate:
            gate.write("go\n")
        end = time.monotonic() + 20
        while len(self._done.read_text()) == before or (control.switching and self.asked == self.done):
            assert time.monotonic() < end
            control.tend()

    @property
    def done(self) -> list[int]:
        return [int(line) for line in self._done.read_text().split()]


@pytest.fixture
def nx(tmp_path: Path) -> BoardTree:
    tree = jetson(tmp_path / "board", ORIN_NX)[0]
    tree.put(STATUS, "pmode:0000")
    return tree


@pytest.fixture
def tool(tmp_path: Path, nx: BoardTree) -> Tool:
    return Tool(tmp_path, nx)


@pytest.fixture
def control(nx: BoardTree, tool: Tool) -> Iterator[PowerControl]:
    made = PowerControl(Sysfs(nx.root), ladder(STEPS), "17000000.gpu", ModeSwitch(str(tool.path)))
    yield made
    made.close()


def test_caps_stand_at_once_and_again_when_the_mode_has_brought_its_own(
    nx: BoardTree, tool: Tool, control: PowerControl
) -> None:
    assert control.apply(10.0).worst_w == 10.0 and control.switching
    tool.let_go(control)
    assert not control.switching and nx.text(STATUS) == "pmode:0003"
    assert nx.text(GPU_CAP) == "408000000" and control.standing().worst_w == 10.0
    control.apply(10.0)
    assert not control.switching and tool.asked == [3]


def test_a_drop_in_the_middle_of_a_switch_waits_for_nothing_and_stays(
    nx: BoardTree, tool: Tool, control: PowerControl
) -> None:
    control.apply(10.0)
    tool.let_go(control)
    assert control.apply(40.0).worst_w == 40.0 and control.switching
    assert control.apply(25.0).worst_w == 25.0  # is asked for, and is not what is wanted in the end
    assert control.apply(0.0).worst_w == 10.0 and control.switching
    nx.put(GPU_CAP, GPU_HZ[-1])  # as the tool may do at any time while it runs
    control.tend()
    assert control.standing().worst_w == 10.0
    tool.let_go(control)
    tool.let_go(control)
    assert not control.switching and control.standing().worst_w == 10.0
    assert tool.asked == [3, 0, 3] and nx.text(STATUS) == "pmode:0003"


def test_a_mode_that_is_being_set_is_not_asked_for_again(tool: Tool, control: PowerControl) -> None:
    control.apply(10.0)
    control.apply(25.0)
    control.apply(10.0)
    tool.let_go(control)
    assert not control.switching and tool.asked == [3]


def test_a_tool_that_does_not_end_is_ended_and_the_caps_hold_without_it(
    nx: BoardTree, tool: Tool, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    control = PowerControl(
        Sysfs(nx.root), ladder(STEPS), "17000000.gpu", ModeSwitch(str(tool.path), clock=lambda: now[0])
    )
    control.apply(10.0)
    now[0] += PATIENCE_S + 0.1
    with caplog.at_level(logging.ERROR):
        control.tend()
    assert not control.switching and "does not end" in caplog.text
    assert control.standing().worst_w == 10.0 and nx.text(STATUS) == "pmode:0000"


def test_a_tool_that_is_not_there_is_logged_and_no_more(nx: BoardTree, caplog: pytest.LogCaptureFixture) -> None:
    control = PowerControl(Sysfs(nx.root), ladder(STEPS), "17000000.gpu", ModeSwitch("/nowhere/nvpmodel"))
    with caplog.at_level(logging.ERROR):
        assert control.apply(10.0).worst_w == 10.0
    assert not control.switching and "not switched" in caplog.text
