"""What a member may say of documents and not do harm with, and what a disk may do. Real trust and files, no network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from documents_table import Json, Room, Table, table_of
from small_disk import fill, small_disk
from trusting_device import Device, devices, together

from agent.cluster.documents.document import Document, to_json
from agent.cluster.documents.documents import FUTURE_MS
from agent.cluster.documents.service import MOST_PAGES, DocumentsService
from agent.cluster.documents.store import DocumentStore
from agent.cluster.link.frames import LinkError
from agent.errors import NoRoomError, RequestError


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with table_of(tmp_path, "abc") as made:
        yield made


def put(service: DocumentsService, key: str, value: object) -> None:
    service.store.change(lambda documents: documents.put("config", key, value))


def signed(device: Device, value: str = "1", key: str = "evil", ahead_ms: int = 0) -> list[object]:
    document = Document("config", key, value, time.time_ns() // 10**6 + ahead_ms, 0, device.id, b"")
    return to_json(replace(document, signature=device.trust.sign(document.signed)))


def test_all_have_what_one_wrote_and_whoever_uses_it_is_told_once(room: Room) -> None:
    table, _, (a, b, c) = room
    told: list[str] = []
    c.store.on_change("config", lambda: told.append("config"))
    c.store.on_change("key", lambda: told.append("key"))
    put(a, "x", 1)
    put(b, "y", 2)
    table.look()
    assert a.store.read().of("config") == b.store.read().of("config") == c.store.read().of("config") == {"x": 1, "y": 2}
    assert told == ["config"]
    put(a, "x", 3)
    table.look()
    table.look()
    assert told == ["config", "config"] and {each.fault for each in (a, b, c)} == {""}


def _honest_but(changes: Json) -> Callable[[str, object], Json]:
    row = changes.pop("row", None)

    def answer(_node: str, body: object) -> Json:
        if isinstance(body, dict) and "after" in body:
            return {"summary": {} if body["after"] else {"config/evil": "9" * 30}, **changes.get("page", {})}
        return {"documents": [row], "through": 1, **changes.get("piece", {})}

    return answer


NO_ANSWERS: list[Json] = [
    {"page": {"summary": 3}},
    {"page": {"summary": {"config/evil": 3}}},
    {"page": {"summary": None}},
    {"piece": {"through": 0}},
    {"piece": {"through": "1"}},
    {"piece": {"through": True}},
    {"piece": {"documents": None}},
    {"piece": {"documents": [None, 3, [], ["config"] * 7]}},
]


def test_an_answer_that_is_none_changes_nothing_and_holds_up_nobody(room: Room) -> None:
    table, (_, hostile, _), (a, _, c) = room
    del table.services[hostile.id]
    for number, changes in enumerate(NO_ANSWERS):
        table.answers[hostile.id] = _honest_but(changes)
        table.digests[hostile.id] = f"{number:016x}"
        asked = len(table.asked)
        put(c, "honest", number)
        table.look()
        assert a.store.read().of("config") == {"honest": number} and table.asked[asked:].count(hostile.id) > 0


def test_a_document_that_nobody_may_take_is_refused_and_health_says_whose_it_is(room: Room, tmp_path: Path) -> None:
    table, (_, hostile, other), (a, _, c) = room
    with devices(tmp_path) as make:
        rows = {
            "forged": [*signed(hostile)[:5], other.id, signed(hostile)[6]],
            "a stranger's": signed(make("stranger")),
            "of the future": signed(hostile, ahead_ms=FUTURE_MS + 60_000),
        }
    del table.services[hostile.id]
    for kind, row in rows.items():
        table.answers[hostile.id] = _honest_but({"row": row})
        table.digests[hostile.id] = "f" * 16
        put(c, "honest", kind)
        table.look()
        assert a.store.read().of("config") == {"honest": kind}
        assert hostile.id in a.fault and "config/evil" in a.fault
        del table.digests[hostile.id]
        a.look()
        assert a.fault == "", "it is gone"


def test_a_summary_without_end_has_one_and_so_has_one_that_repeats_itself(room: Room) -> None:
    table, (_, hostile, _), (a, *_) = room
    del table.services[hostile.id]
    table.digests[hostile.id] = "f" * 16
    pages = iter(range(10**6))
    for page, most in (
        (lambda: {f"config/{next(pages):07d}{number:03d}": "9" * 30 for number in range(500)}, 9),
        (lambda: {"config/same": "9" * 30}, MOST_PAGES + 1),
    ):
        table.answers[hostile.id] = lambda _node, _body, page=page: {"summary": page()}  # type: ignore[misc]
        table.digests[hostile.id] += "f"
        table.asked.clear()
        a.look()
        assert 0 < len(table.asked) <= most and a.store.read().summary() == {}


def test_who_cannot_be_agreed_with_is_asked_ever_more_rarely_until_something_is_another(room: Room) -> None:
    table, (_, mute, _), (a, *_) = room
    table.services = {each: service for each, service in table.services.items() if service is a}
    table.digests = {mute.id: "f" * 16}
    table.answers[mute.id] = lambda _node, _body: {"summary": {}}

    def asked_in(seconds: float) -> int:
        before, ends = len(table.asked), table.now + seconds
        while table.now < ends:
            table.now += 0.2
            a.look()
        return len(table.asked) - before

    assert 8 <= asked_in(60.0) <= 12
    assert 3 <= asked_in(120.0) <= 5
    table.digests[mute.id] = "e" * 16
    assert asked_in(0.2) == 1
    asked_in(120.0)
    put(a, "mine", 1)
    assert asked_in(0.2) == 1


def test_a_device_whose_trust_came_later_than_its_documents_is_heard_at_once_then(tmp_path: Path) -> None:
    with devices(tmp_path) as make:
        a, b = make("a"), make("b")
        table = Table()
        first, second = table.seat(a), table.seat(b)
        put(second, "theirs", 1)
        for _ in range(9):
            table.look(1)
            table.now += 5.0
        assert first.store.read().of("config") == {} and b.id in first.fault
        together(a, b)
        table.look(1)
        assert first.store.read().of("config") == {"theirs": 1} and first.fault == ""


def test_a_question_that_is_none_is_refused(room: Room) -> None:
    bodies: list[object] = [None, {}, 3, {"after": 3}, {"pull": "x"}, {"pull": [3]}, {"pull": ["x"] * 257}]
    for body in bodies:
        with pytest.raises(RequestError):
            room[2][0].answer("node", body)


def test_names_that_are_not_there_are_left_out_of_the_answer(room: Room) -> None:
    put(room[2][0], "x", 1)
    answer = room[2][0].answer("node", {"pull": ["config/none", "nonsense", "config/x"]})
    assert len(answer["documents"]) == 1 and answer["through"] == 3


def test_a_node_that_cannot_be_asked_is_no_trouble_for_the_others(room: Room) -> None:
    table, (_, gone, _), (a, _, c) = room
    del table.services[gone.id]
    table.digests[gone.id] = "f" * 16

    def refuse(_node: str, _body: object) -> Json:
        raise LinkError("it does not answer")

    table.answers[gone.id] = refuse
    put(c, "honest", 1)
    table.look()
    assert a.store.read().of("config") == {"honest": 1}


def test_on_a_full_disk_nothing_new_is_promised_and_what_others_revoked_is_revoked(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, devices(tmp_path) as make:
        a = make("a", device_id="00000000-0000-4000-8000-000000000001")
        b = Device(disk / "b")
        together(a, b)
        table = Table()
        first, second = table.seat(a), table.seat(b)
        put(first, "k", 1)
        table.look()
        ballast = fill(disk)
        with pytest.raises(NoRoomError):
            put(second, "mine", 1)
        assert second.store.read().of("config") == {"k": 1}
        first.store.change(lambda documents: documents.delete("config", "k"))
        table.look()
        assert second.store.read().of("config") == {} and "cannot be kept over a restart" in second.fault
        assert DocumentStore(b.folder, b.trust).read().of("config") == {"k": 1}
        ballast.unlink()
        table.look()
        assert second.fault == "" and DocumentStore(b.folder, b.trust).read().of("config") == {}
        b.links.close()


def test_a_file_that_is_damaged_under_a_running_device_is_whole_again_at_its_next_look(room: Room) -> None:
    _, (device, *_), (a, *_) = room
    put(a, "k", 1)
    (device.folder / "documents.json").write_text('{"documents": [["config"')
    a.look()
    assert a.fault == "" and a.store.read().of("config") == {"k": 1}
    assert DocumentStore(device.folder, device.trust).read().of("config") == {"k": 1}


@pytest.mark.parametrize("behind_s", [150 * 86400.0, time.time()], ids=["months behind", "in 1970"])
def test_a_device_whose_clock_is_behind_takes_what_the_others_write_and_they_what_it_writes(
    tmp_path: Path, behind_s: float
) -> None:
    with devices(tmp_path) as make:
        a, b = make("a"), make("b", wall=lambda: time.time() - behind_s)
        together(a, b)
        with contextlib.suppress(LinkError):
            b.ask(a)  # even one that fails says how late it is; so does a beacon
        table = Table()
        first, second = table.seat(a), table.seat(b)
        put(first, "k", "old")
        table.look()
        assert second.store.read().of("config") == {"k": "old"} and second.fault == ""
        put(second, "k", "new")
        table.look()
        assert first.store.read().of("config") == {"k": "new"}


def test_a_member_that_says_it_is_the_end_of_time_keeps_nobody_from_writing(room: Room) -> None:
    table, (_, late, _), (a, b, _) = room
    a.store.change(lambda documents: documents.put("config", "k", 1))
    for service in table.services.values():
        service._trust.clock.heard(7e9)
    put(b, "k", 2)
    table.look()
    for number in range(3):
        put(a, "k", number)
    table.look()
    assert b.store.read().of("config") == {"k": 2} and late.trust.clock.now() > 6e9
