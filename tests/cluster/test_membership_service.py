"""Real threads over the links of a World: stacked nodes become one cluster, and whoever is lifted off leaves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from running_stack import WITHIN_S, RunningNode, StampSeal

from agent.cluster.membership.beacon import decode
from agent.cluster.membership.epoch import Stored
from agent.cluster.membership.service import EpochFile, EpochStore
from agent.cluster.report.changes import EpochChanged, Joined, LeaderChanged, Left
from agent.cluster.state import Cluster
from hal.sim import SimLink
from hal.world import World
from hal.world_port import LocalPort

Stack = Callable[..., list[RunningNode]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stack(world: World, tmp_path: Path) -> Iterator[Stack]:
    """``stack(3)``: that many modules one on another, each with its membership running."""
    nodes: list[RunningNode] = []

    def build(number: int, store: EpochStore | None = None) -> list[RunningNode]:
        for each in range(1, number + 1):
            world.add(f"module-{each}")
            if each > 1:
                world.stack(f"module-{each - 1}", f"module-{each}")
        nodes.extend(
            RunningNode(world, each, tmp_path / f"module-{each}", store=store) for each in range(1, number + 1)
        )
        return nodes

    yield build
    for node in nodes:
        node.stop()


def together(nodes: list[RunningNode]) -> Cluster:
    """Wait until these nodes, and no others, are one settled cluster for each of them."""
    ids = sorted(node.id for node in nodes)
    for node in nodes:
        wait(node, lambda c: c.settled and [each.id for each in c.nodes] == ids)
    clusters = [node.service.cluster() for node in nodes]
    assert len({(each.id, each.leader_id, each.token) for each in clusters}) == 1
    return clusters[0]


def wait(node: RunningNode, done: Callable[[Cluster], bool]) -> None:
    """By its listeners: told of every change."""
    arrived = threading.Event()
    end = node.service.listen(lambda cluster: arrived.set() if done(cluster) else None)
    try:
        assert done(node.service.cluster()) or arrived.wait(WITHIN_S), node.service.cluster()
    finally:
        end()


def overheard(link: SimLink, node: RunningNode) -> bytes:
    """What that node says in its next beacon."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        got = link.receive(1.0)
        opened = StampSeal(node.device).open(got[0]) if got else None
        if opened is not None and opened[0] == node.device:
            return opened[1]
    raise AssertionError(f"{node.name} says nothing")


def test_four_modules_one_on_another_become_one_cluster_with_its_links(stack: Stack) -> None:
    nodes = stack(4)
    cluster = together(nodes)
    assert cluster.leader.id == cluster.leader_id
    assert [cluster.role(node.id) for node in cluster.nodes].count("leader") == 1
    assert nodes[2].service.admits(cluster.token) == "current"
    wait(nodes[0], lambda c: len(c.links) == 3)
    links = nodes[0].service.cluster().links
    assert [(each.lower, each.upper, each.gigabits) for each in links] == [
        (lower.id, upper.id, 10.0) for lower, upper in pairwise(nodes)
    ]
    assert {(each.lower_face, each.upper_face) for each in links} == {("top", "bottom")}
    deadline = time.monotonic() + WITHIN_S
    while nodes[0].service.cluster().links[0].round_trip_ms is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (nodes[0].service.cluster().links[0].round_trip_ms or -1) >= 0


def test_each_half_of_a_divided_stack_goes_on_and_they_merge_again(stack: Stack, world: World) -> None:
    nodes = stack(3)
    before = together(nodes)
    world.unstack("module-3")
    pair = together(nodes[:2])
    alone = together(nodes[2:])
    assert pair.epoch > before.epoch
    assert alone.epoch > before.epoch
    assert pair.id != alone.id
    assert nodes[0].service.admits(before.token) == "older"
    assert nodes[0].service.admits(alone.token) != "current"
    left = nodes[0].next(lambda event: isinstance(event, Left))
    assert isinstance(left, Left)
    assert left.node_id == nodes[2].id
    world.stack("module-2", "module-3")
    again = together(nodes)
    assert again.leader_id == pair.leader_id  # the larger side's
    assert again.epoch > max(pair.epoch, alone.epoch)


def test_a_leader_that_dies_is_followed_by_another_and_events_tell_it_in_order(stack: Stack) -> None:
    nodes = stack(3)
    first = together(nodes)
    leader = next(node for node in nodes if node.id == first.leader_id)
    others = [node for node in nodes if node is not leader]
    leader.stop()
    second = together(others)
    others[0].next(lambda event: isinstance(event, Left) and event.node_id == leader.id)
    then = [others[0].next(lambda event: not isinstance(event, Left)) for _ in range(2)]
    assert [type(event) for event in then] == [LeaderChanged, EpochChanged]
    assert second.leader_id != first.leader_id
    leader.start()
    third = together(nodes)
    assert third.leader_id == second.leader_id  # sticky: the one that came back does not take the lead
    assert third.epoch > second.epoch
    assert isinstance(others[0].next(lambda event: isinstance(event, Joined)), Joined)


