"""Takes steps of the ladder: writes the caps of GPU and processors, and reads back what really stands. Needs root.

Nothing here waits: caps are taken within a millisecond. One of NVIDIA's modes, which takes seconds and brings caps of
its own, is set beside; the step's caps are written again while it lasts and when it has ended.

What is read back counts, never what a tool says: NVIDIA's own goes on naming the old mode, and says nothing, when a new
one needs a reboot.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from hal.base import HardwareError, MissingPartError
from hal.power_ladder import Ladder, Step
from hal.power_mode_switch import ModeSwitch
from hal.sysfs import Sysfs

log = logging.getLogger(__name__)

# Nothing else under / is ever opened for writing.
WRITABLE = re.compile(
    r"/sys/class/devfreq/[\w.-]+/(min|max)_freq|/sys/devices/platform/[\w.-]+/devfreq_dev/(min|max)_freq"
    r"|/sys/devices/system/cpu/cpufreq/policy\d+/scaling_(min|max)_freq"
)
MODE_STATUS = "/var/lib/nvpmodel/status"  # pmode:0002


class _Clock:
    """The caps of one clock: names of its attributes, and how to learn its ends."""

    def __init__(self, sysfs: Sysfs, highest: str, lowest: str, ends: Callable[[], tuple[int, int]]) -> None:
        self._sysfs, self._highest, self._lowest, self._ends = sysfs, highest, lowest, ends
        if not (WRITABLE.fullmatch(highest) and WRITABLE.fullmatch(lowest)):
            raise HardwareError(f"{highest} is no frequency cap")

    def cap(self, limit: int | None) -> None:
        """Raises OSError and ValueError. A lower end above the cap gives way: it may stand there from a benchmark."""
        bottom, top = self._ends()
        wanted = top if limit is None else max(bottom, min(top, limit))
        if self._sysfs.number(self._lowest) > wanted:
            self._sysfs.write(self._lowest, str(bottom))
        self._sysfs.write(self._highest, str(wanted))

    def standing(self) -> int | None:
        try:
            return self._sysfs.number(self._highest)
        except (OSError, ValueError):
            return None


class PowerControl:
    """``gpu`` is the name of the GPU's device; empty: there is none to cap. ``modes`` sets one of NVIDIA's modes.

    Raises MissingPartError when the ladder caps a clock that is not there.
    """

    def __init__(self, sysfs: Sysfs, ladder: Ladder, gpu: str, modes: ModeSwitch | None = None) -> None:
        self.ladder = ladder
        self._sysfs, self._modes = sysfs, modes or ModeSwitch()
        self._step = ladder.top  # that was asked for last
        self._gpu = _gpu(sysfs, gpu) if gpu else None
        self._cpus = [_cpu(sysfs, folder) for folder in sysfs.names("sys/devices/system/cpu/cpufreq/policy*")]
        if self._gpu is None and any(step.gpu_hz is not None for step in ladder.steps):
            raise MissingPartError(
                f"no frequency of a GPU called {gpu!r} in /sys/class/devfreq", "ls /sys/class/devfreq"
            )
        if not self._cpus and any(step.cpu_khz is not None for step in ladder.steps):
            raise MissingPartError("no cpufreq policy in /sys/devices/system/cpu/cpufreq", "is the kernel NVIDIA's?")

    def apply(self, watts: float) -> Step:
        """Take the ladder's step for ``watts``; returns the step that stands then."""
        self._step = step = self.ladder.at(watts)
        self._cap(step)
        if step.mode is not None and (self._modes.runs or step.mode != self._mode()):
            self._modes.ask(step.mode)
        return self.standing()

    @property
    def switching(self) -> bool:
        """Whether a mode is being set: ``tend`` is to be called often until it is."""
        return self._modes.runs

    def tend(self) -> None:
        """Keep the step's caps against those that a mode brings."""
        if self._modes.runs:
            ended = self._modes.tend()
            if ended or self.standing().worst_w > self._step.worst_w:
                self._cap(self._step)

    def close(self) -> None:
        self._modes.close()

    def standing(self) -> Step:
        """The step that is in force, from what sysfs reads now."""
        cpus = [clock.standing() for clock in self._cpus]
        known = [cap for cap in cpus if cap is not None]
        cpu = max(known) if known and len(known) == len(cpus) else None
        return self.ladder.standing(None if self._gpu is None else self._gpu.standing(), cpu)

    def _cap(self, step: Step) -> None:
        clocks = [(clock, step.cpu_khz) for clock in self._cpus]
        if self._gpu is not None:
            clocks.insert(0, (self._gpu, step.gpu_hz))
        for clock, limit in clocks:
            try:
                clock.cap(limit)
            except (OSError, ValueError) as error:
                log.error("a frequency cap was not taken: %s", error)  # what is read back tells how bad it is

    def _mode(self) -> int | None:
        found = re.search(r"pmode:(\d+)", self._sysfs.text_or(MODE_STATUS))
        return int(found[1]) if found else None


def _gpu(sysfs: Sysfs, gpu: str) -> _Clock | None:
    # The same GPU is 17000000.gpu or 17000000.ga10b, by the kernel's age.
    patterns = (f"sys/class/devfreq/{gpu}", f"sys/class/devfreq/{gpu.partition('.')[0]}.*")
    folders = [name for pattern in patterns for name in sysfs.names(pattern)]
    folders += sysfs.names(f"sys/devices/platform/{gpu}/devfreq_dev")
    if not folders:
        return None
    folder = folders[0]

    def ends() -> tuple[int, int]:
        known = sorted(map(int, sysfs.text(f"{folder}/available_frequencies").split()))
        if not known:
            raise ValueError(f"{folder} has no frequencies")
        return known[0], known[-1]

    return _Clock(sysfs, f"{folder}/max_freq", f"{folder}/min_freq", ends)


def _cpu(sysfs: Sysfs, folder: str) -> _Clock:
    def ends() -> tuple[int, int]:
        return sysfs.number(f"{folder}/cpuinfo_min_freq"), sysfs.number(f"{folder}/cpuinfo_max_freq")

    return _Clock(sysfs, f"{folder}/scaling_max_freq", f"{folder}/scaling_min_freq", ends)
