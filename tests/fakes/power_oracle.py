"""What must be true of a stack at every instant, told from outside: it sees messages and caps, and no rule's code."""

from __future__ import annotations

from agent.cluster.power_messages import PowerGrant, PowerRequest, Term
from agent.cluster.power_timing import Timing

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
        self._issued: dict[str, list[tuple[str, float, float, float]]] = {}  # boot, sent, ends, W
        self._granted: set[tuple[str, str, str, int]] = set()
        self._best: dict[str, Term] = {}
        self._accepted: dict[str, tuple[str, Term, int, int]] = {}
        self._void: dict[str, float] = {}

    def sent(self, request: PowerRequest, at: float) -> None:
        self._sent[request.node_id, request.boot, request.seq] = at

    def born(self, term: Term, at: float) -> None:
        self.births.setdefault(term.birth, at)

    def granted(self, request: PowerRequest, grant: PowerGrant, quiet: bool, node_rate: float) -> None:
        """I4 at the allocator, and the quiet: no older request is answered, none twice, nothing is raised unasked."""
        if grant.watts is None:
            return
        sent = self._sent[request.node_id, request.boot, request.seq]
        hold(sent >= self.births[grant.term.birth] - 1e-9, "I4: a request of before the allocator's birth was granted")
        key = (request.node_id, request.boot, grant.term.birth, request.seq)
        hold(key not in self._granted, "I4: a request was granted twice")
        self._granted.add(key)
        if quiet and grant.watts > 0:
            hold(grant.watts <= request.held_w + SLACK_W, "a grant was raised in the quiet period")
        ends = sent + self.timing.lease_s / node_rate
        self._issued.setdefault(request.node_id, []).append((request.boot, sent, ends, grant.watts))

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

    def voided(self, node_id: str, at: float) -> None:
        """An alert: what was asked for until now is void."""
        self._void[node_id] = at

    def cap(self, node_id: str, boot: str, cap: float, floor: float, now: float) -> None:
        """I3: a cap above the floor has a grant behind it, of this boot and unexpired."""
        if cap <= floor + SLACK_W:
            return
        running = [one for one in self._issued.get(node_id, ()) if one[2] > now - 1e-9]
        self._issued[node_id] = running
        void = self._void.get(node_id, -1.0)
        covered = any(of == boot and watts >= cap - SLACK_W and sent >= void for of, sent, _, watts in running)
        hold(covered, f"I3: {node_id} takes {cap:g} W without a grant in force")
