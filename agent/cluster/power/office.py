"""This module in the office of the allocator: what it reads of its supply, who hangs on it, what it keeps on disk.

Two kinds of office. ``stack``: the supply that is plugged into this module, shared out to all that hang on it. ``own``:
its battery, which feeds nobody else; while it lives on that, its load switch is off.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from agent.cluster.power.allocator import Allocator, Stack
from agent.cluster.power.messages import Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.rules import Contract, Member, in_force
from agent.cluster.power.store import PowerFile
from agent.cluster.power.timing import Timing
from agent.cluster.power.topology import Faces, Topology
from agent.cluster.power.wire import Module, Promise
from agent.cluster.state import Cluster, Link, Side
from agent.errors import ThoxError

Kind = Literal["stack", "own"]
LOOSE_S = 30.0  # how long one counts that no tag shows and that is not heard any more: nobody sees it leave

_log = logging.getLogger(__name__)


class PowerOffice:
    """Not thread-safe. ``allocator`` None: it is closed."""

    def __init__(self, own: Member, file: PowerFile, contact_w: float, timing: Timing) -> None:
        self._own, self._file, self._contact_w, self._timing = own, file, contact_w, timing
        self.allocator: Allocator | None = None
        self.kind: Kind = "own"
        self.modules: dict[str, Module] = {}  # what each node said last of itself
        self._resumes_w = file.kept.bound_w  # of an office that this module held when its agent ended
        self._members = {**{one.node_id: one for one in file.kept.members}, own.node_id: own}
        self._topology = Topology(own.node_id, contact_w, file.kept.contacts)
        self._loaded: dict[str, bool] = {}
        self._noticed: dict[str, float] = {}
        self._loose: dict[str, float] = {}
        self._known: set[str] = set()  # ids of all contracts that were in force in this office

    def new_term(self, kind: Kind) -> Term:
        """Above all that this module knows of, and on disk before anybody hears of it; of an ``own`` office nobody
        does."""
        if kind == "own":
            return Term(1, self._own.node_id, secrets.token_hex(8))
        kept = self._file.kept
        number = 1 + max(kept.number, kept.term.number if kept.term is not None else 0)
        self._file.keep(replace(kept, number=number))
        return Term(number, self._own.node_id, secrets.token_hex(8))

    def open(
        self,
        kind: Kind,
        term: Term,
        watts: float,
        now: float,
        contracts: Iterable[Contract],
        *,
        alone: bool = False,
        book: Handover | None = None,
    ) -> None:
        """Begin, at a reading of ``watts``. ``alone``: nobody else can be drawing from this supply, so there is nothing
        to wait for. ``book``: of the module that had the office until now."""
        before = math.inf if self._resumes_w is None or kind == "own" else self._resumes_w
        self._resumes_w, self.kind, self._known = None, kind, set()
        if kind == "own" or alone:
            self._topology = Topology(self._own.node_id, self._contact_w)
        stack = self._stack(now, everybody=True)
        self.allocator = Allocator(term, stack, watts, now, before, self._timing, contracts)
        if book is None and (alone or kind == "own"):
            book = Handover(term, term.birth, ())
        if book is not None and not self.allocator.handover(book, now):
            _log.warning("the book of %s was refused", book.term.holder)
        _log.info(
            "this module shares out %s of %g W, term %d",
            "its supply" if kind == "stack" else "its battery",
            watts,
            term.number,
        )
        self._keep(now)

    def close(self, now: float, unplugged: bool) -> None:
        """``unplugged``: the supply is gone, and with it all that was granted."""
        allocator, self.allocator = self.allocator, None
        if allocator is None:
            return
        if self.kind == "stack":
            if unplugged:
                allocator.supply(None, now)
            self._file.keep(replace(self._file.kept, bound_w=None))
        _log.info("this module shares out no supply any more")

    @property
    def contacts(self) -> tuple[Link, ...]:
        """What touches what in this stack, as far as is known here."""
        return self._topology.contacts

    def see(self, cluster: Cluster, faces: Faces | None, at: float, alone: bool) -> None:
        """Who touches whom, whoever has the office: at every look, before anything else."""
        serves = self.allocator is not None or self._resumes_w is not None
        self._topology.look(() if alone else cluster.links, faces, keep=serves)
        there = {node.id for node in cluster.nodes}
        if alone:
            self._loose = {}
        elif not self._topology.unexplained(self._own.node_id):  # else whoever is silent may still be behind that face
            self._loose = {one: last for one, last in self._loose.items() if one in there or at - last < LOOSE_S}
        for node in self._loaded.keys() - {self._own.node_id, *self._topology.attached(self._loose)}:
            del self._loaded[node]  # who comes back speaks for itself anew
            self.modules.pop(node, None)

    def look(self, watts: float | None, at: float) -> bool:
        """What was read from ``at`` on. ``watts`` None: the supply does not say; without a word nothing is granted.

        Whether contracts have ended: the plan is another one then."""
        if self.allocator is None:
            return False
        held = self.allocator.contracts
        self._known |= {contract.id for contract in held}
        if watts is not None:
            self.allocator.supply(watts, at)
        self.allocator.voltage(True, at)
        self.allocator.contracts = in_force(self.allocator.contracts, at)
        for contract in held:
            if contract not in self.allocator.contracts:
                _log.info("power contract %s of %s has ended", contract.id, contract.node_id)
        self._restack(at)
        self._keep(at)
        return self.allocator.contracts != held

    def request(self, request: PowerRequest, module: Module, now: float) -> PowerGrant | None:
        """A node's heartbeat; who sent it is authenticated, and in the cluster. What is granted is on disk already."""
        if self.allocator is None:
            return None
        node = request.node_id
        self.modules[node], self._loaded[node] = module, request.loaded
        self._members[node] = Member(node, module.floor_w, module.peak_w, tuple(sorted(module.steps_w)))
        if node != self._own.node_id:
            sides: tuple[tuple[Side, bool | None], ...] = (("top", module.top), ("bottom", module.bottom))
            faces: Faces = {side: on for side, on in sides if on is not None}
            self._topology.said(node, faces)
            if node not in self._topology.attached() and (not faces or any(faces.values())):
                self._loose[node] = now
            else:
                self._loose.pop(node, None)
        self._restack(now)
        grant = self.allocator.request(request, now)
        self._keep(now)
        return grant

    def adopt(self, promises: Iterable[Promise], now: float) -> None:
        """Contracts that others know of, made in an office before this one. What ended in this one stays so."""
        if self.allocator is None:
            return
        for one in promises:
            has = any(contract.node_id == one.node_id for contract in self.allocator.contracts)
            if one.id not in self._known and not has and one.left_s > 0:
                with contextlib.suppress(ThoxError):  # its node is not there yet, or it cannot be carried now
                    self.allocator.ask(one.contract(now), now)
                    self._known.add(one.id)
                    _log.info("power contract %s of %s goes on", one.id, one.node_id)

    def takeover(self, question: Takeover, now: float) -> Handover | None:
        """From the module that feeds the stack now. That this one has let go is on disk before the answer goes out."""
        if self.allocator is None or self.kind != "stack":
            return None
        self.allocator.release()
        answer = self.allocator.takeover(question, now)
        if answer is not None:
            self._file.keep(replace(self._file.kept, bound_w=None))
            _log.info("the book goes to %s", question.term.holder)
        return answer

    def _restack(self, now: float) -> None:
        allocator = self.allocator
        assert allocator is not None, "only an open office has a stack"
        stack = self._stack(now, everybody=allocator.is_quiet(now))
        if (stack.members, stack.contacts) != (allocator.stack.members, allocator.stack.contacts):
            allocator.set_stack(stack, now)
            if self.kind == "stack":
                self._file.keep(replace(self._file.kept, members=stack.members, contacts=self._topology.contacts))

    def _stack(self, now: float, everybody: bool) -> Stack:
        """Who counts: all that were counted and are there still; newcomers when they have spoken, or after a while. So
        do those that only a closed face tells of, at once where watts are free for them: most often it is a newcomer
        whose tag is about to be read, and nobody is to come down for that."""
        if self.kind == "own":
            return Stack((self._own,))
        unheard = [f"unheard-{number}" for number in range(1, self._topology.unheard(self._loose) + 1)]
        loose = (*self._loose, *unheard)
        attached = self._topology.attached(loose)
        self._noticed = {node: self._noticed.get(node, now) for node in attached}
        counted = self.allocator.ledger.entries if self.allocator is not None else {}
        free_w = self.allocator.free_w(now) if unheard and self.allocator is not None else 0.0
        members, dark = [], set()
        for node in (self._own.node_id, *(one for one in attached if one != self._own.node_id)):
            spoken = node in self._loaded
            if node in counted or everybody or spoken or now - self._noticed[node] > self._timing.hold_s:
                members.append(self._member(node))
                if spoken and not self._loaded[node]:
                    dark.add(node)
            elif node in unheard and self._own.floor_w <= free_w:
                free_w -= self._own.floor_w
                members.append(self._member(node))
        return Stack(tuple(members), self._topology.limits(loose), dark=frozenset(dark))

    def _member(self, node: str) -> Member:
        """Of whom nothing is known it is assumed that it is like this module."""
        return self._members.get(node) or Member(node, self._own.floor_w, self._own.peak_w)

    def _keep(self, now: float) -> None:
        """Term and bound, before the next message goes out."""
        allocator, kept = self.allocator, self._file.kept
        assert allocator is not None, "only an open office has a term"
        if self.kind == "own":
            return
        bound: float | None = None
        if not allocator.retired:
            bound = allocator.bound_w(now)
            if not math.isfinite(bound):
                bound = None
            elif kept.bound_w is not None and 0.9 * kept.bound_w < bound <= kept.bound_w:
                bound = kept.bound_w  # readings that wander wear no disk out
        self._file.keep(replace(kept, number=max(kept.number, allocator.term.number), bound_w=bound))
