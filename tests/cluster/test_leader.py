"""The order of precedence, and the words of beacons that carry it: exact, small, and closed to whatever is not one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from membership_world import a_node

from agent.cluster.membership.beacon import MOST_HEARD, Beacon, BeaconError, Felt, Heard, Touch, decode, encode
from agent.cluster.membership.epoch import Epoch, Stored, verdict
from agent.cluster.membership.leader import LIVED_S, keeps_the_lead, lived, rank
from agent.cluster.membership.run import Membership
from agent.cluster.report.changes import EpochChanged, Joined, LeaderChanged, Left, changes
from agent.cluster.state import Cluster, cluster_id, node_id

PAYLOAD_BYTES = 1095  # what a sealed datagram has room for


def full_beacon() -> Beacon:
    """The longest that a stack of eight, with four strangers on the link, can bring about."""
    names = [f"node-{number:012x}" for number in range(2**48 - 12, 2**48)]
    node = replace(a_node(1, True, 99.99), id=names[0], address="[" + "f" * 45 + "]", version="10.10.10-rc10")
    return Beacon(
        node=node,
        incarnation=10**5,
        seq=10**9,
        heard=tuple(Heard(name, 10**5, 10**9, 999) for name in names[1:12]),
        late=tuple(names[1:12]),
        term=10**7,
        epoch=Epoch(10**7, names[0], tuple(names[:8])),
        reigns=True,
        present=8,
        lived=5,
        vote=names[0],
        vote_rank=(0, -8.0, -5.0, names[0]),
        view=tuple(names[:8]),
        touched=(Touch("bottom", names[1], "top", 123.45, 10.0), Touch("top", names[2], "bottom", 123.45, 10.0)),
        felt=Felt(10**5, tuple(names[1:12])),
        documents="f" * 16,
        refused=(Heard(names[3], 10**5, 10**9, 999), Heard(names[4], 10**5, 10**9, 999)),
    )


def test_a_beacon_comes_out_as_it_went_in() -> None:
    beacon = full_beacon()
    assert decode(encode(beacon)) == beacon
    assert len(beacon.heard) < MOST_HEARD


def test_the_longest_beacon_fits_a_sealed_datagram() -> None:
    assert len(encode(full_beacon())) <= PAYLOAD_BYTES


WRONG: dict[str, tuple[str, Any]] = {
    "another version": ("v", 2),
    "an id that is no text": ("x", [1]),
    "an id too long": ("x", ["n" * 21]),
    "a negative count": ("i", [0, -1, 1]),
    "a term beyond all numbers": ("t", 2**60),
    "a term that is a fraction": ("t", 1.5),
    "a term that is a word": ("t", True),
    "an id that is not in the table": ("o", [99, 0, -8.0, -5.0]),
    "a rank that is not its own": ("o", [0, 0, -9.0, -5.0]),
    "a battery of too much": ("n", ["10.0.0.1", 1, 1.0, 1, 101, "1"]),
    "an address too long": ("n", ["1" * 48, 1, 1.0, 1, 100, "1"]),
    "more TOPS than any float": ("n", ["10.0.0.1", 1, 10**400, 1, 100, "1"]),
    "more heard than a link has": ("h", [[0, 1, 1, 1]] * (MOST_HEARD + 1)),
    "no list": ("h", {"0": 1}),
    "an epoch that its sender is not in": ("e", [10**7, 1, [1, 2]]),
    "an epoch that its leader is not in": ("e", [10**7, 9, [0, 1]]),
    "members that are not sorted": ("e", [10**7, 0, [1, 0]]),
    "an epoch beyond its own term": ("e", [10**7 + 1, 0, [0, 1]]),
    "nobody in the view of one who wants to lead": ("w", []),
    "a sign about nobody": ("s", [1, []]),
    "a sign about its sender": ("s", [1, [0, 1]]),
    "a sign about somebody twice": ("s", [1, [1, 1]]),
    "a sign without a number": ("s", [None, [1]]),
    "a sign of no parts": ("s", [1]),
    "a sign about more than a link has": ("s", [1, [1] * (MOST_HEARD + 1)]),
    "a sign that is a word": ("s", "gone"),
    "a third face": ("c", [[2, 1, 0, None, None]]),
    "a lead over nobody": ("e", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_beacon_in_every_part_is_refused(name: str) -> None:
    field, value = WRONG[name]
    body = json.loads(encode(full_beacon()))
    body[field] = value
    with pytest.raises(BeaconError):
        decode(json.dumps(body).encode())


def test_a_beacon_without_one_of_its_parts_is_refused() -> None:
    body = json.loads(encode(full_beacon()))
    for part in body:
        with pytest.raises(BeaconError):
            decode(json.dumps({name: value for name, value in body.items() if name != part}).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b"NaN", b"[" * 1000, b'{"v":1}'])
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(BeaconError):
        decode(data)


SIMPLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))
ANYTHING = st.one_of(
    SIMPLE, st.lists(SIMPLE, max_size=4), st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=3)
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(field=st.sampled_from("vinhflterowcsdx"), value=ANYTHING)
def test_a_beacon_with_a_part_replaced_by_anything_is_a_beacon_or_refused(field: str, value: object) -> None:
    body = {**json.loads(encode(full_beacon())), field: value}
    listener = Membership(a_node(77), Stored())
    listener.tick(0.0)
    try:
        beacon = decode(json.dumps(body).encode())
    except BeaconError:
        return
    listener.hear(beacon, 0.1)
    assert listener.tick(1.0) is not None


def test_external_power_then_battery_then_id_and_a_leader_before_them_all() -> None:
    nodes = [a_node(1, False, 30.0), a_node(2, False, 90.0), a_node(3, True, 5.0), a_node(4, False, 90.0), a_node(5)]
    ranks = sorted(rank(node, False, 0, 0) for node in nodes)
    assert [each[3] for each in ranks] == [nodes[place].id for place in (2, 1, 3, 4, 0)]
    assert rank(nodes[0], True, 2, 0) < ranks[0]
    assert rank(nodes[4], True, 3, 0) < rank(nodes[0], True, 2, 5)  # size before age
    assert rank(nodes[4], True, 2, 1) < rank(nodes[0], True, 2, 0)  # age before id


def test_a_leader_goes_on_unless_it_is_alone_or_another_has_the_supply() -> None:
    plain, powered = a_node(1), a_node(2, True)
    assert keeps_the_lead(plain, 2, [plain])
    assert keeps_the_lead(powered, 2, [powered])
    assert not keeps_the_lead(plain, 2, [powered])
    assert not keeps_the_lead(powered, 1, [])


def test_ages_are_told_in_classes() -> None:
    assert [lived(seconds) for seconds in (0.0, 9.9, 10.0, *LIVED_S[1:], 1e9)] == [0, 0, 1, 2, 3, 4, 5, 5]


def test_an_order_is_followed_in_its_epoch_alone() -> None:
    epoch = Epoch(7, "a", ("a", "b"))
    assert verdict(epoch.token, epoch, 7) == "current"
    for other in (Epoch(6, "a", ("a", "b")), Epoch(7, "b", ("a", "b")), Epoch(7, "a", ("a", "c"))):
        assert verdict(other.token, epoch, 7) == "older"
    assert verdict(Epoch(8, "a", ("a", "b")).token, epoch, 7) == "unknown"
    assert verdict(epoch.token, None, 7) == "older"
    for nonsense in ("", "x", "-1.a.b", "1" * 5000, "²"):
        assert verdict(nonsense, epoch, 7) == "unknown"


def test_ids_of_nodes_sort_as_those_of_devices_do() -> None:
    devices = ["00000000-0000-4000-8000-000000000000", "0fffffff-0000-4000-8000-000000000000", "f" * 32]
    assert [node_id(each) for each in devices] == sorted(node_id(each) for each in devices)


def test_events_tell_who_went_before_who_came_and_the_epoch_last() -> None:
    one, two, three = a_node(1), a_node(2), a_node(3)
    before = Cluster(cluster_id(one.id), 4, (one, two), leader_id=one.id, token="4")
    after = Cluster(cluster_id(two.id), 6, (two, three), leader_id=two.id, token="6")
    assert changes(before, after) == (
        Left(one.id, 6),
        Joined(three, 6),
        LeaderChanged(two.id, 6),
        EpochChanged(6, "6", (two.id, three.id)),
    )
    assert changes(after, replace(after, settled=False)) == ()