def test_a_line_that_opens_is_told_to_those_who_cannot_feel_it(stack: Stack, world: World) -> None:
    nodes = stack(3)
    together(nodes)
    wait(nodes[1], lambda c: len(c.links) == 2)
    port = LocalPort(world, "module-1")
    try:
        world.unstack("module-3")
        end = time.monotonic() + WITHIN_S
        while (felt := decode(overheard(SimLink(port), nodes[1])).felt) is None and time.monotonic() < end:
            pass
    finally:
        port.close()
    assert felt is not None and felt.about == (nodes[2].id,)
    together(nodes[:2])


def test_the_lead_follows_the_supply(stack: Stack, world: World) -> None:
    nodes = stack(2)
    first = together(nodes)
    other = next(node for node in nodes if node.id != first.leader_id)
    world.plug(other.name)
    wait(nodes[0], lambda c: c.leader_id == other.id)
    assert together(nodes).leader_id == other.id


def test_strangers_forgeries_and_rubbish_on_the_link_change_nothing(stack: Stack, world: World, tmp_path: Path) -> None:
    nodes = stack(2)
    before = together(nodes)
    world.add("module-9")
    world.stack("module-2", "module-9")
    stranger = RunningNode(world, 9, tmp_path / "stranger", secret=b"of another stack")
    port = LocalPort(world, "module-9")
    link, hostile = SimLink(port), StampSeal(nodes[0].device, b"of another stack")
    liar = StampSeal(stranger.device)  # trusted, and speaks for another
    forged = overheard(link, nodes[0])
    try:
        for data in (
            b"",
            b"\0" * 1200,
            hostile.seal(forged),
            liar.seal(forged),
            liar.seal(b"{}"),
            liar.seal(b"[" * 900),
        ):
            link.send(data)
        together([stranger])
        heard = nodes[0].service.silent_s()
    finally:
        stranger.stop()
        port.close()
    assert together(nodes).token == before.token
    assert set(heard) == {nodes[1].id}
    assert not nodes[0].service.fault


def test_a_node_is_reached_where_its_last_beacon_came_from_until_it_has_been_silent_for_seconds(
    world: World, tmp_path: Path
) -> None:
    skipped = [0.0]
    world.add("module-1")
    world.add("module-2")
    world.stack("module-1", "module-2")
    one = RunningNode(world, 1, tmp_path / "module-1", clock=lambda: time.monotonic() + skipped[0])
    two = RunningNode(world, 2, tmp_path / "module-2")
    try:
        together([one, two])
        assert one.service.addresses() == {two.device: two.link.address()}
        two.stop()
        skipped[0] = 4.0
        assert set(one.service.addresses()) == {two.device}
        skipped[0] = 6.0
        assert one.service.addresses() == {}
        two.start()
        together([one, two])
        assert one.service.addresses() == {two.device: two.link.address()}
    finally:
        one.stop()
        two.stop()


def test_a_recording_says_nothing_of_where_its_sender_is(stack: Stack, world: World) -> None:
    nodes = stack(2)
    together(nodes)
    world.add("module-9")
    world.stack("module-2", "module-9")
    port = LocalPort(world, "module-9")
    link = SimLink(port)
    try:
        tape = overheard(link, nodes[1])
        nodes[1].stop()
        link.send(StampSeal(nodes[1].device).seal(tape))
        nodes[0].next(lambda event: isinstance(event, Left))  # by then it has come
        assert nodes[0].service.addresses().get(nodes[1].device) != link.address()
    finally:
        port.close()


def test_the_last_term_survives_a_restart_and_a_broken_file(tmp_path: Path) -> None:
    store = EpochFile(tmp_path)
    assert store.load() == Stored()
    store.save(Stored(3, 41))
    assert EpochFile(tmp_path).load() == Stored(3, 41)
    (tmp_path / "membership.json").write_text('{"incarnation": -1, "term": 2}')
    assert store.load() == Stored()
    (tmp_path / "membership.json").write_text("{")
    assert store.load() == Stored()


def test_a_restart_goes_on_above_the_last_term(stack: Stack) -> None:
    (node,) = stack(1)
    before = together([node])
    node.stop()
    node.start()
    assert together([node]).epoch == before.epoch + 1
    assert node.service.admits(before.token) == "older"


class FullDisk:
    """A store with no room."""

    def load(self) -> Stored:
        return Stored()

    def save(self, stored: Stored) -> None:
        raise OSError(28, "No space left on device")


def test_a_disk_that_fails_is_told_and_keeps_no_node_out(stack: Stack) -> None:
    nodes = stack(2, store=FullDisk())
    together(nodes)
    assert "No space left" in nodes[0].service.fault
