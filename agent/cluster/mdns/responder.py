"""What one network hears of this device: answers, announcements and goodbyes (RFC 6762). Pure; packets in, packets out.

The zeroconf package reads and writes the messages. Its own responder does not ask whether a host's name is free, does
not defend one (it gives no address to a question of type ANY, which is what others ask with), and tells every network
the addresses of all. A question that comes in several parts is answered after its first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, DNSRecord, DNSService

from agent.cluster.mdns.claim import Claim
from agent.cluster.mdns.records import AAAA, ANY, IN, LEADER_HOST, SERVICES, A, Shown, denial, host_of, with_ttl

PORT: Final = 5353
MOST_QUESTIONS: Final = 32  # of one message that are looked at
_QUERY: Final = 0
_ANSWER: Final = 0x8400  # a response, with authority
_LEGACY_TTL_S: Final = 10  # for askers that know no mDNS: they would not hear of a change
_ONCE_S: Final = 1.0  # between two times that the network is told one record
_DEFENCE_S: Final = 0.25  # the same, where another asks whether a name is free
_JITTER_S: Final = (0.02, 0.12)  # before answers that several devices give


@dataclass(frozen=True, slots=True)
class Source:
    """Where a packet came from."""

    address: str
    port: int
    near: bool  # within this network: others get no answer of their own, which they could have forged a question for
    own: bool  # an address of this device
    reply: tuple[Any, ...] = ()  # the same as a socket has it


@dataclass(frozen=True, slots=True)
class Packet:
    """To the whole network, unless ``to`` names one."""

    data: bytes
    to: Source | None = None


class Responder:
    """For one network. Every moment is in seconds of one clock that only goes forward."""

    def __init__(self, node_id: str, chance: Callable[[], float] = random.random) -> None:
        self._names = {host_of(node_id): Claim(chance), LEADER_HOST: Claim(chance)}
        self._node, self._leader = self._names.values()
        self._chance = chance
        self._pointers: tuple[DNSRecord, ...] = ()
        self._own: frozenset[bytes] = frozenset()
        self._due: dict[DNSRecord, float] = {}  # answers that wait for their moment
        self._told: dict[DNSRecord, float] = {}  # when the network heard a record last

    def show(self, what: Shown, own: frozenset[bytes], now: float) -> list[Packet]:
        """From now on. ``own``: packed addresses of this device on all networks, which are nobody else's."""
        self._own, held = own, self._node.held
        gone = self._node.want(what.node, now) + self._leader.want(what.leader, now)
        if held:
            gone += tuple(each for each in self._pointers if each not in what.pointers and each.key != SERVICES)
        self._pointers = what.pointers
        self._told = {record: at for record, at in self._told.items() if self._true(record)}
        return _packets(_ANSWER, [with_ttl(record, 0) for record in gone])

    @property
    def due(self) -> float:
        """When ``tick`` has something to do."""
        return min(self._node.due, self._leader.due, min(self._due.values(), default=math.inf))

    @property
    def rivals(self) -> Mapping[str, str]:
        """By name that another host has: that host's address."""
        return {name.removesuffix("."): claim.rival for name, claim in self._names.items() if claim.rival}

    def tick(self, now: float) -> list[Packet]:
        """What is to be sent now."""
        packets: list[Packet] = []
        for claim, beside in ((self._node, self._pointers), (self._leader, ())):
            step = claim.step(now)
            if step == "ask":
                questions = [DNSQuestion(name, ANY, IN) for name in sorted(claim.names)]
                packets += _packets(_QUERY, (), questions=questions, authorities=claim.records)
            elif step == "tell":
                packets += self._tell([*claim.records, *beside], now)
        ready = [record for record, at in self._due.items() if at <= now]
        if ready:
            for record in ready:
                del self._due[record]
            packets += self._tell([record for record in ready if self._true(record)], now)
        return packets

    def hear(self, data: bytes, source: Source, now: float) -> list[Packet]:
        """A packet came; anybody may have sent it, with anything in it."""
        message = DNSIncoming(data)
        if not message.valid or message.flags & 0x7800:  # other operations than questions
            return []
        if message.is_query():
            if message.is_probe() and not source.own:
                theirs = message.answers()
                for claim in self._names.values():
                    if not all(self._mine(record, claim) for record in theirs if record.key in claim.names):
                        claim.asked(theirs, now)
            return self._answer(message, source, now)
        if source.port == PORT:
            self._learn(message.answers(), source, now)
        return []

    def _learn(self, records: Iterable[DNSRecord], source: Source, now: float) -> None:
        for record in records:
            for claim in self._names.values():
                if record.key not in claim.names or record.type not in (A, AAAA, *(r.type for r in claim.records)):
                    continue
                if record.ttl == 0:
                    claim.forgotten(record, now)
                elif not source.own and not self._mine(record, claim):
                    claim.answered(record, source.address, now)

    def _mine(self, record: DNSRecord, claim: Claim) -> bool:
        """Another interface of this device may be on the same network, and says the same with its own addresses."""
        return record in claim.records or getattr(record, "address", None) in self._own

    # --- questions ---------------------------------------------------------------------------------------------------

    def _answer(self, message: DNSIncoming, source: Source, now: float) -> list[Packet]:
        questions = message.questions[:MOST_QUESTIONS]
        known = {} if message.is_probe() else {record: record.ttl for record in message.answers()}
        answers = [
            record
            for record in self._matching(questions)
            if known.get(record, 0) < record.ttl / 2  # who asks has it, and for a while
        ]
        if not answers:
            return []
        if source.port != PORT:
            return _legacy(message, questions, answers, self._beside(answers), source)
        fresh = all(now - self._told.get(record, -math.inf) < record.ttl / 4 for record in answers)
        if fresh and source.near and all(question.unicast for question in questions):
            return _packets(_ANSWER, answers, self._beside(answers), to=source)
        for record in answers:
            pause = _DEFENCE_S if message.is_probe() else _ONCE_S
            low, high = (0.0, 0.0) if record.unique else _JITTER_S
            at = max(now + low + (high - low) * self._chance(), self._told.get(record, -math.inf) + pause)
            self._due[record] = min(at, self._due.get(record, math.inf))
        return self.tick(now)

    def _matching(self, questions: Iterable[DNSQuestion]) -> list[DNSRecord]:
        """Each once, in order."""
        found: dict[DNSRecord, None] = {}
        shown = self._shown()
        for question in questions:
            if question.class_ not in (IN, ANY):
                continue
            named = [record for record in shown if record.key == question.key]
            fitting = [record for record in named if question.type in (record.type, ANY)]
            if named and not fitting and named[0].unique:
                fitting = [denial(named[0].name, named)]
            found |= dict.fromkeys(fitting)
        return list(found)

    def _shown(self) -> list[DNSRecord]:
        """Everything that may be told: what is asked for still is nobody's."""
        node = [*self._node.records, *self._pointers] if self._node.held else []
        return node + (list(self._leader.records) if self._leader.held else [])

    def _true(self, record: DNSRecord) -> bool:
        """Still: between a question and its answer a name may be lost."""
        shown = self._shown()
        named = [each for each in shown if each.key == record.key]
        return record in shown or (bool(named) and record == denial(record.name, named))

    def _beside(self, answers: Iterable[DNSRecord]) -> list[DNSRecord]:
        """What who asked would ask for next (RFC 6763, section 12)."""
        shown, beside = self._shown(), dict[DNSRecord, None]()
        for answer in answers:
            if isinstance(answer, DNSPointer) and answer.key != SERVICES:
                beside |= dict.fromkeys(self._node.records)
            elif isinstance(answer, DNSService):
                beside |= dict.fromkeys(record for record in shown if record.key == answer.server.lower())
            elif answer.type in (A, AAAA):
                same = [record for record in shown if record.key == answer.key]
                beside |= dict.fromkeys([*same, denial(answer.name, same)])
        return [record for record in beside if record not in answers]

    def _tell(self, answers: list[DNSRecord], now: float) -> list[Packet]:
        beside = self._beside(answers)
        self._told |= dict.fromkeys([*answers, *beside], now)
        return _packets(_ANSWER, answers, beside)


