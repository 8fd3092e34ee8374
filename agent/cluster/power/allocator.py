"""The allocator's side of the power contract: who may draw how much of one supply. Pure: time and messages go in,
grants come out.

The allocator is the module that the supply is electrically plugged into; no message makes or unmakes one. It begins
with a term of its own and knows nothing of the grants of earlier allocators, so it works its way up:

1. Silence, as long as an earlier one may still grant without having noticed that its supply is gone.
2. One hold time of quiet: it renews what a node holds, never raises it, and only for requests that echo a nonce of its
   own, which proves that they were sent after its birth. Then all grants of others have ended.
3. From then on its book is complete, and it grants what the plan says as far as watts are free.

A handover of the earlier allocator's book takes the place of both waits. Where the earlier supply may have been
stronger than this one, or its contacts others, the alert line stays pulled meanwhile, and everybody is at the floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.cluster.power.derate import Derating
from agent.cluster.power.ledger import NEVER, Entry, Ledger
from agent.cluster.power.messages import Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.rules import Budget, Contract, Limit, Member, admit, bearable, in_force, share
from agent.cluster.power.timing import Timing
from agent.errors import NotFoundError

FARTHEST = 2**20  # terms ahead that are believed: nobody can use the numbers up
_DUST_W = 1e-9  # of sums of floats


@dataclass(frozen=True, slots=True)
class Stack:
    """What is electrically one, as seen from the supply. ``margin``: the part kept back for what a meter misses."""

    members: tuple[Member, ...]
    contacts: tuple[Limit, ...] = ()
    margin: float = 0.1
    dark: frozenset[str] = frozenset()  # newcomers whose load switch is off for certain


@dataclass(frozen=True, slots=True)
class Holding:
    """How one node stands, for people to see."""

    node_id: str
    planned_w: float
    counted_w: float  # the most that it may be drawing
    measured_w: float | None
    loaded: bool
    silent: bool


class Allocator:
    """One module's time as the one that shares out its supply, until ``retired``.

    ``term`` must be kept on disk whenever it changed, before the next message goes out, and the next one be made with
    a higher number. ``before_w``: what earlier allocators can have shared out at most, where that is certain: the last
    one's ``bound_w``, if it stood at this module with the same contacts and the supply was never unplugged, as after a
    restart of the agent; infinite otherwise.
    """

    def __init__(
        self,
        term: Term,
        stack: Stack,
        supply_w: float,
        now: float,
        before_w: float = math.inf,
        timing: Timing | None = None,
        contracts: Iterable[Contract] = (),
    ) -> None:
        self.timing = timing or Timing()
        self.term, self.stack = term, stack
        self.ledger = self._book()
        self.ledger.set_members(stack.members, stack.dark, now)
        self.derating = Derating()
        self.contracts = tuple(contracts)
        self.retired = self._released = False
        self._successor = ""  # the birth of the one that took over
        self._supply_w, self._seen, self._before_w = supply_w, now, before_w
        self._nonce = 0
        self._pulse_until = NEVER
        self._alerted = self._derated = False
        self._pulled = NEVER
        self._planned: tuple[object, Mapping[str, float]] | None = None
        self._begin(now)

    def _book(self) -> Ledger:
        return Ledger(self.timing)

    def _begin(self, now: float) -> None:
        self._silent_until = now + self.timing.silence_s
        self._quiet_until = self._silent_until + self.timing.hold_s

    # What the module itself sees.

    def supply(self, watts: float | None, now: float) -> None:
        """A reading of the supply, begun at ``now``; None: it is not plugged in. Without one nothing is granted."""
        if watts is None:
            self.retired = True
            return
        weaker = watts < self._supply_w
        self._supply_w, self._seen = watts, now
        if weaker:
            self.contracts = bearable(self.budget(now), in_force(self.contracts, now))
            self._guard(now)

    def set_stack(self, stack: Stack, now: float) -> None:
        """Members or contacts changed, by physical signs."""
        if self.is_quiet(now) and not self._carries_as_before(stack):
            self._before_w = math.inf
        self.stack = stack
        self.ledger.set_members(stack.members, stack.dark, now)
        self._guard(now)

    def alert(self, raised: bool, now: float, own: bool = False) -> None:
        """The level of PWR_ALERT#, at every change and reading. Raised by anybody else, it derates the supply, once.
        ``own``: this module pulls it still, or did when it was raised."""
        if own or self.pulls(now):
            self._pulled = now
        foreign = raised and now - self._pulled > self.timing.pulse_s
        if foreign and not self._derated:
            self.derating.alert()
        self._alerted, self._derated = raised, raised and (foreign or self._derated)

    def voltage(self, good: bool, now: float) -> None:
        """Whether the supply's voltage is above the upper threshold; to be told at every reading."""
        self.derating.look(good and not self._alerted, now)

    def pulls(self, now: float) -> bool:
        """Whether this allocator pulls the alert line: the grants that may be out are more than the supply gives."""
        unsure = self._before_w > self._supply_w and self.is_quiet(now)
        return not self.retired and (unsure or now < self._pulse_until)

    # What others say.

    def request(self, request: PowerRequest, now: float) -> PowerGrant | None:
        """Answer a node's heartbeat. None: no answer, for one that is old, unknown, or not this allocator's to give."""
        entry = self.ledger.entries.get(request.node_id)
        if entry is None or not self.has_authority(now) or self._alerted:
            return None
        if request.term is not None and request.term > self.term:
            if request.term.number > self.term.number + FARTHEST:
                return None
            self._outdo(request.term, now)
        if now < self._silent_until:
            return None
        if not self._is_echo(request):
            return self._grant(request, None)
        if not self._is_new(entry, request):
            return None
        if not self.is_quiet(now) and self._is_unknown(entry, request, now):
            if not self.ledger.claims(request.node_id, request.held_w, now):
                self._before_w = math.inf
                self._begin(now)
                return None
            self._guard(now)
        self.ledger.note(request, now)
        watts = self._watts(entry, request, now)
        grant = self._grant(request, watts)
        if watts is not None:
            self.ledger.record(request.node_id, watts, grant.nonce, now)
        return grant

    def takeover(self, question: Takeover, now: float) -> Handover | None:
        """Another module says that the supply is plugged into it now. Only one that was told to let go answers, with
        its book, and grants no more: a message alone stops nobody.
        """
        if self._successor != question.term.birth:
            if not self._released or not self.has_authority(now) or self.is_quiet(now):
                return None
            self.retired, self._successor = True, question.term.birth
        return Handover(self.term, question.term.birth, self.ledger.exposures(now))

    def handover(self, answer: Handover, now: float) -> bool:
        """Take the earlier allocator's book instead of waiting. Whether it counts: it must answer this very birth.

        A planned move asks while both supplies are plugged in, and is born with the answer: then nobody loses a watt.
        """
        if self.retired or answer.birth != self.term.birth or not self.is_quiet(now):
            return False
        self.ledger.take_over(answer.exposures, now)
        if answer.term > self.term:
            self.term = replace(self.term, number=answer.term.number + 1)
        self._silent_until = self._quiet_until = now
        self._guard(now)
        return True

    def release(self) -> None:
        """A second supply is plugged in elsewhere: let the module that asks take over. That ``retired`` then holds must
        be kept on disk before the answer goes out: only an unplugged supply makes this module an allocator again.
        """
        self._released = True

    # What clients ask for.

    def ask(self, contract: Contract, now: float) -> None:
        """Let an explicit contract into the plan. Raises what ``admit`` raises."""
        self.contracts = admit(self.budget(now), self.contracts, contract, now)

    def cancel(self, contract_id: str) -> None:
        """Raises NotFoundError."""
        kept = tuple(one for one in self.contracts if one.id != contract_id)
        if len(kept) == len(self.contracts):
            raise NotFoundError(
                "there is no such contract in force", hint="GET /v1/power/contract lists those in force"
            )
        self.contracts = kept

    # What it decides by.

    def has_authority(self, now: float) -> bool:
        """Whether its supply was seen plugged in a short while ago."""
        return not self.retired and now < self._seen + self.timing.reading_s

    def is_quiet(self, now: float) -> bool:
        """Whether earlier allocators' grants may still be out, which are not in its book."""
        return now < self._quiet_until

    def bound_w(self, now: float) -> float:
        """W that may have been shared out at most, for an allocator that begins at this module after a restart.

        To be kept on disk like the term; where it grows, before the next grant goes out.
        """
        out = sum(one.watts for one in self.ledger.exposures(now))
        return max(self._supply_w, out, self._before_w if self.is_quiet(now) else 0.0)

    def usable_w(self, now: float) -> float:
        """What may be shared out: the supply less margin, less what alerts took off it; floors are never derated."""
        full = self._supply_w * (1 - self.stack.margin)
        floors = sum(
            self.ledger.least(one, now) for one in self.ledger.entries.values() if self.ledger.counts(one, now)
        )
        return min(full, max(full * self.derating.factor, floors))

    def free_w(self, now: float) -> float:
        """W that nobody may be drawing, neither from the supply nor through any contact."""
        return min(self.ledger.left(limit, now) for limit in self._limits(now))

    def carried(self, now: float) -> frozenset[str]:
        """Whose load switch may be on: those whose floors fit into the supply and through every contact."""
        full = self._supply_w * (1 - self.stack.margin)
        return self.ledger.carried(self.ledger.limits(full, self.stack.contacts), self.usable_w(now), now)

    def budget(self, now: float) -> Budget:
        """What the plan shares out, and between whom."""
        return self._budget(self.carried(now), now)

    def plan(self, now: float) -> Mapping[str, float]:
        """W for each node that is on or may be switched on: floors, then priorities, evenly within one."""
        return self._plan(now, self.carried(now))

    def holdings(self, now: float) -> tuple[Holding, ...]:
        plan = self.plan(now)
        return tuple(
            Holding(
                node_id=node,
                planned_w=plan.get(node, 0.0),
                counted_w=self.ledger.exposure(node, now),
                measured_w=entry.measured_w,
                loaded=self.ledger.counts(entry, now),
                silent=not self.ledger.alive(entry, now),
            )
            for node, entry in self.ledger.entries.items()
        )

    def _budget(self, carried: frozenset[str], now: float) -> Budget:
        return self.ledger.budget(self.usable_w(now), self.stack.contacts, carried, now)

    def _plan(self, now: float, carried: frozenset[str]) -> Mapping[str, float]:
        budget = self._budget(carried, now)
        wants = self.ledger.wants(in_force(self.contracts, now), carried, now)
        if self._planned is None or self._planned[0] != (budget, wants):
            self._planned = (budget, wants), share(budget, bearable(budget, wants))
        return self._planned[1]

    def _watts(self, entry: Entry, request: PowerRequest, now: float) -> float | None:
        """What to grant; None: nothing, and the load stays off."""
        floor = entry.member.floor_w
        carried = self.carried(now)
        if request.node_id not in carried:
            return 0.0 if request.loaded else None
        target = max(floor, _whole_mw(self._plan(now, carried)[request.node_id]))
        if self.is_quiet(now) or self._is_gathering(now):
            return max(floor, min(target, request.held_w)) if request.loaded else None
        room = self._room(request.node_id, now)
        if not request.loaded and room < floor:
            return None
        return max(floor, min(target, _whole_mw(room)))

    def _room(self, node: str, now: float) -> float:
        """What nobody else may be drawing: so one is raised only after the others have surely come down."""
        return min(self.ledger.left(limit, now, without=node) for limit in self._limits(now) if node in limit.nodes)

    def _limits(self, now: float) -> tuple[Limit, ...]:
        return self.ledger.limits(self.usable_w(now), self.stack.contacts)

    def _is_gathering(self, now: float) -> bool:
        """The first beats after the quiet: who is heard first must not get what the others are about to ask for."""
        entries = self.ledger.entries.values()
        return now < self._quiet_until + 2 * self.timing.beat_s and any(
            one.heard < self._silent_until for one in entries
        )

    def _is_echo(self, request: PowerRequest) -> bool:
        return request.term == self.term and 0 < request.echo <= self._nonce

    def _is_new(self, entry: Entry, request: PowerRequest) -> bool:
        """Newer than all that was heard of the node. A nonce goes to one boot alone: another boot needs a later one."""
        if request.boot != entry.boot:
            return request.echo > entry.last[0]
        return (request.echo, request.seq) > entry.last

    def _is_unknown(self, entry: Entry, request: PowerRequest, now: float) -> bool:
        """Whether a node lives on a grant that is not in the book: another allocator's, from before two stacks met."""
        known = max(self.ledger.exposure(request.node_id, now), entry.member.floor_w)
        return request.loaded and request.held_w > known + _DUST_W

    def _outdo(self, term: Term, now: float) -> None:
        """A node has seen a higher term than this one's: the supply decides, so this allocator is born again above it.

        What is out then is what it granted itself, unless it was waiting for the grants of earlier ones anyway.
        """
        self._before_w = self.bound_w(now)
        self.term = replace(self.term, number=term.number + 1)
        for entry in self.ledger.entries.values():
            entry.last = (self._nonce, 0)
        self._begin(now)

    def _carries_as_before(self, stack: Stack) -> bool:
        """Whether no contact gives less than before to those who were and are there: what is out is not known yet."""
        stay = frozenset(self.ledger.entries) & {one.node_id for one in stack.members}
        old = [(one.watts, one.nodes & stay) for one in self.stack.contacts]
        new = [(one.watts, one.nodes & stay) for one in stack.contacts]
        return all(any(watts >= was and nodes <= behind for was, behind in old) for watts, nodes in new if nodes)

    def _guard(self, now: float) -> None:
        """Pull the alert line where more may be drawn than is there, and floors are not all of it."""
        over = [
            limit
            for limit in self._limits(now)
            if self.ledger.left(limit, now) < -_DUST_W and any(self._above_floor(node, now) for node in limit.nodes)
        ]
        if over:
            self._pulse_until = now + self.timing.pulse_s

    def _above_floor(self, node: str, now: float) -> bool:
        entry = self.ledger.entries.get(node)
        return entry is not None and self.ledger.exposure(node, now) > entry.member.floor_w

    def _grant(self, request: PowerRequest, watts: float | None) -> PowerGrant:
        self._nonce += 1
        return PowerGrant(request.node_id, request.boot, self.term, self._nonce, request.seq, watts)


def _whole_mw(watts: float) -> float:
    """Rounded down, so that what goes out on the wire never adds up to more."""
    return math.floor(watts * 1000 + 1e-6) / 1000
