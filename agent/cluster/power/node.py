"""The node's side of the power contract: what this module may draw now. Pure: time and messages go in, caps come out.

A node may draw its floor whatever happens, and more only under a lease. Silence, a restart or an alert end in the
floor by themselves: nobody has to reach the node for that.

What makes a grant count: it is for this node and this boot; its term is not older than the newest one seen; it answers
a request of this boot that is younger than a lease and no newer one was answered; its nonce is new. The lease then
runs from the moment the node *sent* that request, so no delay on the way can make it longer than the allocator counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.cluster.power.messages import PowerGrant, PowerRequest, Term
from agent.cluster.power.rules import Member, Priority
from agent.cluster.power.timing import Timing

SETTLE_S = 0.3  # how long a lowered cap may take until the meter shows it
TOLERANCE = 0.05  # of the meter, of the reading
TOLERANCE_W = 0.5


@dataclass(frozen=True, slots=True)
class Want:
    """What the module could use now, by its own judgement."""

    watts: float
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class Alarm:
    """The module draws more than it may: its cap does not hold."""

    measured_w: float
    allowed_w: float


@dataclass(frozen=True, slots=True)
class _Lease:
    watts: float
    until: float


class PowerNode:
    """One boot of one module. ``term`` must be kept on disk whenever it changed, before the next message goes out, and
    be handed in at the next boot. ``loaded``: where the load switch stands, for it keeps its place over a restart.
    """

    def __init__(
        self, member: Member, boot: str, term: Term | None = None, loaded: bool = False, timing: Timing | None = None
    ) -> None:
        self.member, self.boot, self.term, self.loaded = member, boot, term, loaded
        self.timing = timing or Timing()
        self.alerted = False
        self._seq = self._answered = self._echo = 0
        self._sent: dict[int, float] = {}
        self._lease = _Lease(0.0, float("-inf"))
        self._over_since: float | None = None

    def request(self, want: Want, measured_w: float | None, now: float) -> PowerRequest:
        """The next heartbeat, to be sent at once: its lease runs from ``now``."""
        self._seq += 1
        self._sent = {seq: at for seq, at in self._sent.items() if now < at + self.timing.lease_s}
        self._sent[self._seq] = now
        return PowerRequest(
            node_id=self.member.node_id,
            boot=self.boot,
            term=self.term,
            echo=self._echo,
            seq=self._seq,
            loaded=self.loaded,
            held_w=self.allowed(now),
            want_w=want.watts,
            priority=want.priority,
            measured_w=measured_w,
        )

    def receive(self, grant: PowerGrant, now: float) -> bool:
        """Take the grant if it counts. Whether it did, for the log."""
        if self.alerted or not self._is_mine(grant) or self._is_stale(grant) or not self._is_asked_for(grant, now):
            return False
        newer = grant.term != self.term
        if not newer and self._is_replayed(grant):
            return False
        self.term, self._answered, self._echo = grant.term, grant.seq, grant.nonce
        if grant.watts is not None:
            self._take(grant.watts, self._starts(grant, now) + self.timing.lease_s)
        return True

    def alert(self, raised: bool) -> None:
        """PWR_ALERT# changed. While it is raised the node keeps to its floor; what it asked for before is void."""
        self.alerted = raised
        if raised:
            self._lease = _Lease(0.0, float("-inf"))
            self._sent.clear()

    def allowed(self, now: float) -> float:
        """What the module may draw now, in W: nothing before it is admitted, then the lease, else the floor."""
        if not self.loaded:
            return 0.0
        return self._lease.watts if self._in_force(now) else self.member.floor_w

    def ends(self, now: float) -> float | None:
        """When the lease ends, unless a new one comes; None: there is none."""
        return self._lease.until if self.loaded and self._in_force(now) else None

    def watch(self, measured_w: float | None, now: float) -> Alarm | None:
        """An alarm when the module has drawn more than it may for longer than a cap needs to take hold."""
        allowed = self.allowed(now)
        if measured_w is None or measured_w <= tolerated(allowed):
            self._over_since = None
            return None
        if self._over_since is None:
            self._over_since = now
        return Alarm(measured_w, allowed) if now - self._over_since >= SETTLE_S else None

    def _is_mine(self, grant: PowerGrant) -> bool:
        return grant.node_id == self.member.node_id and grant.boot == self.boot

    def _is_stale(self, grant: PowerGrant) -> bool:
        return self.term is not None and grant.term < self.term

    def _is_asked_for(self, grant: PowerGrant, now: float) -> bool:
        sent = self._sent.get(grant.seq)
        return sent is not None and now < sent + self.timing.lease_s

    def _is_replayed(self, grant: PowerGrant) -> bool:
        return grant.seq <= self._answered or grant.nonce <= self._echo

    def _starts(self, grant: PowerGrant, now: float) -> float:
        return self._sent[grant.seq]

    def _in_force(self, now: float) -> bool:
        return now < self._lease.until

    def _take(self, watts: float, until: float) -> None:
        self.loaded = watts > 0
        self._lease = _Lease(max(self.member.floor_w, min(watts, self.member.peak_w)), until)


def tolerated(watts: float) -> float:
    """What a meter may show of a module that keeps to ``watts``."""
    return watts * (1 + TOLERANCE) + TOLERANCE_W
