"""Whatever happens to a stack, the rules of the power contract hold at every instant, and it comes back to the plan.

``make soak`` runs thousands of worlds: THOX_SOAK_WORLDS says how many.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from power_calm import come_to_rest
from power_world import World

from agent.cluster.power.rules import PRIORITIES, Contract, Priority

SOAK = int(os.environ.get("THOX_SOAK_WORLDS", "0"))
pytestmark = pytest.mark.timeout(0 if SOAK else 600)  # one test, many worlds
RANDOM = settings(
    max_examples=SOAK or 150,
    stateful_step_count=40 if SOAK else 22,
    deadline=None,
    database=None,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink) if SOAK else (Phase.generate,),
)
modules = st.integers(0, 7)
watts = st.sampled_from([5.0, 10.0, 15.0, 25.0, 33.3, 40.0])
priorities: st.SearchStrategy[Priority] = st.sampled_from(PRIORITIES)
supplies = st.sampled_from([65.0, 100.0, 140.0, 240.0])


class AnyStack(RuleBasedStateMachine):
    """Hypothesis decides what happens, when, and which messages arrive, in which order, how often."""

    world: World

    @initialize(
        members=st.lists(st.tuples(st.sampled_from([5.0, 8.5, 10.0]), watts, priorities), min_size=2, max_size=8),
        supply=supplies,
        contacts=st.one_of(st.just(()), st.lists(st.sampled_from([40.0, 65.0, 100.0]), min_size=7, max_size=7)),
        seed=st.integers(0, 2**32),
        margin=st.sampled_from([0.0, 0.1]),
        ladder=st.sampled_from([0.0, 0.0, 5.0]),
        extremes=st.booleans(),
    )
    def start(
        self,
        members: list[tuple[float, float, Priority]],
        supply: float,
        contacts: Sequence[float],
        seed: int,
        margin: float,
        ladder: float,
        extremes: bool,
    ) -> None:
        rates = [0.98 if (seed >> i) & 1 else 1.02 for i in range(8)] if extremes else []
        rows = [(floor, floor + want, want, priority) for floor, want, priority in members]
        self.world = World(rows, supply, contacts, seed, margin=margin, rates=rates, ladder_w=ladder)
        self.world.run(6.0)

    def _here(self, index: int) -> int:
        return index % self.world.present

    @rule(seconds=st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.9, 3.0, 3.2, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(start=modules, end=modules, cut=st.booleans(), held=st.booleans())
    def a_path_fails_one_way(self, start: int, end: int, cut: bool, held: bool) -> None:
        self._path(start, end, cut=cut, held=held)

    @rule(index=modules, inwards=st.booleans(), cut=st.booleans())
    def a_node_and_the_allocator_fail_to_hear_one_another(self, index: int, inwards: bool, cut: bool) -> None:
        ends = (index, self.world.place) if inwards else (self.world.place, index)
        self._path(*ends, cut=cut, held=not cut)

    @rule(
        start=modules,
        end=modules,
        loss=st.sampled_from([0.0, 0.3, 0.8]),
        twice=st.sampled_from([0.0, 0.5]),
        slowest=st.sampled_from([0.01, 0.4, 2.0, 8.0]),
    )
    def a_path_gets_bad(self, start: int, end: int, loss: float, twice: float, slowest: float) -> None:
        self._path(start, end, loss=loss, twice=twice, slowest_s=slowest)

    def _path(self, start: int, end: int, **changes: float) -> None:
        start, end = self._here(start), self._here(end)
        if start != end:  # a module reaches itself
            for name, value in changes.items():
                setattr(self.world.paths[start, end], name, value)

    @precondition(lambda self: any(path.waiting for path in self.world.paths.values()))
    @rule(which=st.integers(0, 63), order=st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=4)))
    def messages_that_waited_arrive(self, which: int, order: list[int] | None) -> None:
        full = [key for key, path in self.world.paths.items() if path.waiting]
        self.world.release(*full[which % len(full)], order)

    @rule(index=modules, late=st.sampled_from([0.0, 1.0, 2.4]), silent=st.sampled_from([1.5, 3.5]))
    def answers_come_late_and_then_none_for_a_while(self, index: int, late: float, silent: float) -> None:
        index = self._here(index)
        path = self.world.paths[self.world.place, index]
        path.held = True
        self.world.run(late)
        self.world.release(self.world.place, index, [0])
        self.world.run(silent)

    @rule()
    def every_path_heals(self) -> None:
        for path in self.world.paths.values():
            path.cut, path.held, path.loss, path.twice = False, False, 0.0, 0.0

    @rule(index=modules, ghost=st.booleans())
    def a_module_restarts(self, index: int, ghost: bool) -> None:
        self.world.restart(self._here(index), ghost)

    @rule(ghost=st.booleans())
    def the_allocator_restarts(self, ghost: bool) -> None:
        self.world.restart(self.world.place, ghost)

    @rule(index=modules, supply=supplies, aware=st.booleans())
    def the_supply_moves(self, index: int, supply: float, aware: bool) -> None:
        self.world.plug(self._here(index), supply, aware)

    @rule(index=modules, supply=supplies, wait=st.sampled_from([0.7, 4.2]))
    def the_supply_moves_to_one_that_missed_some_terms(self, index: int, supply: float, wait: float) -> None:
        index = self._here(index)
        around = [path for ends, path in self.world.paths.items() if index in ends and ends != (index, index)]
        for path in around:
            path.cut = True
        for _ in range(2 if index != self.world.place else 0):
            self.world.restart(self.world.place)
            self.world.run(wait)
        for path in around:
            path.cut = False
        self.world.plug(index, supply)

    @rule(index=modules, supply=supplies)
    def the_supply_is_handed_over(self, index: int, supply: float) -> None:
        self.world.hand_over(self._here(index), supply)

    @rule(supply=supplies)
    def the_supply_changes(self, supply: float) -> None:
        self.world.supply(supply)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0]))
    def somebody_raises_the_alert(self, seconds: float) -> None:
        self.world.alert(seconds)

    @rule(index=modules, want=watts, priority=priorities)
    def a_node_wants_something_else(self, index: int, want: float, priority: Priority) -> None:
        module = self.world.modules[self._here(index)]
        module.want = type(module.want)(want, priority)

    @rule(index=modules, most=watts, least=watts, priority=priorities, ttl=st.sampled_from([2.0, 30.0]))
    def a_client_asks(self, index: int, most: float, least: float, priority: Priority, ttl: float) -> None:
        place = self.world.modules[self.world.place]
        node, until = f"node-{self._here(index)}", self.world.clock(place) + ttl
        self.world.ask(Contract(f"of-{node}", node, max(most, least), min(most, least), priority, until))

    @rule()
    def the_top_is_taken_off(self) -> None:
        self.world.leave()

    @rule()
    def a_module_is_put_on(self) -> None:
        self.world.join()

    @invariant()
    def nobody_takes_what_nobody_gives(self) -> None:
        """The world checks this itself, after every event; hypothesis wants to see a rule."""
        assert sum(self.world.caps()) <= self.world.supply_w * (1 - self.world.margin) + 1e-6

    def teardown(self) -> None:
        come_to_rest(self.world)


TestAnyStack = AnyStack.TestCase
TestAnyStack.settings = RANDOM
