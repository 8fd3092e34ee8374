"""Two devices that touch: who comes to trust whom, and who never does. Real sockets, all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trusting_device import Device, devices, together

from agent.cluster.link.frames import LinkError
from agent.cluster.trust.identity import Credentials, Identity, TrustError
from agent.cluster.trust.touch import meet

Make = Callable[..., Device]
KNOWN = Identity("5c2fb1a4-52a5-4d38-a8b5-6c6a4a4de7d5", Ed25519PrivateKey.generate()).known


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with devices(tmp_path) as made:
        yield made


class StolenIdentity(Identity):
    """Names another device's key, and can prove its own alone."""

    def __init__(self, own: Identity, victim: Identity, leaked: Credentials | None = None) -> None:
        self.known, self._credentials = victim.known, leaked or own.own_credentials()

    def own_credentials(self) -> Credentials:
        return self._credentials


def shows_certificate_of(thief: Device, victim: Device) -> None:
    thief.trust.identity = StolenIdentity(thief.trust.identity, victim.trust.identity)


def strangers(*those: Device) -> bool:
    """Nobody has come to trust anybody."""
    return all(device.members() == {device.id} for device in those)


def test_two_devices_that_touch_are_one_stack(make: Make) -> None:
    a, b = make("a"), make("b")
    assert a.touch(b).device_id == b.id
    assert a.members() == b.members() == {a.id, b.id}
    assert a.trust.roster().stack == b.trust.roster().stack == min(a.trust.roster().stack, b.trust.roster().stack)
    assert a.ask(b) == {"to": a.id, "said": {"say": "hello"}} and b.ask(a)["to"] == b.id


@pytest.mark.parametrize("reader", ["newcomer", "member"])
@pytest.mark.parametrize("through", [0, 1])
def test_a_third_joins_through_either_and_from_either_side(make: Make, through: int, reader: str) -> None:
    a, b, c = make("a"), make("b"), make("c")
    a.touch(b)
    stack, host = a.trust.roster().stack, (a, b)[through]
    host.worn.spent_by = ""
    host.touch(c) if reader == "member" else c.touch(host)
    assert c.members() == host.members() == {a.id, b.id, c.id} and c.trust.roster().stack == stack
    other = (b, a)[through]
    assert other.trust.take(host.trust.document()) and other.members() == c.members()
    assert c.ask(other)["to"] == c.id


def test_a_touch_that_is_repeated_changes_nothing_and_tells_what_is_new(make: Make) -> None:
    a, b, c = make("a"), make("b"), make("c")
    a.touch(b)
    b.worn.spent_by = ""
    b.touch(c)
    assert c.id not in a.members()
    before = b.trust.roster()
    a.touch(b)
    assert b.trust.roster() == before == a.trust.roster()


def test_a_stranger_who_never_read_the_tag_gets_nowhere(make: Make) -> None:
    victim, stranger = make("victim"), make("stranger")
    with pytest.raises(TrustError, match="has not read this device's tag"):
        stranger.touch(victim, victim.record(boot_nonce="00" * 16))
    assert strangers(victim, stranger)
    with pytest.raises(TrustError):
        stranger.links.connect(victim.id, victim.address)


def test_a_tag_of_an_earlier_start_or_an_earlier_touch_gets_nowhere(make: Make) -> None:
    victim, stranger = make("victim"), make("stranger")
    earlier = victim.record()
    victim.worn.written = "ab" * 16
    with pytest.raises(TrustError, match="has not read this device's tag as it is now"):
        stranger.touch(victim, earlier)
    assert strangers(victim, stranger)


def test_a_copied_tag_gets_nowhere_for_its_wearer_has_not_the_key(make: Make) -> None:
    reader, original, thief = make("reader"), make("original"), make("thief")
    copied = replace(original.record(), boot_nonce=thief.worn.nonce())
    with pytest.raises(TrustError, match="not who the tag names"):
        meet(reader.trust, copied, reader.worn.nonce(), thief.address, lambda: True)
    assert strangers(reader, original, thief)


