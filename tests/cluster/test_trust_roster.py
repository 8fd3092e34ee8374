"""Rosters merge to the same one in any order, and hostile ones are refused; what is kept survives and is never torn."""

from __future__ import annotations

import copy
import itertools
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.trust.decision import Standpoint, decide, standpoint_from_json
from agent.cluster.trust.identity import Identity, TrustError
from agent.cluster.trust.roster import (
    MOST_ENTRIES,
    MOST_VERSION,
    STANDINGS,
    Entry,
    Roster,
    Standing,
    alone,
    roster_from_json,
)
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.store import TrustFileError
from agent.config import ConfigError
from agent.errors import NotFoundError

STACK = "0f0e0d0c-0b0a-0908-0706-050403020100"
KNOWN = [Identity(str(uuid.UUID(int=number)), Ed25519PrivateKey.generate()).known for number in range(4)]

entries = st.builds(
    Entry,
    st.just(KNOWN[0]),
    st.sampled_from(STANDINGS),
    st.integers(0, 3),
    st.sampled_from([k.device_id for k in KNOWN]),
)
rosters = st.builds(
    lambda of, locked, version: Roster(
        STACK,
        {
            known.fingerprint: Entry(known, entry.standing, entry.version, entry.by)
            for known, entry in zip(KNOWN, of, strict=True)
            if entry is not None
        },
        locked,
        version,
    ),
    st.lists(st.none() | entries, min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 3),
)


@given(rosters, rosters, rosters)
@settings(max_examples=80, deadline=None)
def test_rosters_merge_to_the_same_in_any_order_and_any_number_of_times(a: Roster, b: Roster, c: Roster) -> None:
    merged = {json.dumps(x.merged(y).merged(z).merged(y).to_json()) for x, y, z in itertools.permutations((a, b, c))}
    assert len(merged) == 1
    assert roster_from_json(json.loads(merged.pop())) == a.merged(b).merged(c)


def test_of_two_words_at_once_the_stricter_holds() -> None:
    base = Roster(STACK, {KNOWN[0].fingerprint: Entry(KNOWN[0], "forgotten", 1, KNOWN[1].device_id)})
    allowed = base.with_entry(KNOWN[0], "allowed", KNOWN[1].device_id)
    again = allowed.with_entry(KNOWN[0], "member", KNOWN[1].device_id)
    forgotten = allowed.with_entry(KNOWN[0], "forgotten", KNOWN[2].device_id)
    assert again.merged(forgotten).standing(KNOWN[0].fingerprint) == "forgotten"
    locked, unlocked = base.with_lock(True), base.with_lock(False)
    assert locked.merged(unlocked).locked and unlocked.merged(locked).locked
    assert not locked.with_lock(False).merged(locked).locked


def test_no_member_can_make_itself_impossible_to_forget() -> None:
    greedy = Roster(STACK, {KNOWN[0].fingerprint: Entry(KNOWN[0], "member", MOST_VERSION, KNOWN[0].device_id)})
    forgotten = greedy.with_entry(KNOWN[0], "forgotten", KNOWN[1].device_id)
    assert greedy.merged(forgotten).members == ()
    assert roster_from_json(json.loads(json.dumps(forgotten.to_json()))) == forgotten


def test_two_keys_under_one_id_are_both_not_believed() -> None:
    double = Identity(KNOWN[0].device_id, Ed25519PrivateKey.generate()).known
    roster = alone(KNOWN[0])
    other = Roster(roster.stack, {double.fingerprint: Entry(double, "member", 1, double.device_id)})
    assert roster.merged(other).members == ()
    with pytest.raises(TrustError, match="Another key"):
        roster.with_entry(double, "member", KNOWN[0].device_id)


def test_a_roster_has_an_end() -> None:
    roster = alone(KNOWN[0])
    for number in range(1, MOST_ENTRIES):
        known = Identity(str(uuid.UUID(int=number)), Ed25519PrivateKey.generate()).known
        roster = roster.with_entry(known, "member", KNOWN[0].device_id)
    with pytest.raises(TrustError, match="at most"):
        roster.with_entry(KNOWN[1], "member", KNOWN[0].device_id)
    assert len(json.dumps(roster.to_json())) < 60_000, "fits a document"


HOSTILE: list[Callable[[dict[str, Any]], object]] = [
    lambda body: None,
    lambda body: [body],
    lambda body: {**body, "more": 1},
    lambda body: body.pop("stack"),
    lambda body: body.update(stack="x"),
    lambda body: body.update(stack=STACK.upper()),
    lambda body: body.update(locked=1),
    lambda body: body.update(lock_version=-1),
    lambda body: body.update(lock_version=True),
    lambda body: body.update(entries={}),
    lambda body: body.update(absorbed=["x"]),
    lambda body: body.update(absorbed={}),
    lambda body: body.update(entries=body["entries"] * 2),
    lambda body: body.update(entries=body["entries"] * (MOST_ENTRIES + 1)),
    lambda body: body["entries"][0].update(standing="owner"),
    lambda body: body["entries"][0].update(standing=["member"]),
    lambda body: body["entries"][0].update(version=MOST_VERSION + 1),
    lambda body: body["entries"][0].update(version=1.5),
    lambda body: body["entries"][0].update(by="nobody"),
    lambda body: body["entries"][0].update(certificate=7),
    lambda body: body["entries"][0].update(certificate="!!!"),
    lambda body: body["entries"][0].update(certificate="AAAA"),
    lambda body: body["entries"][0].update(certificate=body["entries"][0]["certificate"][:-8] + "AAAAAAA="),
    lambda body: body["entries"][0].update(certificate="A" * 4096),
]


