"""The largest clique around a candidate: against every subset, tried one by one."""

from __future__ import annotations

import time
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.membership.view import largest_clique

NAMES = "abcdefgh"


def by_trying(centre: str, hears: dict[str, set[str]], keep: set[str], most: int) -> tuple[str, ...]:
    def is_clique(group: tuple[str, ...]) -> bool:
        return all(two in hears[one] and one in hears[two] for one, two in combinations(group, 2))

    groups = (group for size in range(1, most + 1) for group in combinations(sorted(hears), size) if centre in group)
    return min(filter(is_clique, groups), key=lambda g: (-len(g), -sum(each in keep for each in g), g))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 8),
    deaf=st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=14),
    keep=st.sets(st.sampled_from(NAMES)),
    most=st.integers(1, 8),
)
def test_it_is_the_one_that_trying_all_finds(count: int, deaf: set[tuple[str, str]], keep: set[str], most: int) -> None:
    hears = {one: {two for two in NAMES[:count] if (one, two) not in deaf} for one in NAMES[:count]}
    keep.discard("a")  # the centre is always in
    assert largest_clique("a", hears, keep, most) == by_trying("a", hears, keep, most)


def test_one_way_is_not_enough() -> None:
    assert largest_clique("a", {"a": {"b"}, "b": set()}) == ("a",)


def test_a_stack_of_eight_is_the_most() -> None:
    names = [f"n{number:02}" for number in range(12)]
    whole = {name: set(names) for name in names}
    assert largest_clique("n11", whole) == (*names[:7], "n11")
    assert largest_clique("n11", whole, keep={"n10", "n09"}) == (*names[:5], "n09", "n10", "n11")


def test_the_worst_graph_of_a_link_takes_no_time_worth_speaking_of() -> None:
    """Twelve others in pairs that do not hear each other: 2^6 cliques of one size."""
    names = [f"n{number:02}" for number in range(12)]
    hears = {name: {other for other in names if int(other[1:]) // 2 != int(name[1:]) // 2} for name in names}
    began = time.process_time()
    assert len(largest_clique("me", {**hears, "me": set(names), **{n: hears[n] | {"me"} for n in names}})) == 7
    assert time.process_time() - began < 1.0
