"""A stack of modules in virtual, true time: clocks that drift, links that fail one way, supplies that move.

Whoever drives it decides everything: time, the fate of messages, restarts. After every event the rules are checked.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable

from power_module import Module, Path, Rules
from power_oracle import SLACK_W, Oracle, hold

from agent.cluster.power.allocator import Allocator, Stack
from agent.cluster.power.messages import Handover, Message, PowerGrant, PowerRequest, Takeover, Term, decode, encode
from agent.cluster.power.node import Want
from agent.cluster.power.rules import Contract, Limit, Member, Priority
from agent.cluster.power.timing import Timing
from agent.errors import ThoxError

READ_S = 0.25  # between an allocator's looks at its supply


class World:
    """``contacts``: W that each contact of the chain carries. Everything starts dark, with the supply at module 0."""

    def __init__(
        self,
        members: Iterable[tuple[float, float, float, Priority]],  # floor, peak, want, priority
        supply_w: float,
        contacts: Iterable[float] = (),
        seed: int = 0,
        rules: Rules | None = None,
        margin: float = 0.0,
        beats: bool = True,
        rates: Iterable[float] = (),
        ladder_w: float = 0.0,
    ) -> None:
        self.rules, self.margin, self.supply_w, self.place = rules or Rules(), margin, supply_w, 0
        self.random = random.Random(seed)
        self.contacts: tuple[float, ...] = ()
        self.now, self.line, self.foreign_until = 0.0, False, -1.0
        self.oracle = Oracle(Timing())
        self.candidate: tuple[Term, float] | None = None
        self._ticks = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.modules: list[Module] = []
        drift = Timing().drift
        given = list(rates)
        for i, (floor, peak, want, priority) in enumerate(members):
            steps = tuple(floor + ladder_w * k for k in range(int((peak - floor) / ladder_w) + 1)) if ladder_w else ()
            member = Member(f"node-{i}", floor, peak, steps)
            rate = given[i] if i < len(given) else 1 + drift * self.random.uniform(-1, 1)
            node = self.rules.node(member, self._token(), None, False, self.rules.timing)
            self.modules.append(Module(i, member, steps, rate, self.random.uniform(0, 1e4), Want(want, priority), node))
        size = range(len(self.modules))
        self.paths = {(i, j): Path(slowest_s=0.0 if i == j else 0.01) for i in size for j in size}
        floors = sum(one.member.floor_w for one in self.modules)
        self.contacts = tuple(max(watts, floors) for watts in contacts)  # on whichever side the supply stands
        dark = frozenset(one.member.node_id for one in self.modules)
        self.present = len(self.modules)
        self._born(0, float("inf"), dark)
        if beats:
            for module in self.modules:
                self._at(self.random.uniform(0, Timing().beat_s), self._beats(module))
        self._at(READ_S, self._reads)
        self._settle()

    # Time.

    def clock(self, module: Module) -> float:
        return module.offset + self.now * module.rate

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._settle()
        self.now = until
        self._settle()

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, event))

    def _beats(self, module: Module) -> Callable[[], None]:
        def beat() -> None:
            self.beat(module.index)
            self._at(Timing().beat_s * self.random.uniform(0.9, 1.1), beat)

        return beat

    def _reads(self) -> None:
        for module in self.modules:
            for allocator, aware in zip(module.allocators, module.at, strict=True):
                if aware:
                    allocator.supply(self.supply_w, self.clock(module))
                    allocator.voltage(True, self.clock(module))
                allocator.alert(self.line, self.clock(module))
        self._at(READ_S, self._reads)

    # Messages.

    def beat(self, index: int) -> None:
        """A node's heartbeat, to every module that may be the allocator."""
        if index >= self.present:
            return
        module = self.modules[index]
        request = module.node.request(module.want, None, self.clock(module))
        self.oracle.sent(request, self.now)
        for other in self.modules[: self.present]:
            if other.allocators:
                self._send(index, other.index, request)

    def release(self, source: int, target: int, order: Iterable[int] | None = None) -> None:
        """Let go what waits on a path, all of it, or these by their places in the queue, in this order."""
        path = self.paths[source, target]
        waiting = path.waiting
        chosen = list(range(len(waiting))) if order is None else [one for one in order if one < len(waiting)]
        path.waiting = [one for at, one in enumerate(waiting) if at not in chosen]
        for one in chosen:
            self._arrive(source, target, waiting[one])
            self._settle()

    def _send(self, source: int, target: int, message: Message) -> None:
        self._count += 1
        if self._count % 8 == 0:  # the codec has tests of its own
            message = decode(encode(message))
        path = self.paths[source, target]
        if path.cut or (path.loss and self.random.random() < path.loss):
            return
        if path.held:
            path.waiting.append(message)
            return
        for _ in range(2 if path.twice and self.random.random() < path.twice else 1):
            delay = self.random.uniform(0, path.slowest_s) if path.slowest_s else 0.0
            self._at(delay, lambda: self._arrive(source, target, message))

    def _arrive(self, source: int, target: int, message: Message) -> None:
        module = self.modules[target]
        if max(source, target) >= self.present:
            return
        if isinstance(message, PowerGrant):
            for one in {target, (target + 1) % self.present}:  # a grant also comes where it does not belong
                self._take(self.modules[one], message)
            return
        if isinstance(message, Handover):
            self._handed(module, message)
            return
        for allocator in list(module.allocators):
            now = self.clock(module)
            if isinstance(message, PowerRequest):
                grant = allocator.request(message, now)
                self._new_term(module, allocator)
                if grant is not None:
                    self._granted(module, message, grant)
                    self._send(target, source, grant)
            elif isinstance(message, Takeover):
                answer = allocator.takeover(message, now)
                if answer is not None:
                    self._send(target, source, answer)

    def _take(self, module: Module, grant: PowerGrant) -> None:
        if module.node.receive(grant, self.clock(module)):
            self.oracle.accepted(module.member.node_id, module.node.boot, grant)

    def _granted(self, module: Module, request: PowerRequest, grant: PowerGrant) -> None:
        age = (self.now - self.oracle.births[grant.term.birth]) * module.rate
        self.oracle.granted(request, grant, age, self._module(request.node_id).rate)

    def _new_term(self, module: Module, allocator: Allocator) -> None:
        module.number = max(module.number, allocator.term.number)
        self.oracle.born(allocator.term, self.now)

    def _module(self, node_id: str) -> Module:
        return self.modules[int(node_id.removeprefix("node-"))]

    def _token(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    # What happens to a stack.

    def plug(self, index: int, watts: float, aware: bool = True) -> None:
        """The supply now stands at this module. ``aware``: the old allocator notices at once."""
        index %= self.present
        self.candidate = None
        old = self.modules[self.place]
        old.allocators[-1].supply(self.supply_w, self.clock(old))  # the last reading, just before
        if aware:
            old.allocators.pop()
            old.at.pop()
        else:
            old.at[-1] = 0
        self.place, self.supply_w = index, self._at_least(watts)
        self._born(index, float("inf"), frozenset())
        self._settle()

    def hand_over(self, index: int, watts: float) -> None:
        """A second supply is plugged in at this module, the old one is told to let go and asked for its book."""
        index %= self.present
        old = self.modules[self.place]
        asking = self.candidate is not None and self.candidate[0].holder != f"node-{index}"
        if index == self.place or asking:
            return
        old.allocators[-1].release()
        if self.candidate is None:
            self.candidate = self._term(self.modules[index]), self._at_least(watts)
        self._send(index, old.index, Takeover(self.candidate[0]))
        self._settle()

    def _handed(self, module: Module, answer: Handover) -> None:
        if self.candidate is None or self.candidate[0].birth != answer.birth:
            return
        (term, watts), self.candidate = self.candidate, None
        old = self.modules[self.place]
        old.at[-1] = 0
        self.place, self.supply_w = module.index, watts
        self._born(module.index, float("inf"), frozenset(), term)
        hold(module.allocators[-1].handover(answer, self.clock(module)), "a handover was refused")
        self._new_term(module, module.allocators[-1])
        self.oracle.complete.add(term.birth)

    def supply(self, watts: float) -> None:
        """The supply at its place grows or shrinks."""
        self.supply_w = self._at_least(watts)
        module = self.modules[self.place]
        module.allocators[-1].supply(self.supply_w, self.clock(module))
        self._settle()

    def restart(self, index: int, ghost: bool = False) -> None:
        """The module's agent starts again; ``ghost``: its old allocator hangs on until its last reading is too old."""
        if index >= self.present:
            return
        module = self.modules[index]
        module.node = self.rules.node(
            module.member,
            self._token(),
            module.node.term if self.rules.keeps_term else None,
            module.node.loaded,
            self.rules.timing,
        )
        module.node.alert(self.line)
        if self.line:
            self.oracle.voided(module.member.node_id, self.now)
        office = module.allocators[-1] if index == self.place else None
        bound = office.bound_w(self.clock(module)) if office is not None else 0.0
        if office is not None:
            self.candidate = None  # who asked for the book asks again
        if not ghost:
            module.offset += self.random.uniform(-100, 100)
            module.allocators, module.at = [], []
        elif module.allocators:
            module.at = [0] * len(module.at)
        if office is not None and office.retired:  # that it let go is on disk: it stays so
            module.allocators, module.at = [office], [0]
        elif office is not None:
            self._born(index, bound, frozenset())
        self._settle()

    def alert(self, seconds: float) -> None:
        """Somebody finds the voltage too low."""
        self.foreign_until = self.now + seconds
        self._at(seconds, lambda: None)
        self._settle()

    def ask(self, contract: Contract) -> None:
        """A client's contract at the allocator in office, which may refuse it."""
        module = self.modules[self.place]
        try:
            module.allocators[-1].ask(contract, self.clock(module))
        except ThoxError as error:
            hold(bool(error.hint), "a refusal without a hint")
        self._settle()

    def leave(self) -> None:
        """The uppermost module is taken off; its switch falls off. Not the one with the supply."""
        if self.present - 1 > self.place:
            self.present -= 1
            self._changed(frozenset())

    def join(self) -> None:
        """It, or the next one, is put on: dark."""
        if self.present < len(self.modules):
            module = self.modules[self.present]
            module.node = self.rules.node(module.member, self._token(), module.node.term, False, self.rules.timing)
            module.node.alert(self.line)
            self.present += 1
            self._changed(frozenset({module.member.node_id}))

    def stack(self, dark: frozenset[str] = frozenset()) -> Stack:
        here = self.modules[: self.present]
        limits = tuple(Limit(watts, frozenset(f"node-{i}" for i in far)) for watts, far in self._contacts())
        return Stack(tuple(one.member for one in here), limits, self.margin, dark)

    def _contacts(self) -> list[tuple[float, range]]:
        """Each contact's limit, and who stands behind it, seen from the supply."""
        return [
            (watts, range(k + 1, self.present) if self.place <= k else range(k + 1))
            for k, watts in enumerate(self.contacts[: self.present - 1])
        ]

    def _changed(self, dark: frozenset[str]) -> None:
        module = self.modules[self.place]
        module.allocators[-1].set_stack(self.stack(dark), self.clock(module))
        self._settle()

    def _term(self, module: Module) -> Term:
        module.number = max(module.number, module.node.term.number if module.node.term else 0) + 1
        return Term(module.number, module.member.node_id, self._token())

    def _born(self, index: int, before_w: float, dark: frozenset[str], term: Term | None = None) -> None:
        module = self.modules[index]
        term = term or self._term(module)
        allocator = self.rules.allocator(
            term, self.stack(dark), self.supply_w, self.clock(module), before_w, self.rules.timing
        )
        self.oracle.born(term, self.now)
        module.allocators.append(allocator)
        module.at.append(1)

    def _at_least(self, watts: float) -> float:
        """A supply that carries the floors of those that are on; losing more than that is no matter of contracts."""
        floors = sum(one.member.floor_w for one in self.modules)
        return max(watts, (floors + SLACK_W) / (1 - self.margin))

    # The rules.

    def cap(self, module: Module) -> float:
        if module.index >= self.present:
            return 0.0
        allowed = module.node.allowed(self.clock(module))
        return module.step(allowed) if module.steps and allowed else allowed

    def caps(self) -> list[float]:
        return [self.cap(module) for module in self.modules]

    def _settle(self) -> None:
        for _ in range(3):
            level = self.now < self.foreign_until or any(
                allocator.pulls(self.clock(module)) for module in self.modules for allocator in module.allocators
            )
            if level == self.line:
                break
            self.line = level
            for module in self.modules:
                module.node.alert(level)
                if level:
                    self.oracle.voided(module.member.node_id, self.now)
                for allocator in module.allocators:
                    allocator.alert(level, self.clock(module))
        if self.line:
            self._tick()
        self._check()

    def _tick(self) -> None:
        """While the line is raised, look often whether it still is."""
        if not self._ticks:
            self._ticks += 1
            self._at(0.05, self._ticked)

    def _ticked(self) -> None:
        self._ticks -= 1

    def _check(self) -> None:
        caps = self.caps()
        usable = self.supply_w * (1 - self.margin)
        hold(sum(caps) <= usable + SLACK_W, f"I1: {sum(caps):g} W of {usable:g} W at {self.now:.3f} s")
        for watts, far in self._contacts():
            drawn = sum(caps[i] for i in far)
            hold(drawn <= watts + SLACK_W, f"I2: {drawn:g} W through a contact of {watts:g} W at {self.now:.3f} s")
        for module, cap in zip(self.modules, caps, strict=True):
            floor = module.member.floor_w
            hold(not self.line or cap <= floor + SLACK_W, "I8: an alert, and not everybody is at the floor")
            self.oracle.cap(module.member.node_id, module.node.boot, cap, floor, self.now)
