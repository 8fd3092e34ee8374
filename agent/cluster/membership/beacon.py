"""What a node says five times a second: values, and their JSON, which refuses what is not exactly one of them.

One datagram of the link carries 1,200 bytes, seal included, so ids are written once and then referred to by number.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from agent.cluster.membership.epoch import HIGHEST_TERM, Epoch
from agent.cluster.membership.leader import LIVED_S, Rank, rank
from agent.cluster.state import MOST_NODES, Node, Side

VERSION = 1
MOST_HEARD = 12  # more than a stack has, and few enough for a datagram
MOST_REFUSED = 2
LONGEST = {"id": 20, "address": 47, "version": 24, "documents": 16}
FACES: tuple[Side, ...] = ("bottom", "top")


class BeaconError(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Heard:
    """The last beacon that the sender had from ``id``, and how long it held that word before it said so, in ms."""

    id: str
    incarnation: int
    seq: int
    held_ms: int


@dataclass(frozen=True, slots=True)
class Touch:
    """The reader on ``face`` of the sender reads the tag that ``other`` wears on ``other_face``."""

    face: Side
    other: str
    other_face: Side
    round_trip_ms: float | None = None
    gigabits: float | None = None


@dataclass(frozen=True, slots=True)
class Felt:
    """The sender felt that ``about`` may be gone; ``number`` counts such signs of this run. ``about`` is sorted."""

    number: int
    about: tuple[str, ...]


@dataclass(frozen=True)
class Beacon:
    """``incarnation`` counts the starts of the sender, ``seq`` its beacons since then."""

    node: Node
    incarnation: int
    seq: int
    heard: tuple[Heard, ...]
    late: tuple[str, ...]  # whose word, of those, had been so long on its way that it proves nothing
    term: int  # of the last epoch that the sender accepted, in this run or before
    epoch: Epoch | None  # that it is in; None: in none since it started
    reigns: bool  # it leads that epoch, and means to go on
    present: int  # of the members of an epoch that it leads, those that it hears, and itself
    lived: int  # class of how long it has led
    vote: str  # whom it wants to follow; its own id: it wants to lead
    vote_rank: Rank  # of that one, as the sender sees it
    view: tuple[str, ...]  # of one who wants to lead: whom it would take in
    touched: tuple[Touch, ...] = ()
    felt: Felt | None = None  # of the last moments, by its own lines, tags and carrier
    documents: str = ""  # digest of the shared documents
    refused: tuple[Heard, ...] = ()  # whose beacons are older than the one named here: they lost their count

    @property
    def id(self) -> str:
        return self.node.id

    @cached_property
    def rank(self) -> Rank:
        return rank(self.node, self.reigns, self.present, self.lived)

    @cached_property
    def hears(self) -> frozenset[str]:
        return frozenset(each.id for each in self.heard).difference(self.late)


def encode(beacon: Beacon) -> bytes:
    """At most some 1,000 bytes."""
    ids: dict[str, int] = {}

    def ref(name: str) -> int:
        return ids.setdefault(name, len(ids))

    node, epoch = beacon.node, beacon.epoch
    body = {
        "v": VERSION,
        "i": [ref(node.id), beacon.incarnation, beacon.seq],
        "n": [
            node.address, node.ram_bytes, node.tops, int(node.external_power), node.battery_percent, node.version,
        ],
        "h": [[ref(each.id), each.incarnation, each.seq, each.held_ms] for each in beacon.heard],
        "l": [ref(each) for each in beacon.late],
        "f": [[ref(each.id), each.incarnation, each.seq, each.held_ms] for each in beacon.refused],
        "t": beacon.term,
        "e": None if epoch is None else [epoch.term, ref(epoch.leader), [ref(each) for each in epoch.members]],
        "r": [int(beacon.reigns), beacon.present, beacon.lived],
        "o": [ref(beacon.vote), *beacon.vote_rank[:3]],
        "w": [ref(each) for each in beacon.view],
        "c": [
            [FACES.index(each.face), ref(each.other), FACES.index(each.other_face), each.round_trip_ms, each.gigabits]
            for each in beacon.touched
        ],
        "s": None if beacon.felt is None else [beacon.felt.number, [ref(each) for each in beacon.felt.about]],
        "d": beacon.documents,
    }  # fmt: skip
    return json.dumps({"x": list(ids), **body}, separators=(",", ":")).encode()


def decode(data: bytes) -> Beacon:
    """Raises BeaconError for whatever is not a beacon in every part."""
    try:
        body = json.loads(data.decode(), parse_constant=_refuse)
        return _Reader(body).beacon()
    except BeaconError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise BeaconError("this is no beacon") from error


def _refuse(name: str) -> NoReturn:
    raise BeaconError(f"{name} is no number")


class _Reader:
    def __init__(self, body: dict[str, Any]) -> None:
        if body["v"] != VERSION:
            raise BeaconError("a beacon of another version")
        self._body = body
        self._ids = [_text(each, "id") for each in body["x"]]
        if len(set(self._ids)) != len(self._ids) or "" in self._ids:
            raise BeaconError("an id is empty or there twice")

    def beacon(self) -> Beacon:
        body = self._body
        own, incarnation, seq = body["i"]
        address, ram, tops, external, battery, version = body["n"]
        reigns, present, age = body["r"]
        vote, *places = body["o"]
        beacon = Beacon(
            node=Node(
                id=self._id(own),
                address=_text(address, "address"),
                ram_bytes=_whole(ram),
                tops=_number(tops, 0, 1e6),
                external_power=_flag(external),
                battery_percent=None if battery is None else _number(battery, 0, 100),
                version=_text(version, "version"),
            ),
            incarnation=_whole(incarnation),
            seq=_whole(seq),
            heard=self._heard(body["h"], MOST_HEARD),
            late=tuple(self._id(each) for each in _few(body["l"], MOST_HEARD)),
            refused=self._heard(body["f"], MOST_REFUSED),
            term=_whole(body["t"]),
            epoch=self._epoch(body["e"]),
            reigns=_flag(reigns),
            present=_whole(present, MOST_NODES),
            lived=_whole(age, len(LIVED_S)),
            vote=self._id(vote),
            vote_rank=self._rank(vote, places),
            view=self._group(body["w"]),
            touched=tuple(
                Touch(FACES[_whole(face, 1)], self._id(other), FACES[_whole(theirs, 1)], _known(trip), _known(speed))
                for face, other, theirs, trip, speed in _few(body["c"], 2)
            ),
            felt=self._felt(body["s"]),
            documents=_text(body["d"], "documents"),
        )
        return _consistent(beacon)

    def _id(self, number: object) -> str:
        return self._ids[_whole(number, len(self._ids) - 1)]

    def _heard(self, rows: object, most: int) -> tuple[Heard, ...]:
        return tuple(
            Heard(self._id(each), _whole(life), _whole(number), _whole(held))
            for each, life, number, held in _few(rows, most)
        )

    def _group(self, numbers: object, most: int = MOST_NODES) -> tuple[str, ...]:
        group = tuple(self._id(each) for each in _few(numbers, most))
        if list(group) != sorted(set(group)):
            raise BeaconError("a group is sorted, each there once")
        return group

    def _felt(self, body: Any) -> Felt | None:  # noqa: ANN401  unchecked JSON
        if body is None:
            return None
        number, about = body
        return Felt(_whole(number), self._group(about, MOST_HEARD))

    def _epoch(self, body: Any) -> Epoch | None:  # noqa: ANN401  unchecked JSON
        if body is None:
            return None
        term, leader, members = body
        epoch = Epoch(_whole(term), self._id(leader), self._group(members))
        if epoch.leader not in epoch.members:
            raise BeaconError("a leader is a member")
        return epoch

    def _rank(self, vote: object, places: list[object]) -> Rank:
        first, second, third = places
        return (_whole(first, 1), _number(second, -1e6, 1e6), _number(third, -1e6, 1e6), self._id(vote))


def _consistent(beacon: Beacon) -> Beacon:
    own, epoch = beacon.id, beacon.epoch
    if epoch is not None and (own not in epoch.members or epoch.term > beacon.term):
        raise BeaconError("an epoch that its member is not in, or has not accepted")
    if beacon.reigns and (epoch is None or epoch.leader != own):
        raise BeaconError("who leads nobody reigns over nobody")
    if (beacon.vote == own) != (own in beacon.view):
        raise BeaconError("who wants to lead has a view, with itself in it; nobody else has one")
    if beacon.felt is not None and (not beacon.felt.about or own in beacon.felt.about):
        raise BeaconError("a sign that is about nobody, or about its sender")
    if beacon.vote == own and beacon.vote_rank != beacon.rank:
        raise BeaconError("a rank that its owner does not have")
    return beacon


def _few(value: Any, most: int) -> list[Any]:  # noqa: ANN401  unchecked JSON
    if not isinstance(value, list) or len(value) > most:
        raise BeaconError("no list, or too long a one")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST[what] or not value.isascii() or not value.isprintable():
        raise BeaconError(f"this is no {what}")
    return value


def _whole(value: object, most: int = HIGHEST_TERM) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BeaconError("a whole number is missing or out of range")
    return value


def _number(value: object, least: float, most: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise BeaconError("a number is missing")
    if not least <= value <= most or not math.isfinite(value):  # in this order: no float is as large as an int may be
        raise BeaconError("a number is out of range")
    return float(value)


def _known(value: object) -> float | None:
    return None if value is None else _number(value, 0, 1e6)


def _flag(value: object) -> bool:
    return bool(_whole(value, 1))
