"""Contracts as clients see them: asked for, shown and given back at any node, and done where the supply is plugged in.

Where no supply is plugged into the stack, each module is asked for what it draws from its own battery.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from agent.cluster.fields import Check, read
from agent.cluster.link.frames import Json, LinkError
from agent.cluster.power.allocator import Allocator
from agent.cluster.power.rules import Contract, admit, explain, in_force
from agent.cluster.power.service import PowerService
from agent.cluster.power.wire import ASK, BOOK, GRANT, Ask, Book, Grant, Share, promise, to_json
from agent.cluster.trust.identity import TrustError
from agent.errors import NotFoundError, RequestError, UnavailableError

T = TypeVar("T", Grant, Book)

PURPOSE: Final = "power-contract"
FORWARD_S: Final = 3.0
RETRY_S: Final = 2.0
_NO_CONTRACT: Final = "there is no such contract in force"
_LIST: Final = "GET /v1/power/contract lists those in force"


@dataclass(frozen=True, slots=True)
class Standing:
    """This module's own cap."""

    node_id: str
    cap_w: float | None
    floor_w: float
    peak_w: float


class PowerContracts:
    """Thread-safe."""

    def __init__(self, power: PowerService) -> None:
        self._power = power
        power.links.serve(PURPOSE, self._answer)

    @property
    def node_id(self) -> str:
        return self._power.member.node_id

    def standing(self) -> Standing:
        member = self._power.member
        return Standing(member.node_id, self._power.hold.applied_w(), member.floor_w, member.peak_w)

    def request(self, ask: Ask) -> Grant:
        """Negotiate a contract. Raises RequestError and NotFoundError for what can never be granted, UnavailableError
        for what cannot be granted now; the contracts in force then stand."""
        if ask.node_id not in self._nodes():
            raise NotFoundError(
                f"the stack has no node {ask.node_id[:80]!r}", hint="GET /v1/topology lists the nodes", param="node_id"
            )
        holder = self._holder() or ask.node_id
        if holder != self.node_id:
            return self._told(GRANT, holder, {"ask": to_json(ask)})
        return self._grant(ask)

    def books(self) -> tuple[Book, ...]:
        """One where a supply feeds the stack; else one of each module that answers. Raises UnavailableError."""
        holder, own = self._holder(), self.node_id
        if holder == own:
            return (self.book(),)
        if holder:
            return (self._told(BOOK, holder, {"list": {}}),)
        books = [self.book()]
        for node in self._nodes() - {own}:
            try:
                books.append(self._told(BOOK, node, {"list": {}}))
            except UnavailableError:  # its battery is its own matter
                continue
        return tuple(books)

    def cancel(self, contract: str) -> str:
        """Give it back now; its node falls back to its floor. Raises NotFoundError, or UnavailableError."""
        holder, own = self._holder(), self.node_id
        for node in (holder,) if holder else (own, *sorted(self._nodes() - {own})):
            try:
                if node == own:
                    return self._cancel(contract)
                self._forward(node, {"cancel": contract})
                return contract
            except (NotFoundError, UnavailableError):
                if holder:
                    raise
        raise NotFoundError(_NO_CONTRACT, hint=_LIST)

    def _nodes(self) -> set[str]:
        return {self.node_id, *(node.id for node in self._power.cluster().nodes)}

    def _holder(self) -> str:
        """Whose office it is; empty: each its own."""
        self._power.settle()
        return self._power.seat.holder

    def _told(self, check: Check[T], node: str, body: Json) -> T:
        answer = self._forward(node, body)
        try:
            return read(check, answer)
        except RequestError as error:  # not our client's fault
            raise UnavailableError(
                f"{node} says what is not understood: {error.message}", retry_after=RETRY_S, hint=error.hint
            ) from error

    def _forward(self, node: str, body: Json) -> Json:
        try:
            return self._power.links.ask(node, PURPOSE, body, FORWARD_S)
        except (LinkError, TrustError) as error:
            raise UnavailableError(
                f"{node}, which shares out the power, cannot be reached: {error.message}",
                retry_after=RETRY_S,
                hint="GET /v1/topology shows who is there; watts are promised by the module at the supply alone",
            ) from error

    def _answer(self, _node: str, body: object) -> Json:
        """What another node forwards, which has asked its client for a key. It is forwarded no further."""
        fields = body if isinstance(body, dict) else {}
        holder = self._holder()
        if holder not in ("", self.node_id):
            raise UnavailableError("this node shares out no supply any more", retry_after=RETRY_S)
        if "ask" in fields:
            return to_json(self._grant(read(ASK, fields["ask"])))
        if "list" in fields:
            return to_json(self.book())
        if isinstance(fields.get("cancel"), str):
            return {"cancelled": self._cancel(fields["cancel"])}
        raise RequestError("not understood", hint="the nodes may run different versions")

    # --- in this node's own office -----------------------------------------------------------------------------------

    def _grant(self, ask: Ask) -> Grant:
        power = self._power
        with power.lock:
            now, allocator = power.clock(), self._office(ask.node_id)
            before = allocator.contracts
            contract = Contract(
                f"contract-{secrets.token_hex(6)}",
                ask.node_id,
                ask.requested_w,
                ask.min_w,
                ask.priority,
                now + ask.ttl_s,
            )
            self._admit(allocator, contract, now)
            power.ask_again()
        if contract.node_id == power.member.node_id:
            power.enforce()
            if power.fault:
                fault = power.fault
                with power.lock:
                    allocator.contracts = before
                    power.ask_again()
                power.enforce()
                raise UnavailableError(
                    f"the power cap does not follow: {fault}", retry_after=RETRY_S, hint="GET /v1/nodes shows its state"
                )
        with power.lock:
            return self._as_it_stands(allocator, contract, power.clock())

    def _office(self, node: str) -> Allocator:
        """Raises UnavailableError while nothing can be promised to that node."""
        power = self._power
        allocator, now = power.seat.office.allocator, power.clock()
        if power.seat.look.supply_w is None:
            raise UnavailableError(
                "the power supply does not say what it gives, so no watts can be promised",
                retry_after=RETRY_S,
                hint="check the supply and its cable",
            )
        if power.seat.raised:
            raise UnavailableError(
                power.alert, retry_after=power.seat.timing.hold_s, hint="GET /v1/health shows the alert"
            )
        if allocator is None or not allocator.has_authority(now):
            raise UnavailableError(
                power.seat.trouble(now) or "no supply is shared out yet",
                retry_after=RETRY_S,
                hint="GET /v1/topology shows who is there, and where a supply is plugged in",
            )
        if all(node != one.node_id for one in allocator.budget(now).members):
            raise UnavailableError(
                f"{node} is not admitted to the supply, or not yet",
                retry_after=RETRY_S,
                hint="GET /v1/power/contract shows what the floors of the stack take; a stronger supply carries more",
            )
        return allocator

    def _admit(self, allocator: Allocator, contract: Contract, now: float) -> None:
        """Raises as ``admit`` does, but that what an alert alone forbids may be granted later."""
        try:
            allocator.ask(contract, now)
        except RequestError as error:
            factor = allocator.derating.factor
            if factor == 1:
                raise
            budget = allocator.budget(now)
            admit(replace(budget, supply_w=budget.supply_w / factor), allocator.contracts, contract, now)
            raise UnavailableError(
                f"{self._power.alert}: {error}", retry_after=allocator.derating.wait_s, hint=error.hint
            ) from error

    def _cancel(self, contract: str) -> str:
        power = self._power
        with power.lock:
            allocator = power.seat.office.allocator
            if allocator is None:
                raise NotFoundError(_NO_CONTRACT, hint=_LIST)
            allocator.contracts = in_force(allocator.contracts, power.clock())
            allocator.cancel(contract)
            power.ask_again()
        power.enforce()
        return contract

    def book(self) -> Book:
        """Of what this module itself shares out."""
        power = self._power
        with power.lock:
            now, allocator = power.clock(), power.seat.office.allocator
            if allocator is None:
                return Book(power.member.node_id, power.seat.look.supply_w, None, (), ())
            contracts = in_force(allocator.contracts, now)
            grants = tuple(self._as_it_stands(allocator, one, now) for one in contracts)
            shares = tuple(self._shares(allocator, now))
            return Book(power.member.node_id, power.seat.look.supply_w, allocator.usable_w(now), grants, shares)

    def _as_it_stands(self, allocator: Allocator, contract: Contract, now: float) -> Grant:
        power, budget, node = self._power, allocator.budget(now), contract.node_id
        members = {one.node_id: one for one in budget.members}
        floor, supply_w = members.get(node, power.member).floor_w, power.seat.look.supply_w
        granted = allocator.plan(now).get(node, 0.0)
        if supply_w is None:
            granted, reason = floor, "the supply does not say what it gives"
        elif node not in members:
            reason = "not admitted: the floors of the stack do not fit into the supply"
        elif power.alert:
            granted, reason = floor if power.seat.raised else granted, power.alert
        else:
            reason = explain(budget, contract, granted)
            if allocator.ledger.exposure(node, now) < granted:
                reason += "; it takes up to three seconds, until others have surely come down"
        return Grant(promise(contract, now), granted, floor, self._applied(node), supply_w, reason)

    def _shares(self, allocator: Allocator, now: float) -> list[Share]:
        members = {one.node_id: one for one in allocator.stack.members}
        return [
            Share(
                node_id=one.node_id,
                planned_w=one.planned_w,
                counted_w=one.counted_w,
                measured_w=self._power.seat.look.measured_w if one.node_id == self.node_id else one.measured_w,
                applied_w=self._applied(one.node_id),
                floor_w=members[one.node_id].floor_w,
                peak_w=members[one.node_id].peak_w,
                admitted=one.loaded,
                silent=one.silent,
            )
            for one in allocator.holdings(now)
        ]

    def _applied(self, node: str) -> float | None:
        if node == self.node_id:
            return self._power.hold.applied_w()
        module = self._power.seat.office.modules.get(node)
        return None if module is None else module.applied_w
