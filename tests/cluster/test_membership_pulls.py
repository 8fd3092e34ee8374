"""A module is pulled from a chain of any length, at any place, whoever leads: who is left where, and when they know it.

Time is virtual, so the bound is exact: no machine is too busy for it.
"""

from __future__ import annotations

import pytest
from membership_sign_scenes import PULL_S, Chain

from agent.cluster.membership.run import HEARD_S, Membership


@pytest.mark.parametrize("count", range(2, 9))
def test_a_chain_that_is_lifted_apart_anywhere_is_two_clusters_within_a_second(count: int) -> None:
    for leads in range(1, count + 1):
        for contact in range(1, count):
            chain = Chain(Membership, count, leads, seed=100 * leads + contact)
            took = chain.divided(contact)
            assert took <= PULL_S, f"module {leads} led, contact {contact} opened: {took:.2f} s"
            lead = chain.ids[leads - 1]
            kept = chain.ids[:contact] if leads <= contact else chain.ids[contact:]
            other = chain.ids[contact:] if leads <= contact else chain.ids[:contact]
            assert _leaders(chain, kept) == {lead}, "who leads goes on leading"
            assert _leaders(chain, other) == {other[0]}, "the others follow the lowest id"


@pytest.mark.parametrize("count", range(2, 9))
def test_a_module_that_is_drawn_out_anywhere_is_missed_by_all_others_within_a_second(count: int) -> None:
    for place in range(1, count + 1):
        for leads in sorted({1, place, count}):
            chain = Chain(Membership, count, leads, seed=100 * leads + place)
            took = chain.drawn(place)
            assert took <= PULL_S, f"module {leads} led, module {place} was drawn out: {took:.2f} s"
            rest = [each for each in chain.ids if each != chain.ids[place - 1]]
            assert _leaders(chain, rest) == {rest[0] if leads == place else chain.ids[leads - 1]}


def test_a_module_that_falls_silent_without_a_sign_is_waited_for_as_long_as_ever() -> None:
    chain = Chain(Membership, 4)
    chain.world.isolate(chain.ids[3])
    took = chain.world.until(lambda: chain.world.agrees(chain.ids[:3]), 1.8)
    assert took > HEARD_S


def _leaders(chain: Chain, part: list[str]) -> set[str]:
    return {epoch.leader for name in part if (epoch := chain.world.of(name).epoch) is not None}
