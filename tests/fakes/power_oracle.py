"""What must be true of a stack at every instant, told from outside: it sees messages and caps, and no rule's code."""

from __future__ import annotations

from agent.cluster.power.messages import PowerGrant, PowerRequest, Term
from agent.cluster.power.timing import Timing

SLACK_W = 1e-6


class BrokenRuleError(AssertionError):
    """A rule of the power contract did not hold."""


def hold(true: bool, rule: str) -> None:
    if not true:
        raise BrokenRuleError(rule)


class Oracle:
    """Keeps, in true time, who sent what and when, and checks each acceptance and each cap against it."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.births: dict[str, float] = {}  # of a term, by its birth
        self.complete: set[str] = set()  # births that were handed the book of the one before
        self._sent: dict[tuple[str, str, int], float] = {}  # node, boot, seq
        self._issued: dict[tuple[str, str, str, int], tuple[float, float]] = {}  # sent, ends
        self._taken: dict[str, tuple[str, float, float, float]] = {}  # the last one taken: boot, W, sent, ends
        self._best: dict[str, Term] = {}
        self._accepted: dict[str, tuple[str, Term, int, int]] = {}
        self._void: dict[str, float] = {}

    def sent(self, request: PowerRequest, at: float) -> None:
        best = self._best.get(request.node_id)
        known = best is None or (request.term is not None and request.term >= best)
        hold(known, "I4: a node forgot a term that it had accepted")
        self._sent[request.node_id, request.boot, request.seq] = at

    def born(self, term: Term, at: float) -> None:
        self.births.setdefault(term.birth, at)

    def granted(self, request: PowerRequest, grant: PowerGrant, age_s: float, node_rate: float) -> None:
        """I4 at the allocator, ``age_s`` after its birth by its clock: it waits; no older request is answered, none
        twice; nothing is raised in the quiet.
        """
        fresh = grant.term.birth not in self.complete
        hold(not fresh or age_s >= self.timing.silence_s - 1e-6, "an allocator spoke in its time of silence")
        quiet = fresh and age_s < self.timing.silence_s + self.timing.hold_s - 1e-6
        if grant.watts is None:
            return
        sent = self._sent[request.node_id, request.boot, request.seq]
        hold(sent >= self.births[grant.term.birth] - 1e-9, "I4: a request of before the allocator's birth was granted")
        key = (request.node_id, request.boot, grant.term.birth, request.seq)
        hold(key not in self._issued, "I4: a request was granted twice")
        if quiet and grant.watts > 0:
            hold(grant.watts <= request.held_w + SLACK_W, "a grant was raised in the quiet period")
        self._issued[key] = sent, sent + self.timing.lease_s / node_rate

    def accepted(self, node_id: str, boot: str, grant: PowerGrant) -> None:
        """I4 at the node."""
        hold(grant.node_id == node_id, "I4: a grant for another node was accepted")
        hold(grant.boot == boot, "I4: a grant for an earlier boot was accepted")
        best = self._best.get(node_id)
        hold(best is None or grant.term >= best, "I4: a grant of an earlier term was accepted")
        last = self._accepted.get(node_id)
        if last is not None and last[:2] == (boot, grant.term):
            hold(grant.seq > last[2] and grant.nonce > last[3], "I4: an older grant was accepted after a newer one")
        self._best[node_id] = grant.term
        self._accepted[node_id] = (boot, grant.term, grant.seq, grant.nonce)
        if grant.watts is not None:
            self._taken[node_id] = (boot, grant.watts, *self._issued[node_id, boot, grant.term.birth, grant.seq])

    def voided(self, node_id: str, at: float) -> None:
        """An alert: what was asked for until now is void."""
        self._void[node_id] = at

    def cap(self, node_id: str, boot: str, cap: float, floor: float, now: float) -> None:
        """I3: a cap above the floor has a grant behind it, of this boot and unexpired."""
        if cap <= floor + SLACK_W:
            return
        void = self._void.get(node_id, -1.0)
        of, watts, sent, ends = self._taken.get(node_id, ("", 0.0, 0.0, 0.0))
        covered = of == boot and watts >= cap - SLACK_W and sent >= void and ends > now - 1e-9
        hold(covered, f"I3: {node_id} takes {cap:g} W without a grant in force")
