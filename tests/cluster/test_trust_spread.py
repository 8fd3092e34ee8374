"""What one member learns of trust, all know soon; what a stranger says of it, nobody takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from trusting_device import Device, devices

from agent.cluster.link.frames import Json, LinkError
from agent.cluster.trust.identity import TrustError
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.spread import PURPOSE, TrustSpread


class Telling:
    """Devices that know each other's addresses and tell one another."""

    def __init__(self, make: Callable[..., Device]) -> None:
        self.all = {name: make(name) for name in "abc"}
        self.spread = {
            name: TrustSpread(device.trust, device.links.connect, self._addresses) for name, device in self.all.items()
        }
        for name, device in self.all.items():
            device.answer = partial(self._asked, name)

    def start(self) -> None:
        for each in self.spread.values():
            each.start()

    def until(self, wanted: Callable[[], bool]) -> None:
        ends = time.monotonic() + 15.0
        while not wanted():
            assert time.monotonic() < ends, "it never came so"
            time.sleep(0.01)

    def _asked(self, name: str, asker: str, body: Json) -> Json:
        return self.spread[name].answer(asker, body[PURPOSE])

    def _addresses(self) -> dict[str, tuple[str, int]]:
        return {device.id: device.address for device in self.all.values()}


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Telling]:
    with devices(tmp_path) as make:
        made = Telling(make)
        yield made
        for each in made.spread.values():
            each.close()


def test_a_newcomer_a_lock_and_a_forgotten_device_are_known_to_all(telling: Telling) -> None:
    a, b, c = telling.all.values()
    telling.start()
    a.touch(b)
    b.worn.spent_by = ""
    b.touch(c)
    telling.until(lambda: a.members() == b.members() == c.members() == {a.id, b.id, c.id})
    TrustService(c.folder, c.id).lock(True)  # by the command, in another process
    telling.until(lambda: a.trust.roster().locked and b.trust.roster().locked)
    a.trust.forget(c.id)
    telling.until(lambda: b.members() == {a.id, b.id})
    for one, other in ((b, c), (c, b)):
        with pytest.raises((LinkError, TrustError)):
            one.links.connect(other.id, other.address)


def test_a_member_that_was_away_is_told_when_it_is_back(telling: Telling) -> None:
    a, b, c = telling.all.values()
    a.touch(b)
    b.worn.spent_by = ""
    b.touch(c)
    address, a.address = a.address, ("127.0.0.1", 1)
    telling.spread["b"].look(0.0)
    assert c.id not in a.members()
    a.address = address
    telling.spread["b"].look(1.0)
    assert c.id not in a.members(), "not at once again"
    telling.spread["b"].look(10.0)
    assert a.members() == {a.id, b.id, c.id}


@pytest.mark.parametrize("said", [{}, {"trust": 7}, {"trust": "!"}, {"trust": "AAAA"}, {"trust": "QUJD" * 30000}])
def test_what_no_member_signed_is_told_so_and_changes_nothing(telling: Telling, said: Json) -> None:
    a, b, _ = telling.all.values()
    a.touch(b)
    before = b.trust.roster()
    connection = a.links.connect(b.id, b.address)
    with pytest.raises(LinkError):
        connection.request({"trust": None, **said})
    connection.close()
    assert b.trust.roster() == before


def test_two_stacks_that_went_up_in_one_another_at_once_agree_on_the_lower_one(telling: Telling) -> None:
    a, b, c = telling.all.values()
    c.trust.enter(a.trust.proposal(c.trust.identity.known), a.trust.identity.known)
    a.trust.admit(c.trust.identity.known)
    stacks = {a.trust.roster().stack, b.trust.roster().stack}
    of_a, of_b = a.trust.roster(), b.trust.roster()
    a.trust.admit(b.trust.identity.known, of_b)
    b.trust.admit(a.trust.identity.known, of_a)
    said = {device: device.trust.document() for device in (a, b)}
    a.trust.take(said[b])
    b.trust.take(said[a])
    assert a.trust.roster().stack == b.trust.roster().stack == min(stacks)
    c.trust.take(a.trust.document())
    assert c.trust.roster().stack == min(stacks)
