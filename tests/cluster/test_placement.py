"""Placement: against every cut tried one by one, and what must be true of every plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.cluster.placement import Need, Plan, Room, Stage, place, plan, stack_order, whole_on
from agent.cluster.state import Cluster, Link, Node
from agent.errors import NoRoomError

GIB = 1 << 30
EVEN = Need("m", layers=(100,) * 10, embedding=30, head=50, cache=1, tokens=10, stage=5)

needs = st.builds(
    Need,
    model=st.just("m"),
    layers=st.lists(st.integers(1, 30), min_size=1, max_size=7).map(tuple),
    embedding=st.integers(0, 20),
    head=st.integers(0, 20),
    cache=st.integers(0, 3),
    tokens=st.integers(0, 3),
    stage=st.integers(0, 10),
)


@st.composite
def stacks(draw: st.DrawFn, most: int = 4) -> list[Room]:
    """Rooms from the bottom to the top; ids in any order, the odd one not reached."""
    names = draw(st.permutations("abcdefgh"[: draw(st.integers(1, most))]))
    return [
        Room(name, draw(st.integers(0, 120)), draw(st.sampled_from([1.0, 2.0, 3.5])), draw(st.integers(0, 7)) > 0)
        for name in names
    ]


def order_of(rooms: list[Room]) -> list[str]:
    return [room.node for room in rooms]


def check(found: Plan, need: Need, rooms: list[Room]) -> None:
    """What must be true of every plan."""
    known = {room.node: room for room in rooms}
    assert [layer for s in found.stages for layer in range(s.first, s.last + 1)] == list(range(len(need.layers)))
    assert all(stage.first <= stage.last for stage in found.stages)
    assert len(set(found.nodes)) == len(found.nodes)
    for stage in found.stages:
        assert known[stage.node].reachable and need.takes(stage.first, stage.last) <= known[stage.node].free
    at = [order_of(rooms).index(node) for node in found.nodes]
    assert at in (sorted(at), sorted(at, reverse=True)), "stages jump up and down the stack"


def every_plan(need: Need, rooms: list[Room]) -> Iterator[tuple[tuple[Room, ...], tuple[Stage, ...]]]:
    """Whatever fits, along the stack in either direction; neither greedy nor clever."""
    there = [room for room in rooms if room.reachable]
    for count in range(1, len(there) + 1):
        for ends in combinations(range(1, len(need.layers)), count - 1):
            cut = [*pairwise((0, *ends, len(need.layers)))]
            for nodes in combinations(there, count):
                for way in {nodes, nodes[::-1]}:
                    stages = tuple(Stage(r.node, a, b - 1) for r, (a, b) in zip(way, cut, strict=True))
                    if all(need.takes(s.first, s.last) <= r.free for r, s in zip(way, stages, strict=True)):
                        yield way, stages


def worth(need: Need, rooms: list[Room], way: tuple[Room, ...], stages: tuple[Stage, ...], leader: str) -> object:
    """The rules, in words of the docstring; the lowest is the best."""
    names = order_of(rooms)
    gaps = sum(abs(names.index(a.node) - names.index(b.node)) for a, b in pairwise(way))
    times = [
        (sum(need.layers[s.first : s.last + 1]) + (need.head if s is stages[-1] else 0)) / r.speed
        for r, s in zip(way, stages, strict=True)
    ]
    nodes = tuple(room.node for room in way)
    return len(way), gaps, max(times), leader not in nodes, nodes[0] != leader, nodes


@settings(max_examples=200, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks())
def test_no_plan_is_better_than_the_one_that_is_chosen(need: Need, rooms: list[Room]) -> None:
    leader = max(order_of(rooms))
    found = list(every_plan(need, rooms))
    try:
        chosen = place(need, rooms, order_of(rooms), leader)
    except NoRoomError:
        assert not found, "it was refused, and there is room"
        return
    check(chosen, need, rooms)
    by_node = {room.node: room for room in rooms}
    way = tuple(by_node[node] for node in chosen.nodes)
    best = min(worth(need, rooms, *each, leader) for each in found)  # type: ignore[type-var]
    assert worth(need, rooms, way, chosen.stages, leader) == best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks(8), more=st.integers(0, 200), at=st.integers(0, 7))
def test_more_room_never_makes_it_refuse_and_never_takes_more_nodes(
    need: Need, rooms: list[Room], more: int, at: int
) -> None:
    try:
        before = place(need, rooms, order_of(rooms))
    except NoRoomError:
        return
    check(before, need, rooms)
    at %= len(rooms)
    roomier = [replace(room, free=room.free + more) if each == at else room for each, room in enumerate(rooms)]
    after = place(need, roomier, order_of(roomier))
    check(after, need, roomier)
    assert len(after.stages) <= len(before.stages)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks(8), seed=st.randoms(use_true_random=False))
def test_the_order_in_which_nodes_are_told_changes_nothing(need: Need, rooms: list[Room], seed: object) -> None:
    shuffled = list(rooms)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]

    def told(given_rooms: list[Room]) -> object:
        try:
            return place(need, given_rooms, order_of(rooms), "a", "1.a.x")
        except NoRoomError as error:
            return error.to_json()

    assert told(rooms) == told(shuffled)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks(6))
def test_what_is_missing_would_be_enough_on_one_more_node(need: Need, rooms: list[Room]) -> None:
    assume(len(need.layers) > 1)
    try:
        place(need, rooms, order_of(rooms))
    except NoRoomError as error:
        missing = error.details["missing_bytes"]
        assert isinstance(missing, int) and f"{-(-missing >> 20)} MiB" in (error.hint or "")
        further = Room("z", missing, 1.0)
        top, bottom = [*rooms, further], [further, *rooms]
        fits = [each for each in (top, bottom) if _fits(need, each)]
        assert fits, "a node with what is said to be missing does not help"


def _fits(need: Need, rooms: list[Room]) -> bool:
    try:
        check(place(need, rooms, order_of(rooms)), need, rooms)
    except NoRoomError:
        return False
    return True


@settings(max_examples=60, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks(5), more=st.integers(0, 500), at=st.integers(0, 5))
def test_a_newcomer_never_moves_what_serves(need: Need, rooms: list[Room], more: int, at: int) -> None:
    assume(_fits(need, rooms))
    running = place(need, rooms, order_of(rooms), token="1.a.x")
    grown = [*rooms[:at], Room("z", more, 9.0), *rooms[at:]]
    kept = plan(running, need, grown, order_of(grown), token="2.a.y")
    assert kept == replace(running, token="2.a.y")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(need=needs, rooms=stacks(5), leaves=st.integers(0, 4))
def test_when_a_node_of_the_plan_leaves_the_others_carry_it_or_it_is_said_why_not(
    need: Need, rooms: list[Room], leaves: int
) -> None:
    assume(_fits(need, rooms))
    running = place(need, rooms, order_of(rooms))
    gone = running.nodes[leaves % len(running.nodes)]
    left = [room for room in rooms if room.node != gone]
    try:
        after = plan(running, need, left, order_of(left))
    except NoRoomError as error:
        assert not _fits(need, left) and gone in error.message and error.hint and error.details["missing_bytes"]
    else:
        check(after, need, left)
        assert after == place(need, left, order_of(left)) and gone not in after.nodes


# --- single rules, as a person would ask ----------------------------------------------------------------------------


def rooms_of(*free: int, speed: float = 1.0) -> list[Room]:
    return [Room(f"n{number}", each, speed) for number, each in enumerate(free, 1)]


def placed(rooms: list[Room], need: Need = EVEN, leader: str = "n1") -> list[tuple[str, int, int]]:
    return [(s.node, s.first, s.last) for s in place(need, rooms, order_of(rooms), leader).stages]


def test_one_node_carries_it_where_one_has_the_room_however_many_there_are() -> None:
    assert EVEN.whole == 1185
    assert placed(rooms_of(1184, 1184, 1185, 1184)) == [("n3", 0, 9)]


def test_of_several_with_the_room_it_is_the_fastest_then_the_leader_then_the_lowest_id() -> None:
    rooms = rooms_of(2000, 2000, 2000)
    assert placed(rooms, leader="n2") == [("n2", 0, 9)]
    assert placed(rooms, leader="n9") == [("n1", 0, 9)]
    assert placed([*rooms[:2], replace(rooms[2], speed=1.1)], leader="n2") == [("n3", 0, 9)]


def test_the_leader_has_a_stage_on_a_tie_also_where_it_cannot_be_the_first() -> None:
    need = replace(EVEN, embedding=300, head=0)
    rooms = rooms_of(900, 900, 560)
    assert placed(rooms, need, leader="n3") == [("n2", 0, 4), ("n3", 5, 9)]
    assert placed(rooms, need, leader="n1") == [("n1", 0, 4), ("n2", 5, 9)]


def test_neighbours_talk_to_neighbours_though_others_would_be_faster() -> None:
    rooms = rooms_of(700, 700, 700, 700)
    quick = [rooms[0], rooms[1], replace(rooms[2], speed=9.0), rooms[3]]
    assert {node for node, _, _ in placed(quick)} in ({"n2", "n3"}, {"n3", "n4"})
    apart = [rooms[0], replace(rooms[1], free=10), replace(rooms[2], reachable=False), rooms[3]]
    assert {node for node, _, _ in placed(apart)} == {"n1", "n4"}, "what lies between is passed where it has no room"


def test_a_faster_node_takes_more_layers_as_far_as_its_memory_goes() -> None:
    need = replace(EVEN, head=0)
    slow, fast = Room("n1", 1000, 1.0), Room("n2", 1000, 4.0)
    assert placed([slow, fast], need) == [("n1", 0, 1), ("n2", 2, 9)]
    assert placed([slow, replace(fast, free=5 + 3 * 110)], need) == [("n1", 0, 6), ("n2", 7, 9)]


def test_layers_of_unlike_size_are_cut_by_what_they_take() -> None:
    need = Need("m", (500, 10, 10, 10), embedding=0, head=0, cache=0, tokens=0, stage=0)
    assert placed(rooms_of(515, 515), need) == [("n1", 0, 0), ("n2", 1, 3)]


def test_what_cannot_be_divided_goes_to_one_node_or_nowhere() -> None:
    need = Need("e", (1000,), embedding=0, head=0, cache=0, tokens=0, stage=0)
    assert placed(rooms_of(900, 1000), need) == [("n2", 0, 0)]
    with pytest.raises(NoRoomError) as refused:
        placed(rooms_of(900, 999), need)
    assert "cannot be divided" in (refused.value.hint or "")


def test_who_is_refused_learns_what_is_needed_what_is_there_and_what_would_help() -> None:
    need = Need("big", (GIB,) * 30, embedding=0, head=GIB, cache=1024, tokens=1 << 15, stage=GIB >> 4)
    with pytest.raises(NoRoomError) as refused:
        placed([*rooms_of(10 * GIB, 12 * GIB), Room("n3", 99 * GIB, 1.0, reachable=False)], need)
    error = refused.value
    assert error.status == 507 and error.param == "model"
    assert (
        "big needs about 32768 MiB" in error.message and "the 2 nodes that are reached have 22528 MiB" in error.message
    )
    assert "one more node with 11648 MiB free would carry it" in (error.hint or "")
    assert "960 MiB of it is a cache for 32768 tokens" in (error.hint or "")
    assert error.details["available_bytes"] == 22 * GIB


def test_a_plan_is_made_anew_when_the_files_are_others_or_the_room_is_gone() -> None:
    rooms = rooms_of(2000, 2000)
    running = whole_on(EVEN, "n2", "1.n1.x")
    assert plan(running, EVEN, rooms, order_of(rooms), "n1").nodes == ("n2",)
    grown = replace(EVEN, layers=(100,) * 11)
    assert plan(running, grown, rooms, order_of(rooms), "n1") == whole_on(grown, "n1")
    assert plan(running, EVEN, [rooms[0], replace(rooms[1], free=9)], ["n1", "n2"], "n1").nodes == ("n1",)


def test_the_order_of_a_stack_is_that_of_its_contacts_whichever_way_they_are_told() -> None:
    nodes = tuple(Node(name, "a", 1, 1.0, False, None, "0") for name in "abcde")
    links = (Link("d", "b", None, None), Link("b", "a", None, None))
    for told in permutations(links):
        assert stack_order(Cluster("c", 1, nodes, told)) == ("d", "b", "a", "c", "e")
