"""The power contract with one rule switched off: what the tests must notice. Each stands for a mistake that works
most of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from power_module import Rules

from agent.cluster.power.allocator import Allocator, Stack
from agent.cluster.power.derate import FIRST_WAIT_S, Derating
from agent.cluster.power.ledger import Entry, Ledger
from agent.cluster.power.messages import Exposure, Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.node import PowerNode
from agent.cluster.power.rules import Contract, Limit, share
from agent.cluster.power.timing import Timing


class NeverEnds(PowerNode):
    def _in_force(self, now: float) -> bool:
        return self._lease.watts > 0


class FromReceipt(PowerNode):
    def _starts(self, grant: PowerGrant, now: float) -> float:
        return now


class NoFencing(PowerNode):
    def _is_stale(self, grant: PowerGrant) -> bool:
        return False


class AnyBoot(PowerNode):
    def _is_mine(self, grant: PowerGrant) -> bool:
        return grant.node_id == self.member.node_id


class AnyNode(PowerNode):
    def _is_mine(self, grant: PowerGrant) -> bool:
        return True


class Replays(PowerNode):
    def _is_replayed(self, grant: PowerGrant) -> bool:
        return False


class DeafToAlerts(PowerNode):
    def alert(self, raised: bool) -> None:
        return


class RemembersOverAlerts(PowerNode):
    def alert(self, raised: bool) -> None:
        sent = dict(self._sent)
        super().alert(raised)
        self._sent = sent


class TakesThePeak(PowerNode):
    def _take(self, watts: float, until: float) -> None:
        super()._take(self.member.peak_w if watts else 0.0, until)


class NoQuiet(Allocator):
    def _begin(self, now: float) -> None:
        super()._begin(now)
        self._quiet_until = self._silent_until


class NoSilence(Allocator):
    def _begin(self, now: float) -> None:
        super()._begin(now)
        self._silent_until = now


class RaisesInQuiet(Allocator):
    def _watts(self, entry: Entry, request: PowerRequest, now: float) -> float | None:
        return super()._watts(entry, replace(request, held_w=math.inf), now)


class NoNonce(Allocator):
    def _is_echo(self, request: PowerRequest) -> bool:
        return request.echo > 0


class AnswersTwice(Allocator):
    def _is_new(self, entry: Entry, request: PowerRequest) -> bool:
        return True


class RaisesFirst(Allocator):
    def _room(self, node: str, now: float) -> float:
        return 1e6


class NoContacts(Allocator):
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
        super().__init__(term, replace(stack, contacts=()), supply_w, now, before_w, timing, contracts)


class AdmitsEveryone(Allocator):
    def _watts(self, entry: Entry, request: PowerRequest, now: float) -> float | None:
        return super()._watts(entry, request, now) if request.loaded else entry.member.floor_w


class NoGuard(Allocator):
    def _guard(self, now: float) -> None:
        return


class NeverUnsure(Allocator):
    def pulls(self, now: float) -> bool:
        return now < self._pulse_until


class SureTooSoon(Allocator):
    def bound_w(self, now: float) -> float:
        return self._supply_w


class NeedsNoSupply(Allocator):
    def has_authority(self, now: float) -> bool:
        return True

    def supply(self, watts: float | None, now: float) -> None:
        if watts is not None:
            super().supply(watts, now)


class Outdone(Allocator):
    def _outdo(self, term: Term, now: float) -> None:
        return


class NoRanks(Allocator):
    def _plan(self, now: float, carried: frozenset[str]) -> Mapping[str, float]:
        wants = self.ledger.wants(self.contracts, carried, now)
        return share(self._budget(carried, now), [replace(one, priority="normal") for one in wants])


class Obeys(Allocator):
    def takeover(self, question: Takeover, now: float) -> Handover | None:
        self.release()
        return super().takeover(question, now)


class _AtOnce(Derating):
    def alert(self) -> None:
        super().alert()
        self._wait_s = 0.0


class _NeverDoubles(Derating):
    def alert(self) -> None:
        super().alert()
        self._wait_s = FIRST_WAIT_S


class NoHysteresis(Allocator):
    def _begin(self, now: float) -> None:
        super()._begin(now)
        self.derating = _AtOnce()


class NoBackOff(Allocator):
    def _begin(self, now: float) -> None:
        super()._begin(now)
        self.derating = _NeverDoubles()


class _LastGrantAlone(Ledger):
    def granted(self, entry: Entry, now: float) -> float:
        super().granted(entry, now)
        return entry.grants[-1][0] if entry.grants else 0.0


class _SilentAreGone(Ledger):
    def least(self, entry: Entry, now: float) -> float:
        return super().least(entry, now) if self.alive(entry, now) else 0.0


class _BelievesDarkness(Ledger):
    def note(self, request: PowerRequest, now: float) -> None:
        super().note(request, now)
        self.entries[request.node_id].loaded = request.loaded

    def record(self, node: str, watts: float, nonce: int, now: float) -> None:
        loaded = self.entries[node].loaded
        super().record(node, watts, nonce, now)
        self.entries[node].loaded = loaded


class _NoBook(Ledger):
    def take_over(self, exposures: Sequence[Exposure], now: float) -> None:
        return


class _NoLimits(Ledger):
    def limits(self, usable_w: float, contacts: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return super().limits(1e6, contacts)


class ForgetsOldGrants(Allocator):
    def _book(self) -> Ledger:
        return _LastGrantAlone(self.timing)


class ForgetsTheSilent(Allocator):
    def _book(self) -> Ledger:
        return _SilentAreGone(self.timing)


class ForgetsTheAdmitted(Allocator):
    def _book(self) -> Ledger:
        return _BelievesDarkness(self.timing)


class IgnoresTheBook(Allocator):
    def _book(self) -> Ledger:
        return _NoBook(self.timing)


class NoSupplyLimit(Allocator):
    def _book(self) -> Ledger:
        return _NoLimits(self.timing)


class _PerfectClocks(Timing):
    def surely(self, seconds: float) -> float:
        return seconds


def perfect_clocks() -> Rules:
    return Rules(timing=_PerfectClocks())
