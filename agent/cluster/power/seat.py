"""What this module is in the power contract of its stack, as its looks and messages say. Touches no hardware.

Whose supply feeds this module decides it:

* ``alone``: nobody touches it. It is the allocator of its own supply, or of its battery.
* ``office``: its supply feeds the stack. It is the allocator, and asks itself.
* ``member``: another's supply does. It asks that module twice a second, and draws what that one grants.
* ``unfed``: nobody's does. It lives on its battery, with its load switch off.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import replace
from typing import Final, Literal

from agent.cluster.power.look import Look
from agent.cluster.power.messages import Handover, PowerGrant, PowerRequest, Term
from agent.cluster.power.node import Alarm, PowerNode, Want
from agent.cluster.power.office import Kind, PowerOffice
from agent.cluster.power.rules import Contract, Member, in_force
from agent.cluster.power.store import PowerFile
from agent.cluster.power.timing import Timing
from agent.cluster.power.topology import feeder, touches_nobody
from agent.cluster.power.wire import Module
from agent.cluster.state import Cluster

UNFED_S: Final = 6.0  # two leases: how long nobody may feed this module before it takes itself off the stack
LOST_S: Final = 60.0  # the same where whoever fed it is only silent: its agent may be starting again
BOOK_S: Final = 1.0  # for the book of the module that had the office until now
ADMIT_S: Final = 10.0  # how long it may take to be admitted before it is worth a word

State = Literal["alone", "office", "member", "unfed"]
_log = logging.getLogger(__name__)


class PowerSeat:
    """Not thread-safe."""

    def __init__(self, member: Member, file: PowerFile, contact_w: float, first: Look) -> None:
        self.timing = Timing()
        self.member, self._file, self.look = member, file, first
        self.office = PowerOffice(member, file, contact_w, self.timing)
        self.raised = False  # the alert line
        self.node = self._new_node(first.switch_on, file.kept.term)
        self.state: State = "unfed"
        self.holder = ""  # whose office this node asks; empty: none
        self.candidate: tuple[Term, str, float] | None = None  # asks whom for the book, until when
        self.contracts: tuple[Contract, ...] = ()  # of the stack, as the module at the supply last told
        self.contracted = False  # there has been a contract for this node
        self.alarm: Alarm | None = None
        self._external = bool(first.external)
        self._fed = False
        self._unfed_since: float | None = None
        self._leaves_at = math.inf  # the office, unless its book is asked for before
        self._beat_at = self._answered_at = self._admitted_at = -math.inf

    @property
    def kind(self) -> Kind | None:
        """Of the office that is open here; None: none is."""
        return None if self.office.allocator is None else self.office.kind

    @property
    def serves(self) -> bool:
        """Whether others may ask this module for watts."""
        return self.state != "member" and self.kind == "stack"

    def trouble(self, now: float) -> str:
        """What is wrong with the power contract of this node; empty when nothing is."""
        if self.alarm is not None:
            return f"it draws {self.alarm.measured_w:.1f} W, and {self.alarm.allowed_w:g} W are granted"
        if self.state == "member" and now - self._answered_at > self.timing.lease_s:
            return f"{self.holder}, where the supply is plugged in, does not answer: held at the floor"
        if self.state == "unfed" and self.kind is None and self._file.kept.term is not None:
            return f"{self._file.kept.term.holder}, which shared out the supply, is not to be heard: held at the floor"
        if self.state in ("member", "office") and not self.node.loaded and now - self._admitted_at > ADMIT_S:
            return "not admitted: the floors of the stack do not fit into what its supply and contacts carry"
        return self._file.fault

    # --- whose supply it is ------------------------------------------------------------------------------------------

    def decide(self, seen: Look, cluster: Cluster) -> None:
        """At every look."""
        self.look, now = seen, seen.at
        if seen.external is not None:
            self._external = seen.external
        own = self.member.node_id
        alone = touches_nobody(cluster, own, seen.faces)
        self.office.see(cluster, seen.faces, now, alone)
        fed_by = own if alone else feeder(cluster, self.office.contacts, own, self._external)
        state: State = "alone" if alone else "unfed" if fed_by is None else "office" if fed_by == own else "member"
        self._enter(state, self._kind_of(state, seen, cluster), fed_by or "", seen, cluster)
        if self.office.look(seen.supply_w, now):
            self._beat_at = -math.inf
        watched = self.node.loaded and not self.is_free(now)
        before, self.alarm = self.alarm, self.node.watch(seen.measured_w if watched else None, now)
        if self.alarm is not None and before is None:
            _log.error("this module draws %.1f W, and %g W are granted", self.alarm.measured_w, self.alarm.allowed_w)

    def feeds(self, node: str, cluster: Cluster) -> bool:
        """Whether that module's supply feeds this one."""
        return feeder(cluster, self.office.contacts, self.member.node_id, self._external) == node

    def is_free(self, now: float) -> bool:
        """Whether the cap is its owner's: nobody else is on the supply, which carries what the owner wants."""
        if self.raised or self.contracted or (self.state != "alone" and self.kind != "own"):
            return False
        if self.office.allocator is None:
            return self.state == "alone"  # on a supply that does not say what it gives
        return self.look.owner_w is None or self.node.allowed(now) >= self.look.owner_w

    def hear(self, raised: bool, now: float, own: bool) -> None:
        """The level of the alert line; ``own``: this module pulls it."""
        self.raised = raised
        self.node.alert(raised)
        if self.office.allocator is not None:
            self.office.allocator.alert(raised, now, own)

    def take_book(self, book: Handover, seen: Look) -> None:
        """Of the module that had the office until now, which this one asked for it as a candidate."""
        if self.candidate is not None and book.birth == self.candidate[0].birth and seen.supply_w is not None:
            self._open("stack", self.candidate[0], seen, book)

    def give_up(self, term: Term) -> None:
        """There is no book to be had: begin without."""
        if self.candidate is not None and self.candidate[0] == term:
            self.candidate = (*self.candidate[:2], -math.inf)

    def _kind_of(self, state: State, seen: Look, cluster: Cluster) -> Kind | None:
        """Which office to hold."""
        if state != "unfed":
            self._unfed_since = None
        elif self._unfed_since is None:
            self._unfed_since = seen.at
        if state in ("alone", "office"):
            return "stack" if self._external else "own"
        term = self._file.kept.term
        lost = term is not None and all(term.holder != node.id for node in cluster.nodes)
        waited = self._unfed_since is not None and seen.at - self._unfed_since >= (LOST_S if lost else UNFED_S)
        return "own" if state == "unfed" and seen.battery and (waited or not seen.switch_on) else None

    def _enter(self, state: State, kind: Kind | None, holder: str, seen: Look, cluster: Cluster) -> None:
        """Open and close the office, and be the node that belongs to it."""
        if holder != self.holder:
            self._answered_at = self._admitted_at = seen.at  # a while to get an answer, and to be let in
        before, self.state, self.holder = self.kind, state, holder
        if before is not None and before != kind:
            if not self._lingers(state, seen.at):
                self.office.close(seen.at, unplugged=not self._external)
            if kind is None and (before == "own" or not seen.switch_on):
                self.node = self._new_node(seen.switch_on, self._file.kept.term)
        else:
            self._leaves_at = math.inf
        if state == "unfed" and self._fed:  # nobody's supply: what was granted of it is void
            self.node = self._new_node(seen.switch_on, self._file.kept.term)
        self._fed = state != "unfed"
        if kind is None:
            self.candidate = None
            return
        if self.office.allocator is not None and self.office.allocator.retired:  # its book is another's: begin anew
            self.office.close(seen.at, unplugged=False)
        if self.office.allocator is not None or seen.supply_w is None:
            return
        earlier = self._earlier_holder(cluster) if kind == "stack" and state == "office" else ""
        if earlier and self.candidate is None:
            self.candidate = self.office.new_term(kind), earlier, seen.at + BOOK_S
        if self.candidate is None or seen.at >= self.candidate[2] or not earlier:
            self._open(kind, self.office.new_term(kind) if self.candidate is None else self.candidate[0], seen)

    def _open(self, kind: Kind, term: Term, seen: Look, book: Handover | None = None) -> None:
        assert seen.supply_w is not None, "an office begins with a reading"
        self.candidate = None
        if book is None or not self.node.loaded:
            # What is plugged into a module feeds it, whatever its switch does. Of a grant of before nobody knows here.
            self.node = self._new_node(True, None if kind == "own" else self._file.kept.term)
        mine = self.member.node_id
        held = [one for one in in_force(self.contracts, seen.at) if kind == "stack" or one.node_id == mine]
        self.office.open(kind, term, seen.supply_w, seen.at, held, alone=self.state == "alone", book=book)

    def _lingers(self, state: State, now: float) -> bool:
        """Another module feeds the stack now, and may ask for the book while this one's supply is still plugged in."""
        allocator = self.office.allocator
        if state != "member" or not self._external or allocator is None or allocator.retired:
            return False
        self._leaves_at = min(self._leaves_at, now + BOOK_S)
        return now < self._leaves_at

    def _earlier_holder(self, cluster: Cluster) -> str:
        """Another module whose supply is plugged in still, and that this node was fed by: it can hand its book on."""
        term = self.node.term
        powered = {node.id for node in cluster.nodes if node.external_power}
        return term.holder if term is not None and term.holder in powered - {self.member.node_id} else ""

    def _new_node(self, loaded: bool, term: Term | None) -> PowerNode:
        node = PowerNode(self.member, secrets.token_hex(8), term, loaded, self.timing)
        node.alert(self.raised)
        return node

    # --- the heartbeat -----------------------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask the holder of the office, another module."""
        return self.state == "member" and now - self._beat_at >= self.timing.beat_s

    def request(self, now: float) -> PowerRequest:
        """The next heartbeat, to go out at once."""
        self._beat_at = now
        return self.node.request(self._want(), self.look.measured_w, now)

    def answered(self, grant: PowerGrant | None, contracts: tuple[Contract, ...] | None, now: float) -> None:
        """By the holder of the office, in a term of its own. ``contracts`` None: it does not hold it, or not yet."""
        self._answered_at = now
        if contracts is not None:
            self.contracts = contracts
            self.contracted = self.contracted or any(one.node_id == self.member.node_id for one in contracts)
        if grant is not None and self._take(grant, now) and grant.watts is None:
            self._beat_at = -math.inf  # at once again, with the nonce

    def ask_myself(self, now: float, at_once: bool = False) -> None:
        """Where this node has the office itself."""
        if at_once:
            self._beat_at = -math.inf
        for _ in range(2):  # a first answer may be no more than a nonce to echo
            allocator = self.office.allocator
            if self.state == "member" or allocator is None or now - self._beat_at < self.timing.beat_s:
                return
            grant = self.office.request(self.request(now), self.module(), now)
            self.answered(grant, allocator.contracts, now)

    def module(self) -> Module:
        """What a heartbeat does not say of this module."""
        faces = self.look.faces or {}
        own = self.member
        figures = own.floor_w, own.peak_w, own.steps_w, self.look.applied_w
        return Module(*figures, top=faces.get("top"), bottom=faces.get("bottom"))

    def _want(self) -> Want:
        """By its own judgement as much as its owner lets it have, after everybody who has a contract. Once it had one
        itself, it has what it is granted by contract alone."""
        return Want(0.0 if self.contracted or self.look.owner_w is None else self.look.owner_w, "low")

    def _take(self, grant: PowerGrant, now: float) -> bool:
        taken = self.node.receive(grant, now)
        if taken and self.kind != "own":
            self._file.keep(replace(self._file.kept, term=self.node.term))
        if self.node.loaded:
            self._admitted_at = now
        return taken
