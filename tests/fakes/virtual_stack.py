"""Modules of a World with their power services, in virtual time and without threads: fast, and the same every time.

Messages arrive at once, unless the way is cut. Who is in the cluster is told a moment late, as by membership.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from agent.cluster.link.frames import Json, LinkError
from agent.cluster.power.contracts import PowerContracts
from agent.cluster.power.seat import PowerSeat
from agent.cluster.power.service import PowerService
from agent.cluster.power.timing import Timing
from agent.cluster.power.wire import Ask
from agent.cluster.state import Cluster, Link, Node
from hal.boards import ORIN_NX_16
from hal.sim import sim_hardware
from hal.world import World
from hal.world_port import LocalPort
from hal.world_power import feeder
from hal.world_state import LADDER_W, Event

MARGIN = 0.1
TICK_S = 0.1
LATE_S = 0.3  # of what membership tells
NOTICE_S = 0.8  # within which modules have noticed what hands did to them
LEASE_S = Timing().lease_s
WAIT_S = Timing().silence_s + Timing().hold_s  # of an office that begins without a book


class VirtualModule:
    """One module; its agent may be stopped and started again."""

    def __init__(self, stack: VirtualStack, name: str, folder: Path) -> None:
        self.name, self.id, self._stack, self._folder = name, f"node-{name}", stack, folder
        folder.mkdir(exist_ok=True)
        self.hardware = sim_hardware(LocalPort(stack.world, name), ORIN_NX_16)
        self._edges: list[Event] = []
        stack.world.attach(name, self._edges.append)
        self.handlers: dict[str, Callable[[str, object], Json]] = {}
        self.runs = False
        self.start()

    @property
    def seat(self) -> PowerSeat:
        return self.service.seat

    def start(self) -> None:
        self.view, self.news = self._alone(), (self._stack.now, self._alone())
        self.runs, self.due = True, self._stack.now
        self.service = PowerService(
            self._folder, self.id, self.hardware, lambda: self.view, self, self._stack.clock, self._stack.contact_w
        )
        self.contracts = PowerContracts(self.service)

    def stop(self) -> None:
        """As by kill -9: what it told the hardware stays as it is."""
        self.runs = False

    def serve(self, purpose: str, answer: Callable[[str, object], Json]) -> None:
        self.handlers[purpose] = answer

    def ask(self, node: str, purpose: str, body: object, timeout_s: float) -> Json:
        other = self._stack.modules[node.removeprefix("node-")]
        if not other.runs or not self._stack.talk(self.name, other.name):
            raise LinkError(f"{node} does not answer")
        answer: Json = json.loads(json.dumps(other.handlers[purpose](self.id, json.loads(json.dumps(body)))))
        return answer

    def hear(self) -> bool:
        """Whether there was an edge of the alert line."""
        edges = [bool(edge.body["raised"]) for edge in self._edges if edge.channel == "alert"]
        self._edges.clear()
        for raised in edges:
            self.service.hear(raised)
        return bool(edges)

    def tick(self) -> None:
        now = self._stack.now
        seen = self._stack.cluster(self.name)
        if seen != self.news[1]:
            self.news = now, seen
        if self.view != self.news[1] and now - self.news[0] >= LATE_S:
            self.view, self.due = self.news[1], now
        if now >= self.due:
            self.service.step()
            self.due = now + self.service.pause_s

    def _alone(self) -> Cluster:
        external = self.name in self._stack.world.state.sources
        return Cluster("c", 0, (Node(self.id, "", 1, 1.0, external, None, ""),), settled=False)


class VirtualStack:
    """``modules`` by name: a, b, c ... from below, the supply in the first."""

    def __init__(self, folder: Path, size: int, supply_w: float = 65.0, contact_w: float = 100.0) -> None:
        self.now, self.contact_w = 1000.0, contact_w
        self.world = World(self.clock)
        names = "abcdefgh"[:size]
        for name in names:
            self.world.add(name)
        for lower, upper in itertools.pairwise(names):
            self.world.stack(lower, upper)
        self.world.contact(contact_w)
        self.world.plug("a", supply_w)
        self.cuts: set[tuple[str, str]] = set()
        self.quiet_from = self.now + NOTICE_S
        self.modules = {name: VirtualModule(self, name, folder / name) for name in names}
        self.checks = True

    def __getitem__(self, name: str) -> VirtualModule:
        return self.modules[name]

    def clock(self) -> float:
        return self.now

    def hands(self, notice_s: float = NOTICE_S) -> World:
        """The World, to do something to it: what is broken by that, the modules must notice first."""
        self.quiet_from = max(self.quiet_from, self.now + notice_s)
        return self.world

    def run(self, seconds: float) -> None:
        ends = self.now + seconds
        while self.now < ends - 1e-9:
            self.now = round(self.now + TICK_S, 6)
            self.world.advance()
            running = [module for module in self.modules.values() if module.runs]
            for module in running:
                module.tick()
            while any(module.hear() for module in running):
                pass
            if self.checks:
                self.check()

    def until(self, wanted: Callable[[], bool], seconds: float = 30.0) -> float:
        """Seconds that it took."""
        began = self.now
        while not wanted():
            assert self.now - began < seconds, f"not within {seconds} s: {self.caps()}"
            self.run(TICK_S)
        return self.now - began

    def talk(self, source: str, target: str) -> bool:
        return self.world.state.reaches(source, target) and not {(source, target), (target, source)} & self.cuts

    def cluster(self, own: str) -> Cluster:
        state = self.world.state
        here = state.stack_of(own)
        there = [name for name in here if name == own or (self.modules[name].runs and self.talk(own, name))]
        nodes = tuple(Node(f"node-{name}", "", 1, 1.0, name in state.sources, None, "") for name in sorted(there))
        links = tuple(
            Link(f"node-{lower}", f"node-{upper}", None, None)
            for lower, upper in itertools.pairwise(here)
            if lower in there and upper in there
        )
        return Cluster("c", 1, nodes, links)

    def drawing(self, name: str) -> bool:
        """Whether more than the standby comes from a supply."""
        source = feeder(self.world.state, name, self.now)
        return source == name or (source is not None and self.world.state.modules[name].load_switch)

    def caps(self) -> dict[str, float]:
        """W that each may draw from a supply."""
        modules = self.world.state.modules
        return {name: LADDER_W[modules[name].step] if self.drawing(name) else 0.0 for name in modules}

    def check(self) -> None:
        """What must be true at every instant, told from outside."""
        caps, state = self.caps(), self.world.state
        for stack in state.stacks:
            source = feeder(state, stack[0], self.now)
            if source is None or self.now < self.quiet_from or not self[source].runs:
                continue
            if self.cuts and sum(name in state.sources for name in stack) > 1:
                continue  # each half believes its own supply; PWR_ALERT# is what is left then
            total, most = sum(caps[name] for name in stack), state.sources[source].watts * (1 - MARGIN)
            floors = sum(10.0 for name in stack if caps[name])
            assert total <= max(most, floors) + 1e-6, f"{self.now:g}: {total:g} W of {most:g} W: {caps}"
            place = stack.index(source)
            for upper in range(1, len(stack)):
                beyond = stack[upper:] if place < upper else stack[:upper]
                through = sum(caps[name] for name in beyond)
                assert through <= self.contact_w + 1e-6, f"{self.now:g}: {through:g} W through a contact: {caps}"
            if state.modules[stack[0]].alert:
                assert all(caps[name] <= 10.0 for name in stack if self.modules[name].runs), f"alert, and {caps}"


def formed(folder: Path, size: int, supply_w: float = 65.0, contact_w: float = 100.0) -> VirtualStack:
    """All are admitted, or have had the time for it."""
    stack = VirtualStack(folder, size, supply_w, contact_w)
    stack.run(WAIT_S + 3.0)
    return stack


def ask(stack: VirtualStack, at: str, node: str, watts: float, least: float = 0.0, ttl_s: float = 3600.0) -> str:
    grant = stack[at].contracts.request(Ask(f"node-{node}", watts, least, "high", ttl_s))
    assert grant.promise.node_id == f"node-{node}"
    return grant.promise.id
