"""The allocator's book: what each node may be drawing, for all that can be known. Pure.

A grant counts until a lease that began when it was made has surely ended, and of several the largest counts: the last
one may have been lost. A node that is silent counts with its floor, for nothing can take that from it. One that draws
more than it was ever granted counts with what it draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agent.cluster.power.messages import Exposure, PowerRequest
from agent.cluster.power.node import tolerated
from agent.cluster.power.rules import PRIORITIES, Budget, Contract, Limit, Member, Priority
from agent.cluster.power.timing import Timing

NEVER = float("-inf")
WANT_STEP_W = 0.5  # a want that changes by less is the same: noise moves no caps


@dataclass(slots=True)
class Entry:
    """One node. ``last``: nonce and number of the newest request; only a newer one is looked at. ``lit``: the nonce of
    the last grant that may have switched its load on.
    """

    member: Member
    loaded: bool = True  # until it says otherwise: a node that draws its floor must not be forgotten
    want_w: float = 0.0
    priority: Priority = "normal"
    held_w: float = 0.0
    measured_w: float | None = None
    boot: str = ""
    last: tuple[int, int] = (0, 0)
    lit: int = 0
    heard: float = NEVER
    grants: list[tuple[float, float]] = field(default_factory=list)  # W, until; some that have just ended among them
    claimed: float = NEVER  # until when a grant that had ended counts once more


class Ledger:
    """All nodes of the stack, those that have left included until their grants have ended."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.entries: dict[str, Entry] = {}
        self._left: dict[str, tuple[float, float]] = {}  # W, until
        self._past: dict[str, Entry] = {}  # of those that have left: a node that comes back is not a new one

    def set_members(self, members: Iterable[Member], dark: frozenset[str], now: float) -> None:
        """Who is in the stack, from physical signs. ``dark``: newcomers whose load switch is off for certain."""
        wanted = {one.node_id: one for one in members}
        for node in self.entries.keys() - wanted.keys():
            self._left[node] = (self.exposure(node, now), now + self.timing.hold_s)
            self._past[node] = self.entries.pop(node)
        for node, member in wanted.items():
            if node in self.entries:
                self.entries[node].member = member
            else:
                left = self._left.pop(node, None)
                if node in self._past:
                    entry = self.entries[node] = self._past.pop(node)
                    entry.member = member
                else:  # what is left of an earlier allocator's grant goes along
                    entry = self.entries[node] = Entry(member, grants=[] if left is None else [left])
                entry.loaded = node not in dark or self.granted(entry, now) > 0

    def note(self, request: PowerRequest, now: float) -> None:
        """What a node says of itself, once it is known to be new.

        That its load is off counts when it has seen an answer younger than the last grant: it takes no older ones then.
        """
        entry = self.entries[request.node_id]
        if request.loaded or request.echo > entry.lit:
            entry.loaded = request.loaded
        if abs(request.want_w - entry.want_w) >= WANT_STEP_W:
            entry.want_w = request.want_w
        entry.priority = request.priority
        entry.held_w, entry.measured_w, entry.boot = request.held_w, request.measured_w, request.boot
        entry.last, entry.heard = (request.echo, request.seq), now

    def record(self, node: str, watts: float, nonce: int, now: float) -> None:
        """A grant goes out. It may switch the node's load on, and the node be silent ever after."""
        entry = self.entries[node]
        larger = [one for one in entry.grants if one[0] > watts]  # this one outlasts all the others
        entry.grants = [*larger, (watts, now + self.timing.hold_s)]
        if watts > 0:
            entry.loaded, entry.lit = True, nonce

    def take_over(self, exposures: Sequence[Exposure], now: float) -> None:
        """What an earlier allocator has granted; it grants nothing any more."""
        for one in exposures:
            until = now + self.timing.surely(one.left_s)
            if one.node_id in self.entries:
                entry = self.entries[one.node_id]
                entry.loaded = one.loaded
                if one.left_s > 0:
                    entry.grants.append((one.watts, until))
            else:
                self._left[one.node_id] = (one.watts, until)

    def exposures(self, now: float) -> tuple[Exposure, ...]:
        """For the next allocator."""
        rows = []
        for node, entry in self.entries.items():
            ends = max((until for _, until in self._running(entry, now)), default=now)
            rows.append(Exposure(node, self.exposure(node, now), ends - now, self.counts(entry, now)))
        rows += [Exposure(node, watts, until - now, True) for node, (watts, until) in self._left.items() if until > now]
        return tuple(rows)

    def exposure(self, node: str, now: float) -> float:
        """The most that this node may be drawing now, in W."""
        if node not in self.entries:
            watts, until = self._left.get(node, (0.0, NEVER))
            return watts if now < until else 0.0
        entry = self.entries[node]
        granted = self.granted(entry, now)
        return max(granted, self.least(entry, now)) if self.counts(entry, now) else granted

    def granted(self, entry: Entry, now: float) -> float:
        """The largest grant that a node may still be living on."""
        return max((watts for watts, _ in self._running(entry, now)), default=0.0)

    def claims(self, node: str, watts: float, now: float) -> bool:
        """A node says that it holds more than is counted. Whether that is a grant of this book that has only just
        ended, told by a message that was long on its way. It counts once more then, in case it is not, and only once.
        """
        entry = self.entries[node]
        ended = any(watts <= granted and now < until + self.timing.way_s for granted, until in entry.grants)
        if not ended or now < entry.claimed + self.timing.way_s:
            return False
        entry.claimed = now + self.timing.hold_s
        entry.grants.append((watts, entry.claimed))
        return True

    def counts(self, entry: Entry, now: float) -> bool:
        """Whether its load may be on."""
        return entry.loaded or self.granted(entry, now) > 0

    def least(self, entry: Entry, now: float) -> float:
        """What cannot be taken from it: its floor, or what it draws where its cap does not hold."""
        member, measured = entry.member, entry.measured_w
        if measured is None or measured <= tolerated(max(member.floor_w, entry.held_w, self.granted(entry, now))):
            return member.floor_w
        return max(member.floor_w, min(measured, member.peak_w))

    def alive(self, entry: Entry, now: float) -> bool:
        return now - entry.heard < 2 * self.timing.lease_s

    def left(self, limit: Limit, now: float, without: str = "") -> float:
        """W of the limit that nobody may be drawing; of the node ``without`` nothing is counted."""
        return limit.watts - sum(self.exposure(node, now) for node in limit.nodes if node != without)

    def limits(self, usable_w: float, contacts: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return (Limit(usable_w, frozenset(self.entries) | frozenset(self._left)), *contacts)

    def carried(self, limits: tuple[Limit, ...], usable_w: float, now: float) -> frozenset[str]:
        """Whose floors fit: those that are on come first, then those heard of, by priority, by who was there first.

        Who is off comes on only within ``usable_w``, which alerts may have taken from; who is on stays on.
        """
        order = list(self.entries)

        def rank(node: str) -> tuple[bool, bool, int, int]:
            entry = self.entries[node]
            return (
                not self.counts(entry, now),
                not self.alive(entry, now),
                -PRIORITIES.index(entry.priority),
                order.index(node),
            )

        gone = {node: self.exposure(node, now) for node in self._left}
        fits: dict[str, float] = {}
        for node in sorted(order, key=rank):
            floor = self.entries[node].member.floor_w  # what a meter says switches nobody off
            inside = [limit for limit in limits if node in limit.nodes]
            taken = [sum(watts for one, watts in (fits | gone).items() if one in limit.nodes) for limit in inside]
            usable = self.counts(self.entries[node], now) or sum((fits | gone).values()) + floor <= usable_w
            if usable and all(used + floor <= limit.watts for used, limit in zip(taken, inside, strict=True)):
                fits[node] = floor
        return frozenset(fits)

    def budget(self, usable_w: float, contacts: tuple[Limit, ...], carried: frozenset[str], now: float) -> Budget:
        """What the plan is made from: everyone who is on, or may be switched on."""
        members = tuple(
            replace(entry.member, floor_w=self.least(entry, now))
            for node, entry in self.entries.items()
            if node in carried or self.counts(entry, now)
        )
        gone = sum(self.exposure(node, now) for node in self._left)
        return Budget(max(0.0, usable_w - gone), members, contacts)

    def wants(self, contracts: Iterable[Contract], carried: frozenset[str], now: float) -> tuple[Contract, ...]:
        """What each node asks for now: a contract that was made for it, else what it says itself."""
        made = {one.node_id: one for one in contracts}
        own = [
            made.get(node) or Contract("", node, entry.want_w, 0.0, entry.priority, float("inf"))
            for node, entry in self.entries.items()
            if node in carried and self.alive(entry, now)
        ]
        return tuple(own)

    def _running(self, entry: Entry, now: float) -> list[tuple[float, float]]:
        entry.grants = [(watts, until) for watts, until in entry.grants if now < until + self.timing.way_s]
        return [(watts, until) for watts, until in entry.grants if now < until]
