"""Whatever happens to beacons, clocks and nodes: one leader per stable component within 2 s of quiet, and no epoch ever
goes backwards. ``make soak`` runs thousands of worlds: THOX_SOAK_WORLDS says how many.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from membership_world import MembershipWorld, a_node

from agent.cluster.membership.beacon import Touch
from agent.cluster.state import Side

SOAK = int(os.environ.get("THOX_SOAK_WORLDS", "0"))
pytestmark = pytest.mark.timeout(0 if SOAK else 600)  # one test, many worlds
QUIET_S = 2.0
RANDOM = settings(
    max_examples=SOAK or 100,
    stateful_step_count=40 if SOAK else 20,
    deadline=None,
    database=None,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink) if SOAK else (Phase.generate,),
)
indices = st.integers(0, 7)


class AnyMembership(RuleBasedStateMachine):
    """The world itself checks epochs after every event; here is what may happen, and what must come of it."""

    world: MembershipWorld

    @initialize(
        members=st.lists(st.tuples(st.booleans(), st.sampled_from([None, 20.0, 50.0, 90.0])), min_size=2, max_size=8),
        seed=st.integers(0, 2**32),
    )
    def begin(self, members: list[tuple[bool, float | None]], seed: int) -> None:
        nodes = [a_node(number, external, battery) for number, (external, battery) in enumerate(members, 1)]
        self.world = MembershipWorld(nodes, seed)
        self.names = [node.id for node in nodes]
        for lower, upper in pairwise(self.names):
            self.world.of(lower).touched = (Touch("top", upper, "bottom"),)

    def _name(self, index: int) -> str:
        return self.names[index % len(self.names)]

    @rule(seconds=st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.1, 1.6, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(start=indices, end=indices, cut=st.booleans())
    def a_path_fails_one_way(self, start: int, end: int, cut: bool) -> None:
        ends = self._name(start), self._name(end)
        if ends in self.world.paths:
            self.world.paths[ends].cut = cut

    @rule(index=indices, cut=st.booleans())
    def a_node_is_pulled_or_put_back(self, index: int, cut: bool) -> None:
        self.world.isolate(self._name(index), cut)

    @rule(
        loss=st.sampled_from([0.0, 0.2, 0.6]),
        twice=st.sampled_from([0.0, 0.5]),
        slowest=st.sampled_from([0.004, 0.3, 1.0, 5.0]),
        one=st.one_of(st.none(), indices),
    )
    def links_get_bad(self, loss: float, twice: float, slowest: float, one: int | None) -> None:
        for ends, path in self.world.paths.items():
            if one is None or self._name(one) in ends:
                path.loss, path.twice, path.slowest_s = loss, twice, slowest

    @rule(index=indices)
    def a_node_restarts(self, index: int) -> None:
        self.world.restart(self._name(index))

    @rule(index=indices)
    def a_node_dies(self, index: int) -> None:
        self.world.stop(self._name(index))

    @rule(index=indices, external=st.booleans(), battery=st.sampled_from([10.0, 60.0, 95.0]))
    def power_changes(self, index: int, external: bool, battery: float) -> None:
        self.world.change(self._name(index), external, battery)

    @rule(index=indices)
    def a_carrier_seems_to_go(self, index: int) -> None:
        module = self.world.modules[self._name(index)]
        if module.run is not None:
            module.run.hint(None, self.world.clock(module))

    @rule(index=indices, side=st.sampled_from(["bottom", "top"]))
    def a_contact_seems_to_open(self, index: int, side: Side) -> None:
        module = self.world.modules[self._name(index)]
        if module.run is not None:
            module.run.hint(side, self.world.clock(module))

    @precondition(lambda self: bool(self.world.recorded))
    @rule(which=st.integers(0, 49), index=indices)
    def somebody_replays_a_beacon(self, which: int, index: int) -> None:
        self.world.replay(self.world.recorded[which % len(self.world.recorded)], self._name(index))

    @rule(half=st.integers(0, 255))
    def the_stack_is_quiet_in_two_parts(self, half: int) -> None:
        self._quiet(half)

    @rule(within=st.just(6.0))
    def cuts_stay_as_they_are(self, within: float) -> None:
        """No clique, perhaps; the cuts may take turns to settle, but they do."""
        for path in self.world.paths.values():
            path.loss, path.twice, path.slowest_s = 0.0, 0.0, 0.004
        self.world.until(lambda: self.world.clusters() is not None, within)
        self.world.run(2.0)
        assert self.world.clusters() is not None, self.world.describe()

    def _quiet(self, half: int) -> None:
        for name, module in self.world.modules.items():
            if module.run is None:
                self.world.start(name)
        parts: tuple[list[str], list[str]] = ([], [])
        for number, name in enumerate(self.names):
            parts[half >> number & 1].append(name)
        groups = [part for part in parts if part]
        self.world.divide(*groups)
        self.world.run(QUIET_S)
        assert all(self.world.agrees(group) for group in groups), self.world.describe()

    def teardown(self) -> None:
        if hasattr(self, "names"):
            self._quiet(0)


TestAnyMembership = AnyMembership.TestCase
TestAnyMembership.settings = RANDOM