def test_a_copied_tag_whose_wearer_shows_the_certificate_too_fails_at_its_proof(make: Make) -> None:
    """The certificate is no secret: the thief has it. What it does not have is the key."""
    reader, original, thief = make("reader"), make("original"), make("thief")
    shows_certificate_of(thief, original)
    copied = replace(original.record(), boot_nonce=thief.worn.nonce())
    with pytest.raises(LinkError):
        meet(reader.trust, copied, reader.worn.nonce(), thief.address, lambda: True)
    assert strangers(reader, original)


def test_one_who_shows_a_reader_s_certificate_without_its_key_fails_at_the_proof(make: Make) -> None:
    a, member, thief = make("a"), make("member"), make("thief")
    shows_certificate_of(thief, member)
    with pytest.raises(LinkError):
        thief.touch(a)
    assert strangers(a, member)


def test_nothing_enters_while_nothing_touches(make: Make) -> None:
    a, b = make("a"), make("b")
    b.worn.touched = False
    with pytest.raises(TrustError, match="nothing touches it"):
        a.touch(b)
    b.worn.touched = True
    with pytest.raises(TrustError, match="touches the reader"):
        a.touch(b, closed=False)
    assert strangers(a, b)


def test_one_touch_lets_one_device_in(make: Make) -> None:
    a, b, thief = make("a"), make("b"), make("thief")
    read = b.record()
    a.touch(b)
    with pytest.raises(TrustError, match="spent"):
        thief.touch(b, read)
    assert b.members() == {a.id, b.id}


def test_a_locked_stack_takes_nobody_in_and_a_locked_device_enters_nothing(make: Make) -> None:
    a, b, newcomer = make("a"), make("b"), make("newcomer")
    a.touch(b)
    b.worn.spent_by = ""
    a.trust.lock(True)
    b.trust.take(a.trust.document())
    for lower, upper in ((newcomer, b), (a, newcomer)):
        with pytest.raises(TrustError, match="locked"):
            lower.touch(upper)
    assert strangers(newcomer) and a.members() == b.members() == {a.id, b.id}
    a.touch(b)  # members are no newcomers
    a.trust.lock(False)
    newcomer.trust.lock(True)
    with pytest.raises(TrustError, match="locked"):
        a.touch(newcomer)
    newcomer.trust.lock(False)
    a.touch(newcomer)
    assert newcomer.members() == {a.id, b.id, newcomer.id}


@pytest.mark.parametrize("locked", [0, 1])
def test_a_member_of_another_stack_gets_nowhere_where_one_of_them_is_locked(make: Make, locked: int) -> None:
    a, b, c, d = make("a"), make("b"), make("c"), make("d")
    together(a, b)
    together(c, d)
    b.worn.spent_by = c.worn.spent_by = ""
    (b, c)[locked].trust.lock(True)
    for lower, upper in ((b, c), (c, b)):
        with pytest.raises(TrustError, match="locked"):
            lower.touch(upper)
        with pytest.raises(TrustError):
            lower.links.connect(upper.id, upper.address)
    assert b.members() == {a.id, b.id} and c.members() == {c.id, d.id}


@pytest.mark.parametrize("reader", ["b", "c"])
def test_two_stacks_that_touch_are_one_and_who_was_not_there_follows(make: Make, reader: str) -> None:
    """As when four modules get their power at once: each pair may settle before the pairs meet."""
    a, b, c, d = make("a"), make("b"), make("c"), make("d")
    together(a, b)
    together(c, d)
    b.worn.spent_by = c.worn.spent_by = ""
    before = {each.trust.roster().stack for each in (b, c)}
    b.touch(c) if reader == "b" else c.touch(b)
    everybody = {a.id, b.id, c.id, d.id}
    assert b.members() == c.members() == everybody
    for _ in range(2):
        for away, teller in ((a, b), (d, c)):
            away.trust.take(teller.trust.document())
            teller.trust.take(away.trust.document())
    rosters = [each.trust.roster() for each in (a, b, c, d)]
    assert rosters[0] == rosters[1] == rosters[2] == rosters[3] and rosters[0].stack == min(before)
    assert a.members() == everybody and a.ask(d)["to"] == a.id


