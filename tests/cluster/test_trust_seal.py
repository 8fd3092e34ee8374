"""Sealed datagrams: what a member says is heard once, and nothing else is heard at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trusting_device import Device, devices

from agent.cluster.trust.seal import OLDEST_S, OVERHEAD_BYTES, PAYLOAD_BYTES, TrustSeal

Make = Callable[..., Device]


class WallClock:
    """A clock that the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with devices(tmp_path) as made:
        yield made


@pytest.fixture
def pair(make: Make) -> tuple[Device, Device]:
    a, b = make("a"), make("b")
    a.touch(b)
    return a, b


def test_what_a_member_seals_the_others_open_once(pair: tuple[Device, Device]) -> None:
    a, b = pair
    ours, theirs = a.trust.new_seal(), b.trust.new_seal()
    datagram = ours.seal(b"I am here")
    assert len(datagram) == len(b"I am here") + OVERHEAD_BYTES
    assert theirs.open(datagram) == (a.id, b"I am here")
    assert theirs.open(datagram) is None, "a replay"
    assert ours.open(datagram) is None, "our own word"
    assert theirs.open(ours.seal(b"x" * PAYLOAD_BYTES)) == (a.id, b"x" * PAYLOAD_BYTES)
    with pytest.raises(ValueError, match="too many"):
        ours.seal(b"x" * (PAYLOAD_BYTES + 1))


def test_no_bit_of_a_datagram_can_be_changed(pair: tuple[Device, Device]) -> None:
    a, b = pair
    theirs, datagram = b.trust.new_seal(), a.trust.new_seal().seal(b"watts 12")
    for bit in range(len(datagram) * 8):
        forged = bytearray(datagram)
        forged[bit // 8] ^= 1 << bit % 8
        assert theirs.open(bytes(forged)) is None, f"bit {bit}"
    for length in range(len(datagram)):
        assert theirs.open(datagram[:length]) is None
    assert theirs.open(datagram + b"\0") is None and theirs.open(b"\xff" * 65000) is None
    assert theirs.open(datagram) == (a.id, b"watts 12"), "what was forged spoiled nothing"


def test_a_stranger_and_a_member_of_another_stack_are_not_heard(make: Make, pair: tuple[Device, Device]) -> None:
    _, b = pair
    c, d = make("c"), make("d")
    c.touch(d)
    assert b.trust.new_seal().open(c.trust.new_seal().seal(b"beacon")) is None


def test_a_word_for_one_stack_is_no_word_for_another_with_the_same_member(make: Make) -> None:
    a, b = make("a"), make("b")
    a.touch(b)
    recorded = a.trust.new_seal().seal(b"beacon")
    a.trust.leave()
    b.trust.leave()
    b.worn.spent_by = ""
    a.touch(b)
    assert b.trust.new_seal().open(recorded) is None


def test_a_forgotten_member_is_not_heard_from_that_moment(pair: tuple[Device, Device]) -> None:
    a, b = pair
    ours, theirs = a.trust.new_seal(), b.trust.new_seal()
    assert theirs.open(ours.seal(b"1")) is not None
    b.trust.forget(a.id)
    assert theirs.open(ours.seal(b"2")) is None


def test_datagrams_may_overtake_one_another_but_not_by_much(pair: tuple[Device, Device]) -> None:
    a, b = pair
    ours, theirs = a.trust.new_seal(), b.trust.new_seal()
    sent = [ours.seal(b"%d" % number) for number in range(70)]
    opened = [number for number in (3, 1, 2, 1, 69, 68, 6, 5, 68) if theirs.open(sent[number])]
    assert opened == [3, 1, 2, 69, 68, 6]


def test_what_an_earlier_start_said_is_not_heard_after_a_word_of_the_later_one(pair: tuple[Device, Device]) -> None:
    a, b = pair
    first, theirs = a.trust.new_seal(), b.trust.new_seal()
    early = [first.seal(b"early") for _ in range(3)]
    assert theirs.open(early[0]) is not None
    second = a.trust.new_seal()
    assert second.incarnation > first.incarnation
    assert theirs.open(second.seal(b"late")) is not None
    assert theirs.open(early[2]) is None


def test_the_incarnation_grows_even_where_the_clock_went_back(tmp_path: Path) -> None:
    clock, seals = WallClock(2e9), list[TrustSeal]()
    for now in (2e9, 0.0, 0.0):
        clock.now = now
        with devices(tmp_path) as make:
            seals.append(make("a", wall=clock, device_id="5c2fb1a4-52a5-4d38-a8b5-6c6a4a4de7d5").trust.new_seal())
    assert seals[0].incarnation < seals[1].incarnation < seals[2].incarnation


def test_a_recording_is_not_heard_by_one_who_has_just_started(make: Make) -> None:
    clock = WallClock(1.8e9)
    a, b = make("a", wall=clock), make("b", wall=clock)
    a.touch(b)
    recorded = a.trust.new_seal().seal(b"beacon")
    clock.now += OLDEST_S - 1
    assert b.trust.new_seal().open(recorded) is not None
    clock.now += 2
    assert b.trust.new_seal().open(recorded) is None


def test_a_device_without_a_clock_is_in_the_present_when_it_has_heard_one_member(make: Make) -> None:
    a, b = make("a", wall=WallClock(1.8e9)), make("b", wall=WallClock(0.0))
    a.touch(b)
    ours, theirs = a.trust.new_seal(), b.trust.new_seal()
    assert ours.open(theirs.seal(b"from 1970")) is None
    assert theirs.open(ours.seal(b"from today")) == (a.id, b"from today")
    assert b.trust.clock.now() >= a.trust.clock.now() - 5
    assert ours.open(theirs.seal(b"now I know")) == (b.id, b"now I know")


def test_a_signature_for_a_seal_is_none_for_a_document(pair: tuple[Device, Device]) -> None:
    a, b = pair
    signature = a.trust.sign(b"the names of the stack")
    assert b.trust.verify(a.id, b"the names of the stack", signature)
    assert not b.trust.verify(a.id, b"other names", signature)
    assert not b.trust.verify(b.id, b"the names of the stack", signature)
    assert not b.trust.verify(a.id, b"the names of the stack", b"")
    datagram = a.trust.new_seal().seal(b"the names of the stack")
    assert not b.trust.verify(a.id, datagram[:-64], datagram[-64:])
    b.trust.forget(a.id)
    assert not b.trust.verify(a.id, b"the names of the stack", signature)
