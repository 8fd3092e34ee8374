"""Who hangs on a supply, and behind which contacts: from tags and faces alone."""

from __future__ import annotations

from agent.cluster.power.rules import Limit
from agent.cluster.power.topology import Faces, Topology, chain, feeder, touches_nobody
from agent.cluster.state import Cluster, Link, Node


def cluster(*links: tuple[str, str], powered: str = "", there: str = "abcd") -> Cluster:
    nodes = tuple(Node(name, "", 1, 1.0, name in powered, None, "") for name in there)
    return Cluster("c", 1, nodes, tuple(Link(lower, upper, 0.3, 10.0) for lower, upper in links))


def faces(top: bool, bottom: bool) -> Faces:
    return {"top": top, "bottom": bottom}


def test_of_several_supplies_the_lowest_in_the_stack_feeds_it_whatever_their_ids() -> None:
    stack = cluster(("d", "a"), ("a", "c"), powered="cd")
    assert {feeder(stack, stack.links, one, external=one in "cd") for one in "dac"} == {"d"}
    assert feeder(stack, stack.links, "d", external=False) == "c"  # it knows best whether a supply is in it
    assert feeder(stack, stack.links, "b", external=True) == "b"  # another stack


def test_where_no_tag_tells_of_a_supply_in_the_chain_it_is_one_of_the_cluster() -> None:
    pair = cluster(("a", "b"), powered="cd")
    assert feeder(pair, pair.links, "a", external=False) == "c"
    assert feeder(cluster(), (), "a", external=False) is None


def test_a_silent_module_between_two_supplies_hides_the_lower_one_from_nobody() -> None:
    topology = Topology("c", 50.0)
    topology.look(cluster(("a", "b"), ("b", "c")).links, faces(False, True), keep=False)
    topology.look((), faces(False, True), keep=False)  # b hangs
    heard = cluster(powered="ac", there="ac")
    assert feeder(heard, topology.contacts, "c", external=True) == "a"
    topology.look((), faces(False, False), keep=False)
    assert feeder(heard, topology.contacts, "c", external=True) == "c"


def test_only_a_module_that_feels_nobody_and_is_felt_by_nobody_stands_alone() -> None:
    assert touches_nobody(cluster(("b", "c")), "a", faces(False, False))
    assert touches_nobody(cluster(), "a", {})  # a machine without lines
    assert not touches_nobody(cluster(), "a", faces(True, False))
    assert not touches_nobody(cluster(("b", "a")), "a", faces(False, False))
    assert not touches_nobody(cluster(), "a", None)  # lines that cannot be read


def test_tags_that_lie_close_no_circle() -> None:
    links = cluster(("a", "b"), ("b", "c"), ("c", "a")).links
    assert sorted(chain(links, "a")) == ["a", "b", "c"]


def test_each_contact_limits_all_that_stand_behind_it_seen_from_the_supply() -> None:
    topology = Topology("b", 50.0)
    topology.look(cluster(("a", "b"), ("b", "c"), ("c", "d")).links, faces(True, True), keep=True)
    assert topology.attached() == ("a", "b", "c", "d")
    behind = {frozenset("cd"), frozenset("d"), frozenset("a")}
    assert set(topology.limits()) == {Limit(50.0, nodes) for nodes in behind}
    assert set(topology.limits("x")) == {Limit(50.0, nodes | {"x"}) for nodes in behind}  # behind any of them
    assert Topology("b", 50.0).limits("x") == (Limit(50.0, frozenset("x")),)


def test_a_contact_stays_until_a_face_of_it_is_open_or_touches_another() -> None:
    topology = Topology("a", 50.0)
    topology.look(cluster(("a", "b"), ("b", "c")).links, faces(True, False), keep=True)
    topology.said("b", faces(True, True))
    topology.look((), faces(True, False), keep=True)
    assert topology.attached() == ("a", "b", "c")
    topology.said("b", faces(False, True))
    topology.look((), faces(True, False), keep=True)
    assert topology.attached() == ("a", "b")
    topology.look(cluster(("a", "d")).links, faces(True, False), keep=True)
    assert topology.attached() == ("a", "d")
    topology.look((), faces(False, False), keep=True)
    assert topology.attached() == ("a",)


def test_who_hears_not_of_all_faces_keeps_what_is_joined_to_itself() -> None:
    topology = Topology("b", 50.0)
    topology.look(cluster(("a", "b"), ("b", "c"), ("c", "d")).links, faces(True, True), keep=False)
    topology.look((), faces(True, True), keep=False)
    assert topology.attached() == ("a", "b", "c", "d")
    topology.look((), faces(False, True), keep=False)
    assert topology.attached() == ("a", "b")
    topology.look((), faces(True, True), keep=False)
    assert topology.attached() == ("a", "b")


def test_a_closed_face_that_no_tag_explains_has_a_module_on_it_that_was_never_heard() -> None:
    topology = Topology("a", 50.0)
    topology.look((), faces(False, False), keep=True)
    assert topology.unheard() == 0
    topology.look((), faces(True, True), keep=True)
    assert topology.unheard() == 2  # no module is on both sides of another
    topology.look(cluster(("a", "b")).links, faces(True, False), keep=True)
    assert topology.unheard() == 0
    topology.said("b", faces(True, True))
    assert topology.unheard() == 1


def test_one_silent_module_may_close_a_face_of_each_of_two_that_no_tag_joins() -> None:
    topology = Topology("a", 50.0)
    topology.look((), faces(True, False), keep=True)
    topology.said("c", faces(False, True))
    assert topology.unheard("c") == 1  # a, ?, c
    topology.said("c", faces(True, True))
    assert topology.unheard("c") == 2  # a, ?, c, ?
    topology.said("c", {})  # a machine without lines: it may be on that face itself, and is counted by its word
    assert topology.unheard("c") == 1


def test_a_stack_has_no_more_modules_than_a_stack_can_have() -> None:
    topology = Topology("a", 50.0)
    topology.look(cluster(*zip("abcdefg", "bcdefgh", strict=True)).links, faces(True, True), keep=True)
    topology.said("h", faces(True, True))
    assert len(topology.attached()) == 8 and topology.unheard() == 0


def test_what_tags_join_to_one_that_only_says_that_it_is_here_hangs_on_this_supply_too() -> None:
    topology = Topology("a", 50.0)
    topology.look(cluster(("c", "d")).links, faces(True, False), keep=True)
    assert topology.attached() == ("a",) and topology.attached("c") == ("a", "c", "d")
    assert topology.limits("c") == (Limit(50.0, frozenset("cd")),)


def test_a_contact_that_is_open_at_one_end_is_open_at_the_end_of_a_silent_module_too() -> None:
    topology = Topology("a", 50.0)
    topology.look(cluster(("a", "b"), ("b", "c")).links, faces(True, False), keep=True)
    topology.said("b", faces(True, True))  # its last word
    topology.said("c", faces(False, False))
    topology.look(cluster().links, faces(True, False), keep=True)
    assert topology.attached() == ("a", "b") and topology.unheard() == 0


def test_a_tag_that_was_read_since_outweighs_what_was_said_of_a_face_before() -> None:
    topology = Topology("a", 50.0)
    topology.said("b", faces(False, False))
    topology.look(cluster(("b", "a")).links, faces(False, True), keep=True)
    assert topology.attached() == ("b", "a")
    topology.said("b", faces(False, False))  # it was lifted off: its tag is told of for a moment longer
    topology.look(cluster(("b", "a")).links, faces(False, True), keep=True)
    assert topology.attached() == ("a",)