def test_who_is_forgotten_by_one_of_two_stacks_is_so_in_both_and_a_locked_member_does_not_follow(make: Make) -> None:
    a, b, c, d = make("a"), make("b"), make("c"), make("d")
    together(a, b)
    b.worn.spent_by = ""
    c.touch(d)
    for host in (a, c):  # each stack knows one that is away, and one of them forgot it
        host.trust.admit(KNOWN)
    c.trust.forget(KNOWN.device_id)
    c.worn.spent_by = ""
    b.trust.take(a.trust.document())
    a.trust.lock(True)
    b.touch(c)
    assert b.trust.roster().standing(KNOWN.fingerprint) == "forgotten"
    if b.trust.roster().stack != a.trust.roster().stack:
        with pytest.raises(TrustError, match="locked"):
            a.trust.take(b.trust.document())
        a.trust.lock(False)
    a.trust.take(b.trust.document())
    assert a.trust.roster().standing(KNOWN.fingerprint) == "forgotten" and c.id in a.members()


def test_a_key_of_a_link_is_no_identity(make: Make) -> None:
    """Whoever gets hold of the key of a link certificate has it for a day, and cannot touch with it."""
    a, victim, thief = make("a"), make("victim"), make("thief")
    leaked = victim.trust.link_credentials()
    thief.trust.identity = StolenIdentity(thief.trust.identity, victim.trust.identity, leaked)
    with pytest.raises(LinkError):
        thief.touch(a)
    assert strangers(a)


def test_a_forgotten_device_does_not_come_back_by_touch_until_it_is_allowed(make: Make) -> None:
    a, b = make("a"), make("b")
    a.touch(b)
    a.trust.forget(b.id)
    for lower, upper in ((a, b), (b, a)):
        with pytest.raises(TrustError, match="forg"):
            lower.touch(upper)
    assert a.members() == {a.id}
    a.trust.allow(b.trust.fingerprint[:12])
    a.worn.spent_by = b.worn.spent_by = ""
    a.touch(b)
    assert a.members() == b.members() == {a.id, b.id}


def test_a_new_key_under_the_id_of_a_member_gets_nowhere(make: Make) -> None:
    a, b = make("a"), make("b")
    a.touch(b)
    double = make("double", device_id=b.id)
    with pytest.raises(LinkError):  # it refuses after the proof, while it takes the newcomer in
        double.touch(a)
    assert a.trust.roster().member(b.id) == b.trust.identity.known and strangers(double)


def test_a_handshake_that_was_cut_after_the_admission_ends_well_when_it_is_repeated(make: Make) -> None:
    a, b = make("a"), make("b")
    host, newcomer = sorted((a, b), key=lambda device: device.trust.roster().stack)
    newcomer.trust.enter(host.trust.proposal(newcomer.trust.identity.known), host.trust.identity.known)  # power cut
    host.touch(newcomer)
    assert host.members() == newcomer.members() == {a.id, b.id}


def test_no_private_key_and_no_nonce_of_a_tag_is_in_a_log_or_a_readable_file(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    a, b = make("a"), make("b")
    a.touch(b)
    a.ask(b)
    key = (a.folder / "identity.key").read_text().splitlines()[1]
    assert key not in caplog.text and b.worn.written not in caplog.text
    for file in a.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert key not in file.read_text() or file.name == "identity.key"
    shown = repr(a.trust.identity) + repr(a.trust.identity.known) + repr(a.trust.link_credentials())
    assert key not in shown and "PRIVATE" not in shown
