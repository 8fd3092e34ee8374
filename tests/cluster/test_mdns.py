"""Real sockets on a LAN of this machine's own: names and services are found, handed over, given up and told apart."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import avahi
import pytest
from asker import addresses, until
from avahi import Avahi
from lan import Host, Lan, why_not

from agent.cli import main
from agent.cluster.mdns.service import Mdns
from agent.cluster.state import Cluster, Node
from agent.config import ServerConfig

A, B, C = "node-aaaaaaaaaaaa", "node-bbbbbbbbbbbb", "node-cccccccccccc"
_why = why_not()
pytestmark = pytest.mark.skipif(bool(_why), reason=_why)
with_avahi = pytest.mark.skipif(bool(avahi.why_not()), reason=avahi.why_not())

Announce = Callable[..., Mdns]


def cluster(leader: str) -> Cluster:
    nodes = tuple(Node(each, "", 16 << 30, 100.0, True, None, "0.1.0") for each in (A, B, C))
    return Cluster("ms-cluster-0123456789ab", 1, nodes, leader_id=leader)


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as made:
        yield made


@pytest.fixture
def announce(lan: Lan) -> Iterator[Announce]:
    """``announce(host, node, leader)``: that node's mDNS, running on that host. All say goodbye before the LAN ends."""
    running: list[Mdns] = []

    def start(host: Host, node: str, leader: str, bind: str = "0.0.0.0", simulated: bool = False) -> Mdns:
        made = Mdns(node, "0.1.0", ServerConfig(bind=bind), cluster(leader), simulated=simulated)
        running.append(made)
        with host:
            made.start()
        return made

    yield start
    for each in running:
        each.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "mdns"]


@with_avahi
def test_the_leader_has_the_name_and_the_next_leader_gets_it(lan: Lan, announce: Announce, tmp_path: Path) -> None:
    """The other responder wants the name, too, and shares a device and its port with one of ours."""
    one, other = lan.host("10.0.0.1/24", "fd00:7::1/64"), lan.host("10.0.0.2/24", "fd00:7::2/64")
    third = lan.host("10.0.0.3/24")
    both = announce(one, A, leader=A, bind="::", simulated=True), announce(other, B, leader=A)
    until(lambda: addresses(third, "thox.local") == {"10.0.0.1": {"10.0.0.1"}})
    oracle = Avahi(other, "thox", tmp_path)
    try:
        assert "retrying with thox-2" in oracle.log, "who comes later is told that the name is the leader's"
        assert addresses(third, "thox-2.local") == {"10.0.0.2": {"10.0.0.2"}}
        assert oracle.resolve("thox.local") == "10.0.0.1"
        assert oracle.resolve("thox.local", version=6) == "fd00:7::1"
        assert oracle.resolve("thox-bbbbbbbbbbbb.local") == "10.0.0.2"
        oracle.browse("_thox._tcp")
        until(lambda: len(oracle.found) == 2)
        assert oracle.found["thox-bbbbbbbbbbbb"][:3] == ["thox-bbbbbbbbbbbb.local", "10.0.0.2", "5381"]
        said = {"api=v1", "version=0.1.0", "cluster=ms-cluster-0123456789ab", "inference=8080"}
        assert set(oracle.found["thox-bbbbbbbbbbbb"][3:]) == said | {f"node={B}", "role=follower"}
        assert set(oracle.found["thox-aaaaaaaaaaaa"][3:]) == said | {f"node={A}", "role=leader", "simulated=1"}
        for each in both:
            each.update(cluster(leader=B))
        until(lambda: oracle.resolve("thox.local") == "10.0.0.2", "its cache has the old leader")
        both[0].close()
        until(lambda: list(oracle.found) == ["thox-bbbbbbbbbbbb"], "who says goodbye is forgotten")
        assert [each.fault for each in both] == ["", ""]
    finally:
        oracle.close()


@with_avahi
def test_a_name_that_another_host_has_is_left_to_it_and_taken_when_it_goes(
    lan: Lan, announce: Announce, tmp_path: Path
) -> None:
    one, other, third = lan.host("10.0.0.1/24"), lan.host("10.0.0.2/24"), lan.host("10.0.0.3/24")
    stranger = Avahi(other, "thox", tmp_path, ipv6=False)
    try:
        leader = announce(one, A, leader=A)
        until(lambda: leader.fault == "thox.local is another device's (10.0.0.2) on eth0")
        assert addresses(third, "thox.local") == {"10.0.0.2": {"10.0.0.2"}}
        until(lambda: addresses(third, "thox-aaaaaaaaaaaa.local") == {"10.0.0.1": {"10.0.0.1"}})
    finally:
        stranger.close()
    until(lambda: addresses(third, "thox.local") == {"10.0.0.1": {"10.0.0.1"}})
    until(lambda: not leader.fault)


