"""Nodes that choose their leader on a virtual clock, every way in which a link can be bad, and an oracle that looks on
from outside after each event.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import count, product

from agent.cluster.membership.beacon import Beacon, decode, encode
from agent.cluster.membership.epoch import Epoch, Stored
from agent.cluster.membership.run import Membership
from agent.cluster.state import Node

TICK_S = 0.05
GIB = 2**30


class BrokenRuleError(AssertionError):
    pass


@dataclass
class Path:
    """One way, from one node to another."""

    cut: bool = False
    loss: float = 0.0
    twice: float = 0.0
    slowest_s: float = 0.004
    fastest_s: float = 0.0005


@dataclass
class Module:
    node: Node
    rate: float
    ahead_s: float
    run: Membership | None
    stored: Stored
    next_tick: float = 0.0
    starts: int = 0
    accepted: list[Epoch] = field(default_factory=list)


def a_node(number: int, external: bool = False, battery: float | None = 50.0) -> Node:
    return Node(f"node-{number:012x}", f"10.0.0.{number}", 16 * GIB, 100.0, external, battery, "0.0.0")


class MembershipWorld:
    """``membership``: the class under test, or one with a rule switched off."""

    def __init__(
        self,
        nodes: Collection[Node],
        seed: int = 0,
        membership: Callable[[Node, Stored], Membership] = Membership,
        keeps: bool = True,
    ) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.membership, self.keeps = membership, keeps
        self.modules = {
            node.id: Module(node, 1 + self.random.uniform(-0.02, 0.02), self.random.uniform(0, 1e5), None, Stored())
            for node in nodes
        }
        self.paths = {ends: Path() for ends in product(self.modules, self.modules) if ends[0] != ends[1]}
        self._order = count()
        self._flying: list[tuple[float, int, str, Beacon]] = []
        self.recorded: list[Beacon] = []
        self._sets: dict[tuple[int, str], tuple[str, ...]] = {}
        for name in self.modules:
            self.start(name)

    def clock(self, module: Module) -> float:
        return module.ahead_s + self.now * module.rate

    def start(self, name: str) -> None:
        module = self.modules[name]
        module.run = self.membership(module.node, module.stored if self.keeps else Stored(module.starts))
        module.starts += 1
        module.next_tick = self.now + self.random.uniform(0, TICK_S)
        self._store(module)

    def stop(self, name: str) -> None:
        self.modules[name].run = None

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def change(self, name: str, external: bool | None = None, battery: float | None = None) -> None:
        module = self.modules[name]
        if external is not None:
            module.node = replace(module.node, external_power=external)
        if battery is not None:
            module.node = replace(module.node, battery_percent=battery)
        if module.run is not None:
            module.run.node = module.node

    def isolate(self, name: str, cut: bool = True) -> None:
        for ends, path in self.paths.items():
            if name in ends:
                path.cut = cut

    def divide(self, *groups: Collection[str]) -> None:
        """Only those in one group hear each other, all of them, and well."""
        for (one, two), path in self.paths.items():
            together = any(one in group and two in group for group in groups)
            path.cut, path.loss, path.twice, path.slowest_s, path.fastest_s = not together, 0.0, 0.0, 0.004, 0.0005

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            ticks = [(m.next_tick, name) for name, m in self.modules.items() if m.run is not None]
            at, name = min(ticks, default=(end, ""))
            if self._flying and self._flying[0][0] <= min(at, end):
                self.now, _, target, beacon = heapq.heappop(self._flying)
                self._arrive(target, beacon)
            elif at <= end and name:
                self.now = at
                self._tick(self.modules[name])
            else:
                self.now = end
                return

    def until(self, done: Callable[[], bool], within: float) -> float:
        began = self.now
        while not done():
            if self.now - began > within:
                raise BrokenRuleError(f"not within {within} s: {self.describe()}")
            self.run(TICK_S)
        return self.now - began

    def replay(self, beacon: Beacon, target: str) -> None:
        self._arrive(target, beacon)

    def of(self, name: str) -> Membership:
        run = self.modules[name].run
        assert run is not None
        return run

    def describe(self) -> str:
        return "\n".join(
            f"{name}: {module.run.epoch}, votes {module.run.vote}, view {module.run.view}"
            for name, module in self.modules.items()
            if module.run is not None
        )

    # --- how it goes -------------------------------------------------------------------------------------------------

    def _tick(self, module: Module) -> None:
        run = module.run
        assert run is not None
        module.next_tick += TICK_S
        beacon = run.tick(self.clock(module))
        self._store(module)
        if beacon is not None:
            self._send(module, beacon)

    def _send(self, module: Module, beacon: Beacon) -> None:
        if beacon.seq % 16 == 1:  # each would cost most of the time
            data = encode(beacon)
            if len(data) > 1000 or decode(data) != beacon:
                raise BrokenRuleError(f"a beacon of {len(data)} bytes, or one that comes out as another: {beacon}")
        self.recorded = [*self.recorded[-49:], beacon]
        for target in self.modules:
            path = self.paths.get((module.node.id, target))
            if path is None or path.cut or self.random.random() < path.loss:
                continue
            for _ in range(2 if self.random.random() < path.twice else 1):
                at = self.now + self.random.uniform(path.fastest_s, path.slowest_s)
                heapq.heappush(self._flying, (at, next(self._order), target, beacon))

    def _arrive(self, target: str, beacon: Beacon) -> None:
        module = self.modules[target]
        if module.run is not None:
            module.run.hear(beacon, self.clock(module))
            self._store(module)

    def _store(self, module: Module) -> None:
        run = module.run
        assert run is not None
        module.stored = run.stored
        self._look(module, run)

    # --- the oracle --------------------------------------------------------------------------------------------------

    def _look(self, module: Module, run: Membership) -> None:
        epoch, own = run.epoch, module.node.id
        last = module.accepted[-1] if module.accepted else None
        if epoch is None or epoch is last:
            return
        if last is not None and epoch.term <= last.term:
            raise BrokenRuleError(f"{own} went from term {last.term} to {epoch.term}")
        if own not in epoch.members or epoch.leader not in epoch.members:
            raise BrokenRuleError(f"{own} accepted an epoch that it is not in")
        known = self._sets.get((epoch.term, epoch.leader))
        if known is None and epoch.leader != own:
            raise BrokenRuleError(f"{epoch.leader} never made an epoch {epoch.term}")
        if known is not None and (known != epoch.members or epoch.leader == own):
            raise BrokenRuleError(f"{epoch.leader} made two epochs {epoch.term}")
        self._sets[epoch.term, epoch.leader] = epoch.members
        if last is not None and run.admits(last.token) != "older":
            raise BrokenRuleError(f"{own} still takes orders of an older epoch")
        module.accepted.append(epoch)

    def agrees(self, group: Collection[str]) -> bool:
        """They are one cluster, all of them say so, and they have a leader that the rule allows."""
        runs = [self.of(name) for name in group]
        epoch = runs[0].epoch
        if epoch is None or epoch.members != tuple(sorted(group)):
            return False
        if any(run.epoch != epoch or not run.settled for run in runs):
            return False
        powered = [run.node.id for run in runs if run.node.external_power]
        return not powered or epoch.leader in powered

    def hears(self, one: str, two: str) -> bool:
        return one == two or not (self.paths[one, two].cut or self.paths[two, one].cut)

    def clusters(self) -> list[Epoch] | None:
        """Of the nodes that run; None while they do not agree."""
        found = {}
        for name, module in self.modules.items():
            if module.run is not None:
                if module.run.epoch is None or not module.run.settled:
                    return None
                found[name] = module.run.epoch
        epochs = {epoch.token: epoch for epoch in found.values()}
        for epoch in epochs.values():
            if any(found.get(each) != epoch for each in epoch.members):
                return None
            if not all(self.hears(one, two) for one in epoch.members for two in epoch.members):
                return None
        for one, two in product(epochs.values(), epochs.values()):
            both = [*one.members, *two.members]
            if one != two and len(both) <= 8 and all(self.hears(a, b) for a in both for b in both):
                return None  # they could be one
        return list(epochs.values())
