"""Modules of a World in this process that share power: real services over real links, watched from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from touching_stack import TouchingNode, TouchingStack, until

from agent.cluster.power_contracts import PowerContracts
from agent.cluster.power_service import PowerService
from hal.world_state import LADDER_W

MARGIN = 0.1
FLOOR_W, PEAK_W = LADDER_W[0], LADDER_W[-1]


class PoweredStack:
    """A TouchingStack of which each node has its power service. ``watcher`` looks at the World all the time."""

    def __init__(self, folder: Path, size: int, contact_w: float = 100.0) -> None:
        self.stack = TouchingStack(folder, size)
        self.world, self.nodes, self._contact_w = self.stack.world, self.stack.nodes, contact_w
        self.power: dict[str, PowerService] = {}
        self.contracts: dict[str, PowerContracts] = {}
        for node in self.nodes:
            self.run(node)

    def run(self, node: TouchingNode) -> None:
        """Start its power service, as at the start of its agent."""
        stack = node.stack
        service = PowerService(
            node.state_dir, node.id, node.hardware, stack.cluster, stack.peers, contact_w=self._contact_w
        )
        stack.membership.listen(lambda _cluster: service.wake())
        self.contracts[node.name], self.power[node.name] = PowerContracts(service), service
        service.start()

    def end(self, node: TouchingNode) -> None:
        """As when its process ends."""
        self.power.pop(node.name).close()
        node.stop()

    def begin(self, node: TouchingNode) -> None:
        node.start()
        self.run(node)

    def caps(self) -> dict[str, float]:
        """W that each may draw from the supply: the worst of its step, where it hangs on the supply at all."""
        status = self.world.status()
        return {
            name: about["worst_w"] if about["load_switch"] or about["external"] else 0.0
            for name, about in status["modules"].items()
        }

    def settled(self, **watts: float) -> None:
        """Wait until these modules' caps stand so."""
        wanted = {name.replace("_", "-"): value for name, value in watts.items()}
        until(lambda: {name: cap for name, cap in self.caps().items() if name in wanted} == wanted)

    def close(self) -> None:
        for service in self.power.values():
            service.close()
        self.stack.close()


class Watcher:
    """Looks at all caps at once, many times a second, and keeps the first broken rule."""

    def __init__(self, powered: PoweredStack, broken: Callable[[dict[str, float]], str]) -> None:
        self._powered, self._broken = powered, broken
        self.seen = 0
        self.fault = ""
        self.most_w = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.01) and not self.fault:
            caps = self._powered.caps()
            self.seen += 1
            self.most_w = max(self.most_w, sum(caps.values()))
            self.fault = self._broken(caps)

    def close(self) -> None:
        self._end.set()
        self._thread.join(10.0)


@contextlib.contextmanager
def powered_stack(folder: Path, size: int, contact_w: float = 100.0) -> Iterator[PoweredStack]:
    powered = PoweredStack(folder, size, contact_w)
    try:
        yield powered
    finally:
        powered.close()


@contextlib.contextmanager
def watched(powered: PoweredStack, broken: Callable[[dict[str, float]], str]) -> Iterator[Watcher]:
    """Raises AssertionError for the first rule that was broken meanwhile."""
    watcher = Watcher(powered, broken)
    try:
        yield watcher
    finally:
        watcher.close()
    assert not watcher.fault, watcher.fault
    assert watcher.seen > 0


def over(supply_w: float) -> Callable[[dict[str, float]], str]:
    """The rule that the caps together stay within what the supply gives, its margin taken off."""

    def broken(caps: dict[str, float]) -> str:
        total, most = sum(caps.values()), supply_w * (1 - MARGIN)
        return f"{total:g} W of {most:g} W: {caps}" if total > most + 1e-6 else ""

    return broken


def soon(wanted: Callable[[], bool], seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not wanted() and time.monotonic() < ends:
        time.sleep(0.02)
    return wanted()