def test_two_leaders_on_one_lan_leave_the_name_to_one_and_the_other_says_so(lan: Lan, announce: Announce) -> None:
    """The halves of a divided stack."""
    one, other, third = lan.host("10.0.0.1/24"), lan.host("10.0.0.2/24"), lan.host("10.0.0.3/24")
    both = announce(one, A, leader=A), announce(other, B, leader=B)
    until(lambda: any(each.fault for each in both))
    until(lambda: addresses(third, "thox.local"))
    held = addresses(third, "thox.local")
    loser = both[0] if "10.0.0.2" in held else both[1]
    assert len(held) == 1 and loser.fault == f"thox.local is another device's ({next(iter(held))}) on eth0"
    for each in both:
        each.update(cluster(leader=A))  # they have become one again
    until(lambda: addresses(third, "thox.local") == {"10.0.0.1": {"10.0.0.1"}})
    until(lambda: not any(each.fault for each in both))


def test_each_network_is_one_of_its_own_and_one_that_is_not_served_hears_nothing(lan: Lan, announce: Announce) -> None:
    """On the first two leaders meet, of which 10.0.0.2 has the later data; on the second there is one of them alone."""
    with Lan() as second, second.switch, socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as tap:
        tap.setblocking(False)
        everywhere, bound, alone = (lan.host(f"10.0.0.{number}/24") for number in (1, 2, 3))
        for number, host in enumerate((everywhere, bound, alone), 1):
            second.plug(host, "eth1", f"10.0.1.{number}/24")
        on_both = announce(everywhere, A, leader=A, bind="0.0.0.0")
        announce(bound, B, leader=B, bind="10.0.0.2")
        on_none = announce(alone, C, leader=C, bind="127.0.0.1")
        here, there = lan.host("10.0.0.8/24"), second.host("10.0.1.8/24")
        until(lambda: addresses(here, "thox.local") == {"10.0.0.2": {"10.0.0.2"}})
        until(lambda: addresses(here, "thox-aaaaaaaaaaaa.local") == {"10.0.0.1": {"10.0.0.1"}})
        for _ in range(8):
            assert addresses(here, "thox-aaaaaaaaaaaa.local"), "each packet is for the network that it came from"
        assert on_both.fault == "thox.local is another device's (10.0.0.2) on eth0"
        until(lambda: addresses(there, "thox.local") == {"10.0.1.1": {"10.0.1.1"}})
        heard = b"".join(iter(lambda: _next(tap), b""))
        assert b"thox-aaaaaaaaaaaa" in heard
        assert b"thox-bbbbbbbbbbbb" not in heard, "its server is bound to an address of the other network"
        assert b"thox-cccccccccccc" not in heard and on_none.fault == "", "its server is bound to loopback"


def test_a_port_that_comes_free_and_addresses_that_change_are_noticed(lan: Lan, announce: Announce) -> None:
    one, other = lan.host("10.0.0.1/24"), lan.host("10.0.0.2/24")
    with one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greedy:
        greedy.bind(("", 5353))
        leader = announce(one, A, leader=A)
        until(lambda: leader.fault == "no mDNS on eth0: port 5353: Address already in use")
    one.ip("address add 10.0.0.77/24 dev eth0")
    until(lambda: addresses(other, "thox.local").get("10.0.0.1") == {"10.0.0.1", "10.0.0.77"})
    assert leader.fault == ""
    one.ip("address flush dev eth0")
    one.ip("address add 10.0.0.88/24 dev eth0")
    until(lambda: addresses(other, "thox.local") == {"10.0.0.88": {"10.0.0.88"}})


def test_an_address_that_the_machine_does_not_have_is_a_fault(lan: Lan, announce: Announce) -> None:
    lost = announce(lan.host("10.0.0.1/24"), A, leader=A, bind="10.0.0.99")
    until(lambda: lost.fault == "no mDNS: no network has the address 10.0.0.99")


def test_thox_find_lists_the_devices_leader_first(
    lan: Lan, announce: Announce, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them has IPv4 alone, the other IPv6."""
    one, other, third = lan.host("10.0.0.1/24"), lan.host("fd00:7::2/64"), lan.host("10.0.0.3/24", "fd00:7::3/64")
    announce(one, A, leader=B)
    announce(other, B, leader=B, bind="::", simulated=True)
    with third:
        assert main(["find", "--json", "--seconds", "1.5"]) == 0
    leader, follower = json.loads(capsys.readouterr().out)["devices"]
    assert leader == {
        "host": "thox-bbbbbbbbbbbb.local",
        "addresses": ["fd00:7::2"],
        "cluster_port": 5381,
        "inference_port": 8080,
        "node": B,
        "cluster": "ms-cluster-0123456789ab",
        "role": "leader",
        "version": "0.1.0",
        "simulated": True,
    }
    assert (follower["node"], follower["role"], follower["simulated"]) == (A, "follower", False)
    assert follower["addresses"] == ["10.0.0.1"]


def _next(tap: socket.socket) -> bytes:
    try:
        return tap.recv(65536)
    except BlockingIOError:
        return b""
