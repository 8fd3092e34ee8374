"""Shared documents converge whatever the order, repetition and path of delivery, and refuse what is hostile."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cluster.documents import documents as module
from agent.cluster.documents.document import MOST_VALUE, Document, to_json
from agent.cluster.documents.documents import BELIEVABLE_MS, FUTURE_MS, Documents
from agent.errors import NoRoomError, RequestError

NOW_MS = BELIEVABLE_MS + 10**9
QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Notary:
    """Signatures of all nodes of a test; who is not ``known`` has none that counts."""

    def __init__(self, node: str, known: set[str]) -> None:
        self.node, self.known = node, known

    def sign(self, data: bytes) -> bytes:
        return hashlib.sha256(self.node.encode() + data).digest()

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        return node in self.known and signature == hashlib.sha256(node.encode() + data).digest()


class Wall:
    def __init__(self, ms: int = NOW_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


def three(skews: tuple[int, int, int] = (0, 0, 0)) -> tuple[list[Documents], list[Wall]]:
    names = ["a", "b", "c"]
    walls = [Wall(NOW_MS + skew) for skew in skews]
    return [Documents(name, Notary(name, set(names)), wall) for name, wall in zip(names, walls, strict=True)], walls


def pull(here: Documents, there: Documents) -> None:
    """As over the link: hash, summary, differences, JSON."""
    if here.digest == there.digest:
        return
    offered = there.offered(here.wanted(there.summary()))
    merged = here.merge_json(json.loads(json.dumps([to_json(each) for each in offered])))
    assert not merged.refused


def test_the_last_writer_wins_on_every_node() -> None:
    (a, b, _), (wall, _, _) = three()
    a.put("config", "per-key", 10)
    wall.ms += 5
    a.put("config", "per-key", 20)
    pull(b, a)
    assert b.get("config", "per-key") == 20
    b.put("config", "per-key", 30)  # its clock is behind, and yet it comes after what it has seen
    pull(a, b)
    assert a.get("config", "per-key") == 30
    assert a.digest == b.digest


def test_a_deletion_wins_over_a_value_of_the_same_time() -> None:
    for node, other in (("a", "b"), ("b", "a")):
        deleted = _document(node, None)
        kept = _document(other, "1")
        for order in permutations([deleted, kept]):
            (a, _, _), _ = three()
            a.merge(order)
            assert a.get("key", "k") is None


def test_a_deleted_key_is_not_brought_back_by_an_old_copy() -> None:
    (a, b, c), _ = three()
    a.put("key", "k1", {"hash": "..."})
    pull(b, a)
    a.delete("key", "k1")
    pull(c, a)
    pull(c, b)
    assert c.of("key") == {}
    pull(b, c)
    assert b.of("key") == {}


@QUICK
@given(
    writes=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["x", "y"]),
            st.sampled_from([None, 1, 2]),
            st.integers(0, 2),
            st.booleans(),
        ),
        max_size=12,
    ),
    data=st.data(),
)
def test_any_order_of_delivery_ends_in_the_same_state(
    writes: list[tuple[int, str, int | None, int, bool]], data: st.DataObject
) -> None:
    nodes, walls = three((0, -2, 3))
    said: list[Document] = []
    for who, key, value, later, listens in writes:
        walls[who].ms += later
        if listens:
            nodes[who].merge(said)
        node = nodes[who]
        said.append(node.delete("config", key) if value is None else node.put("config", key, value))
    digests = set()
    for number in range(3):
        order = data.draw(st.permutations(said + said[: number + 1]))
        (fresh, other, _), _ = three()
        fresh.merge(order[: len(order) // 2])
        other.merge(order[len(order) // 2 :])
        pull(fresh, other)
        digests.add((fresh.digest, json.dumps(dict(sorted(fresh.of("config").items())))))
    assert len(digests) == 1
    for here in nodes:
        for there in nodes:
            pull(here, there)
    pull(nodes[0], nodes[2])
    pull(nodes[1], nodes[0])
    assert {each.digest for each in nodes} == {digests.pop()[0]}


def test_merging_twice_is_merging_once() -> None:
    (a, b, _), _ = three()
    said = [a.put("name", "node-1", "left"), a.put("name", "node-2", "right")]
    assert len(b.merge(said).accepted) == 2
    before = b.digest
    assert b.merge(said) == module.Merged((), ())
    assert b.digest == before


def _document(node: str, value: str | None, wall_ms: int = NOW_MS, key: str = "k", kind: str = "key") -> Document:
    document = Document(kind, key, value, wall_ms, 0, node, b"")
    return replace(document, signature=Notary(node, set()).sign(document.signed))


HOSTILE: dict[str, Document] = {
    "a wrong signature": replace(_document("b", "1"), signature=b"x" * 64),
    "another value than was signed": replace(_document("b", "1"), value="2"),
    "another author than signed": replace(_document("b", "1"), node="c"),
    "a later time than was signed": replace(_document("b", "1"), wall_ms=NOW_MS + 1),
    "a deletion made of a value": replace(_document("b", "1"), value=None),
    "an unknown node": _document("stranger", "1"),
    "far in the future": _document("b", "1", NOW_MS + FUTURE_MS + 1),
    "after the year 2100": _document("b", "1", 2**60),
    "before all time": _document("b", "1", -1),
    "too large": _document("b", '"' + "x" * MOST_VALUE + '"'),
    "of an unknown kind": _document("b", "1", kind="secret"),
    "a key without end": _document("b", "1", key="k" * 257),
    "a key that is empty": _document("b", "1", key=""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_and_changes_nothing(name: str) -> None:
    (a, _, _), _ = three()
    a.put("key", "mine", 1)
    before = a.digest
    merged = a.merge([HOSTILE[name], _document("b", "7", key="honest")])
    assert len(merged.refused) == 1
    assert [each.key for each in merged.accepted] == ["honest"]
    assert a.of("key") == {"mine": 1, "honest": 7}
    assert a.digest != before


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {},
        "x",
        [None],
        [[]],
        [["key"] * 7],
        [["key", "k", "{", 1, 1, "b", ""]],
        [["key", "k", "1", True, 1, "b", ""]],
    ],
)
def test_what_is_no_document_is_refused(rows: object) -> None:
    (a, _, _), _ = three()
    merged = a.merge_json(rows)
    assert merged.refused
    assert not merged.accepted
    assert a.summary() == {}


def test_a_device_whose_clock_was_never_set_takes_what_the_others_say_and_writes_after_it() -> None:
    (a, b, _), walls = three()
    walls[0].ms = 1000
    b.put("name", "n", "theirs")
    pull(a, b)
    assert a.get("name", "n") == "theirs"
    a.put("name", "n", "mine")
    pull(b, a)
    assert b.get("name", "n") == "mine"


def test_what_a_forgotten_node_wrote_is_signed_anew_and_stays_the_same() -> None:
    names = {"a", "b"}
    a, b = (Documents(name, Notary(name, names), Wall()) for name in "ab")
    b.put("name", "n", "theirs")
    b.delete("name", "gone")
    pull(a, b)
    a.put("name", "mine", 1)
    before = a.digest
    assert a.adopt() == ()
    names.remove("b")
    assert {(each.key, each.node) for each in a.adopt()} == {("n", "a"), ("gone", "a")}
    assert a.digest == before, "nobody has anything to pull for it"
    newcomer = Documents("c", Notary("c", {"a", "c"}), Wall())
    pull(newcomer, a)
    assert newcomer.digest == before


def test_what_a_node_says_of_itself_nobody_else_says_and_it_goes_with_the_node() -> None:
    (a, b, c), _ = three()
    b.put("model", "b/llama", {"bytes": 1})
    with pytest.raises(RequestError, match="of another device"):
        a.put("model", "b/llama", {"bytes": 2})
    forged = _document("c", "2", NOW_MS + 5, key="b/llama", kind="model")
    assert "of another device" in a.merge([forged]).refused[0]
    pull(a, b)
    pull(c, b)
    for node in (a, c):
        node._signer.known.discard("b")  # type: ignore[attr-defined]
        before = node.copy()
        assert node.adopt() == () and node.of("model") == {} and node.digest == ""
        assert node.changed_since(before) == {"model"} and node.revision > before.revision


def test_what_was_deleted_meanwhile_stays_deleted_when_its_old_copy_is_adopted() -> None:
    (a, b, c), walls = three()
    c.put("key", "k", 1)
    pull(a, c)
    pull(b, c)
    walls[1].ms -= 1000  # its clock is behind: only the order tells
    b.delete("key", "k")
    walls[0].ms += 10**6
    a._signer.known.discard("c")  # type: ignore[attr-defined]
    assert len(a.adopt()) == 1
    pull(b, a)
    pull(a, b)
    assert a.of("key") == b.of("key") == {}


def test_documents_come_back_from_the_disk_whatever_the_clock_says_then() -> None:
    (a, _, _), _ = three()
    a.put("config", "c", [1])
    a.delete("config", "d")
    again = Documents("a", Notary("a", set()), Wall(BELIEVABLE_MS))
    assert again.restore(json.loads(json.dumps(a.to_json()))) == ()
    assert again.digest == a.digest
    assert again.put("config", "c", [2]).wall_ms >= NOW_MS


@pytest.mark.parametrize("rows", [None, {}, [None], [["key"] * 7], 3])
def test_what_is_damaged_on_the_disk_is_told_and_the_rest_comes_back(rows: object) -> None:
    (a, _, _), _ = three()
    a.put("config", "c", [1])
    again = Documents("a", Notary("a", set()), Wall())
    assert again.restore([*a.to_json(), *rows] if isinstance(rows, list) else rows)
    assert again.of("config") == ({"c": [1]} if isinstance(rows, list) else {})


def test_a_copy_is_changed_alone_and_tells_what_is_another_since() -> None:
    (a, _, _), _ = three()
    a.put("config", "c", 1)
    a.put("config", "d", 1)
    other = a.copy()
    other.put("config", "c", 2)
    other.delete("config", "e")
    assert a.of("config") == {"c": 1, "d": 1}
    other.put("name", "n", 1)
    assert other.changed_since(a) == a.changed_since(other) == {"config", "name"} and a.changed_since(a.copy()) == set()
    assert other.knows("config", "e") and not a.knows("config", "e")


def test_what_cannot_be_shared_is_refused_with_the_reason() -> None:
    (a, _, _), _ = three()
    with pytest.raises(RequestError):
        a.put("config", "c", None)
    with pytest.raises(RequestError):
        a.put("nonsense", "c", 1)
    with pytest.raises(RequestError):
        a.put("config", "c", "x" * MOST_VALUE)
    assert a.summary() == {}


def test_there_is_an_end_to_how_many_documents_are_shared() -> None:
    (b, _, _), _ = three()
    a = Documents("a", Notary("a", {"a", "c"}), Wall(), most=3)
    for number in range(3):
        a.put("config", str(number), number)
    with pytest.raises(NoRoomError):
        a.put("config", "one more", 1)
    a.put("config", "1", "another value")
    pull(b, a)
    assert b.get("config", "1") == "another value"
    assert len(a.merge([_document("c", "1", key="of another")]).refused) == 1


class _NoOrder(Documents):
    def _wins(self, document: Document, known: Document) -> bool:
        return True


class _FirstWins(Documents):
    def _wins(self, document: Document, known: Document) -> bool:
        return False


class _WallAlone(Documents):
    def _wins(self, document: Document, known: Document) -> bool:
        return document.wall_ms > known.wall_ms


class _NoSignatures(Documents):
    def _is_signed(self, document: Document) -> bool:
        return True


class _NoFuture(Documents):
    def _is_of_the_future(self, document: Document) -> bool:
        return False


class _NoLogicalClock(Documents):
    def _next_clock(self) -> tuple[int, int]:
        return (self._wall_ms(), 0)


MUTANTS = {
    _NoOrder: [test_a_deletion_wins_over_a_value_of_the_same_time],
    _FirstWins: [test_the_last_writer_wins_on_every_node],
    _WallAlone: [test_a_deletion_wins_over_a_value_of_the_same_time],
    _NoLogicalClock: [test_the_last_writer_wins_on_every_node],
    _NoSignatures: [lambda: test_a_hostile_document_is_refused_and_changes_nothing("a wrong signature")],
    _NoFuture: [lambda: test_a_hostile_document_is_refused_and_changes_nothing("far in the future")],
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_rule_of_documents_switched_off_is_noticed(mutant: type[Documents], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Documents", mutant)
    for check in MUTANTS[mutant]:
        with pytest.raises(AssertionError):
            check()