def _legacy(
    message: DNSIncoming,
    questions: Iterable[DNSQuestion],
    answers: Iterable[DNSRecord],
    beside: Iterable[DNSRecord],
    source: Source,
) -> list[Packet]:
    """As a name server would: to whoever asked alone, with the question, and for a short time."""
    if not source.near:
        return []
    short = [[with_ttl(record, min(record.ttl, _LEGACY_TTL_S)) for record in each] for each in (answers, beside)]
    return _packets(_ANSWER, *short, questions=questions, to=source, id_=message.id)


def _packets(
    flags: int,
    answers: Iterable[DNSRecord],
    beside: Iterable[DNSRecord] = (),
    *,
    questions: Iterable[DNSQuestion] = (),
    authorities: Iterable[DNSRecord] = (),
    to: Source | None = None,
    id_: int | None = None,
) -> list[Packet]:
    """None where there is nothing to say. Only answers of mDNS to mDNS tell caches to drop what they had."""
    out = DNSOutgoing(flags, multicast=flags == _ANSWER and id_ is None, id_=id_ or 0)
    for question in questions:
        out.add_question(question)
    for record in answers:
        out.add_answer_at_time(record, 0)
    for record in beside:
        out.add_additional_answer(record)
    cast(list[DNSRecord], out.authorities).extend(authorities)
    empty = not (out.questions or out.answers)
    return [] if empty else [Packet(data, to) for data in out.packets()]
