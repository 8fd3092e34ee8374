"""Names on one network, by a clock of the test's own: who gets them, who keeps them, what is answered (RFC 6762)."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from ether import Ether, Heard, question, records, response
from hypothesis import given, settings
from hypothesis import strategies as st
from zeroconf import DNSAddress, DNSNsec, DNSPointer, DNSRecord, DNSService, DNSText

from agent.cluster.mdns.claim import RETRY_S
from agent.cluster.mdns.records import LEADER_HOST, SERVICE, SERVICES, Shown, shown, with_ttl
from agent.cluster.mdns.responder import Responder, Source

A, B = "node-aaaaaaaaaaaa", "node-bbbbbbbbbbbb"
ALPHA, BETA, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.9"
HOST = "thox-aaaaaaaaaaaa.local."
INSTANCE = "thox-aaaaaaaaaaaa._thox._tcp.local."


@pytest.fixture
def ether() -> Ether:
    return Ether()


@pytest.fixture
def leader(ether: Ether) -> Responder:
    """One device that leads, and has its names since long."""
    responder = ether.join(A, ALPHA, leads=True)
    ether.run(60.0)
    return responder


def answers(sent: list[Heard]) -> list[DNSRecord]:
    return [record for each in sent for record in each.message.answers()]


def address(name: str, last: int, ttl: int = 120) -> DNSAddress:
    return DNSAddress(name, 1, 0x8001, ttl, bytes([10, 0, 0, last]))


def test_a_name_is_asked_for_three_times_before_it_is_told_and_told_twice(ether: Ether) -> None:
    ether.join(A, ALPHA, leads=True)
    sent = [each for each in ether.run(30.0) if LEADER_HOST in each.names]
    asked, told = [each for each in sent if each.message.is_query()], [e for e in sent if e.message.is_response()]
    assert [each.message.is_probe() for each in asked] == [True] * 3
    assert all(not record.unique for each in asked for record in each.message.answers()), "no cache is told to drop"
    assert asked[2].at < told[0].at and told[0].at - asked[0].at == pytest.approx(0.75)
    assert len(told) == 2 and told[1].at - told[0].at == pytest.approx(1.0)
    assert all(record.unique for record in told[0].message.answers()), "caches drop what the last leader had said"


def test_a_follower_has_its_own_names_and_says_where_its_service_is(ether: Ether) -> None:
    ether.join(A, ALPHA, leads=False)
    said = answers(ether.run(30.0))
    assert not any(record.name == LEADER_HOST for record in said)
    assert DNSPointer(SERVICE, 12, 1, 4500, INSTANCE) in said
    assert DNSPointer(SERVICES, 12, 1, 4500, SERVICE) in said
    assert DNSService(INSTANCE, 33, 0x8001, 120, 0, 0, 5381, HOST) in said
    assert DNSText(INSTANCE, 16, 0x8001, 4500, b"\x06api=v1\x0brole=leader") in said
    assert address(HOST, 1) in said


@pytest.mark.parametrize("chances", [(0.1, 0.9), (0.9, 0.1), (0.5, 0.5)])
def test_of_two_that_ask_at_once_one_gets_the_name_and_the_other_says_who(
    ether: Ether, chances: tuple[float, float]
) -> None:
    devices = ether.join(A, ALPHA, leads=True, chance=chances[0]), ether.join(B, BETA, leads=True, chance=chances[1])
    ether.run(5.0)
    (holder,) = ether.holders(LEADER_HOST)
    loser = devices[0] if holder == BETA else devices[1]
    assert loser.rivals == {"thox.local": holder}
    if chances[0] == chances[1]:
        assert holder == BETA, "whose data is later, as others count, too"
    assert ether.holders(HOST) == [ALPHA], "its own names stay"


def test_a_name_that_is_still_asked_for_is_nobodys(ether: Ether) -> None:
    ether.join(A, ALPHA, leads=True)
    ether.run(0.5)
    for name in (HOST, LEADER_HOST):
        ether.say(question(name), STRANGER)
    assert all(each.message.is_query() for each in ether.run(0.3))


@pytest.mark.parametrize("role", ["aaa", "zzz"])
def test_a_device_that_hears_its_own_words_of_a_moment_ago_quarrels_with_nobody(ether: Ether, role: str) -> None:
    now, before = (shown(A, [b"\x0a\0\0\x01"], 5381, {"role": each}, leads=False) for each in ("mmm", role))
    ether.join(A, ALPHA, leads=False)
    ether.show(ALPHA, now)
    ether.run(0.3)
    ether.say(question(INSTANCE, "ANY", wanted=before.node), ALPHA)
    told = next(each for each in ether.run(3.0) if each.message.is_response())
    assert told.at == pytest.approx(1000.875, abs=0.01), "it went on as if nothing was"
    ether.say(response(*before.node), ALPHA)
    assert not [each for each in ether.run(3.0) if each.message.is_query()]


def test_who_holds_the_name_keeps_it(ether: Ether, leader: Responder) -> None:
    newcomer = ether.join(B, BETA, leads=True)
    ether.run(60.0)
    assert ether.holders(LEADER_HOST) == [ALPHA]
    assert not leader.rivals and newcomer.rivals == {"thox.local": ALPHA}


def test_a_leader_that_gives_the_name_back_says_goodbye_and_the_next_has_it_within_two_seconds(
    ether: Ether, leader: Responder
) -> None:
    newcomer = ether.join(B, BETA, leads=True)
    ether.run(5.0)
    ether.show(ALPHA, records(A, ALPHA, leads=False))
    sent = ether.run(2.0)
    assert [r.ttl for r in answers([sent[0]]) if r.name == LEADER_HOST] == [0]
    assert any(r == address(LEADER_HOST, 2) and r.ttl and r.unique for r in answers(sent))
    assert not newcomer.rivals
    assert ether.holders(LEADER_HOST) == [BETA] and ether.holders(HOST) == [ALPHA]


def test_a_leader_that_falls_silent_loses_the_name_to_the_next_one(ether: Ether, leader: Responder) -> None:
    newcomer = ether.join(B, BETA, leads=True)
    ether.run(5.0)
    assert newcomer.rivals
    del ether.devices[ALPHA]
    ether.run(RETRY_S + 1.5)
    assert not newcomer.rivals and ether.holders(LEADER_HOST) == [BETA]


@pytest.mark.parametrize("chances", [(0.1, 0.9), (0.9, 0.1), (0.5, 0.5)])
def test_two_leaders_whose_networks_become_one_leave_the_name_to_one_of_them(chances: tuple[float, float]) -> None:
    one, other = Ether(), Ether()
    one.join(A, ALPHA, leads=True, chance=chances[0])
    other.join(B, BETA, leads=True, chance=chances[1])
    one.run(30.0)
    other.run(30.0)
    one.devices |= other.devices
    one.say(question(LEADER_HOST), STRANGER)  # the first that is heard of it: both answer
    one.run(6.0)
    assert len(one.holders(LEADER_HOST)) == 1
    assert sorted(len(each.rivals) for each in one.devices.values()) == [0, 1]


def test_a_device_that_goes_takes_everything_along(ether: Ether, leader: Responder) -> None:
    ether.show(ALPHA, Shown())
    sent = ether.run(30.0)
    gone = {(record.name, record.type) for record in answers(sent)}
    assert gone == {(HOST, 1), (INSTANCE, 33), (INSTANCE, 16), (LEADER_HOST, 1), (SERVICE, 12)}
    assert {record.ttl for record in answers(sent)} == {0}
    assert ether.holders(HOST) == []


def test_a_device_that_never_had_its_names_tells_nobody_to_forget_them(ether: Ether, leader: Responder) -> None:
    ether.join(A, BETA, leads=False)  # a copy of its disk, in another device
    ether.run(5.0)
    assert ether.devices[BETA].rivals
    ether.show(BETA, Shown())
    assert ether.run(1.0) == []


def test_a_new_address_is_told_at_once_and_replaces_the_old(ether: Ether, leader: Responder) -> None:
    ether.show(ALPHA, records(A, "10.0.0.77", leads=True))
    sent = ether.run(0.1)
    said = answers(sent)
    assert address(LEADER_HOST, 77) in said and address(HOST, 77) in said
    assert all(record.unique for record in said if isinstance(record, DNSAddress))
    assert address(LEADER_HOST, 1) not in said


def test_another_interface_of_the_same_device_on_the_same_network_is_no_rival(ether: Ether) -> None:
    for mine, other in ((ALPHA, BETA), (BETA, ALPHA)):
        ether.join(A, mine, leads=True, chance=0.2 if mine == ALPHA else 0.8)
        ether.show(mine, records(A, mine, leads=True), other)
    ether.run(30.0)
    assert not any(each.rivals for each in ether.devices.values())
    assert ether.holders(LEADER_HOST) == [ALPHA, BETA]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_who_asks_whether_the_name_is_free_hears_whose_it_is(ether: Ether, leader: Responder) -> None:
    """With a question of type ANY and the data it wants to hold."""
    ether.run(2.0)
    probe = question(LEADER_HOST, "ANY")
    ether.say(probe, STRANGER)
    (sent,) = ether.run(0.3)
    assert address(LEADER_HOST, 1) in sent.message.answers() and sent.to == ""


def test_a_kind_of_record_that_is_not_there_is_denied_at_once(ether: Ether, leader: Responder) -> None:
    ether.say(question(LEADER_HOST, "AAAA"), STRANGER)
    (sent,) = ether.run(1.0)
    (denied,) = [record for record in sent.message.answers() if isinstance(record, DNSNsec)]
    assert denied.rdtypes == [1] and denied.name == LEADER_HOST


def test_what_the_asker_knows_is_not_said_again(ether: Ether, leader: Responder) -> None:
    pointer = DNSPointer(SERVICE, 12, 1, 4500, INSTANCE)
    ether.say(question(SERVICE, "PTR", known=(pointer,)), STRANGER)
    assert ether.run(2.0) == []
    ether.say(question(SERVICE, "PTR", known=(with_ttl(pointer, 1000),)), STRANGER)
    assert pointer in answers(ether.run(2.0)), "it is about to forget"


def test_one_record_is_told_at_most_once_a_second(ether: Ether, leader: Responder) -> None:
    for number in range(50):
        ether.say(question(LEADER_HOST), f"10.0.0.{100 + number}")
        ether.run(0.1)
    sent = [each for each in ether.heard if each.sender == ALPHA and each.at > ether.now - 5.0]
    assert 4 <= len(sent) <= 6


def test_who_asks_for_an_answer_of_its_own_gets_one_unless_the_network_has_not_heard_it_for_long(
    ether: Ether, leader: Responder
) -> None:
    ether.say(question(LEADER_HOST, unicast=True), STRANGER)
    assert [each.to for each in ether.run(1.0)] == [""]
    ether.say(question(LEADER_HOST, unicast=True), STRANGER)
    assert [each.to for each in ether.run(1.0)] == [STRANGER]


def test_a_program_that_knows_no_mdns_is_answered_as_by_a_name_server(ether: Ether, leader: Responder) -> None:
    ether.say(question(LEADER_HOST, number=4711), STRANGER, port=40000)
    (sent,) = ether.run(1.0)
    assert sent.to == STRANGER and sent.message.id == 4711
    assert [each.name for each in sent.message.questions] == [LEADER_HOST]
    assert all(not record.unique and record.ttl <= 10 for record in sent.message.answers())


def test_who_is_not_on_this_network_gets_no_answer_of_its_own(ether: Ether, leader: Responder) -> None:
    ether.say(question(LEADER_HOST), "203.0.113.5", port=40000, near=False)
    assert ether.run(1.0) == []


# --- what anybody may send --------------------------------------------------------------------------------------------


def test_a_forged_goodbye_is_put_right(ether: Ether, leader: Responder) -> None:
    ether.say(response(address(LEADER_HOST, 1, ttl=0)), STRANGER)
    assert address(LEADER_HOST, 1) in answers(ether.run(1.0))


def test_an_answer_from_another_port_takes_no_name_away(ether: Ether, leader: Responder) -> None:
    ether.say(response(address(LEADER_HOST, 9)), STRANGER, port=40000)
    assert ether.run(1.0) == [] and ether.holders(LEADER_HOST) == [ALPHA]


def test_one_forged_answer_takes_no_name_away_for_long(ether: Ether, leader: Responder) -> None:
    ether.say(response(address(LEADER_HOST, 9)), STRANGER)
    ether.run(2.0)
    assert not leader.rivals and ether.holders(LEADER_HOST) == [ALPHA]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_packet_whatever_is_in_it_breaks_the_responder(data: st.DataObject) -> None:
    responder = Responder(A, random.Random(1).random)
    responder.show(records(A, ALPHA, leads=True), frozenset(), 0.0)
    now = 0.0
    for _ in range(40):
        now += 0.25
        responder.tick(now)
    whole = data.draw(
        st.sampled_from(
            [question(SERVICE, "ANY"), question(LEADER_HOST, "ANY", unicast=True), response(address(HOST, 9)), b""]
        )
    )
    mangled = bytearray(whole + data.draw(st.binary(max_size=64)))
    for at in data.draw(st.lists(st.integers(0, max(0, len(mangled) - 1)), max_size=6)):
        if mangled:
            mangled[at] = data.draw(st.integers(0, 255))
    source = Source(STRANGER, data.draw(st.sampled_from([5353, 40000])), near=True, own=False)
    for packet in responder.hear(bytes(mangled), source, now):
        assert len(packet.data) <= 1500
    responder.tick(now + 60.0)


def test_a_device_that_tells_nobody_of_itself_does_not_wait_for_the_package_that_would() -> None:
    imported = "import sys, agent.cluster.service; sys.exit('zeroconf' in sys.modules or 'ifaddr' in sys.modules)"
    subprocess.run([sys.executable, "-c", imported], check=True, timeout=60)