@pytest.mark.parametrize("spoil", HOSTILE)
def test_what_is_no_roster_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    good = json.loads(json.dumps(alone(KNOWN[0]).to_json()))
    assert roster_from_json(good).members == (KNOWN[0],)
    body = copy.deepcopy(good)
    spoilt = spoil(body)
    for each in (body, spoilt):
        if each != good:
            with pytest.raises(TrustError):
                roster_from_json(each)


def test_a_document_of_a_stranger_or_a_forger_or_a_forgotten_one_is_refused(tmp_path: Path) -> None:
    a, b, stranger = (_service(tmp_path / name) for name in ("a", "b", "stranger"))
    a.enter(b.admit(a.identity.known), b.identity.known)
    before = a.roster()
    forged = b.document().replace(b'"locked":false', b'"locked":true')
    assert forged != b.document()
    for document in (stranger.document(), forged, b"", b"x" * 100, b"\0" * 70000, b.document()[:200]):
        with pytest.raises(TrustError):
            a.take(document)
    assert a.roster() == before and not a.take(b.document())
    a.forget(b.device_id)
    with pytest.raises(TrustError, match="no member"):
        a.take(b.document())


def test_a_device_that_learns_that_it_was_forgotten_begins_a_stack_of_its_own(tmp_path: Path) -> None:
    a, b, c = (_service(tmp_path / name) for name in "abc")
    for newcomer in (b, c):
        newcomer.enter(a.admit(newcomer.identity.known), a.identity.known)
    b.take(a.document())
    a.forget(c.device_id)
    c.take(a.document())
    assert [each.device_id for each in c.roster().members] == [c.device_id]
    assert c.roster().stack != a.roster().stack


def test_all_is_there_after_a_restart_and_seen_by_others_at_once(tmp_path: Path) -> None:
    a, b = _service(tmp_path / "a"), _service(tmp_path / "b")
    a.enter(b.admit(a.identity.known), b.identity.known)
    again = TrustService(tmp_path / "a", a.device_id)
    assert again.fingerprint == a.fingerprint and again.roster() == a.roster() == b.roster()
    told: list[bool] = []
    again.on_change(lambda: told.append(True))
    again.lock(True)
    assert a.roster().locked and told == [True]
    again.lock(True)
    assert told == [True], "no change, no word"
    with pytest.raises(TrustError):
        a.forget(a.device_id)
    with pytest.raises(NotFoundError):
        a.forget("")


def test_broken_files_are_said_and_never_taken_for_a_new_device(tmp_path: Path) -> None:
    service = _service(tmp_path)
    kept = (tmp_path / "trust.json").read_bytes()
    for damage in (b"", b"{", b"[]", b"{}", kept[:-20], kept.replace(b'"incarnation": 0', b'"incarnation": -1')):
        (tmp_path / "trust.json").write_bytes(damage)
        with pytest.raises(TrustFileError):
            _service(tmp_path)
        assert (tmp_path / "trust.json").read_bytes() == damage
    (tmp_path / "trust.json").write_bytes(kept)
    assert service.roster().members
    (tmp_path / "identity.key").write_text("no key")
    with pytest.raises(ConfigError, match=r"identity\.key"):
        _service(tmp_path)


def test_both_sides_decide_the_same_and_only_one_of_them_enters() -> None:
    others: tuple[Standing | str, ...] = ("unknown", "allowed", "member", "forgotten")
    stands = [
        Standpoint(stack, members, locked, other)
        for stack in (str(uuid.UUID(int=1)), str(uuid.UUID(int=2)))
        for members in (1, 2, 3)
        for locked in (False, True)
        for other in others
    ]
    fits = {"host": "enter", "enter": "host", "same": "same", "no": "no"}

    def decided(mine: Standpoint, theirs: Standpoint) -> str:
        try:
            return decide(mine, theirs)
        except TrustError:
            return "no"

    for mine, theirs in itertools.product(stands, stands):
        decision = decided(mine, theirs)
        assert decided(theirs, mine) == fits[decision]
        if decision == "enter":
            assert not mine.locked and not theirs.locked and (mine.members == 1 or mine.stack > theirs.stack)
    assert standpoint_from_json(stands[0].to_json()) == stands[0]
    for bad in (None, {}, {**stands[0].to_json(), "members": 0}, {**stands[0].to_json(), "other": []}, {"stack": 1}):
        with pytest.raises(TrustError):
            standpoint_from_json(bad)


def _service(folder: Path) -> TrustService:
    folder.mkdir(exist_ok=True)
    ids = folder / "test.id"
    if not ids.exists():
        ids.write_text(str(uuid.uuid4()))
    return TrustService(folder, ids.read_text())
