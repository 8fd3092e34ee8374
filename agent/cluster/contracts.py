"""The power contracts of this node, in force: decided by the pure rules, held to by the hardware, ended in time.

Until the first contract the cap stays where the board came up. From then on it follows what is granted: the share of
the contract in force, and the floor once there is none. While a contract is in force the cap's dead man's switch is
fed: should this process end or hang, the module falls to its floor by itself. An alert holds it at the floor whatever
is granted, and derates the supply for a while (agent/cluster/alert.py).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.cluster.alert import PowerAlert
from agent.cluster.power import Budget, Contract, Member, Priority, admit, bearable, explain, in_force, share
from agent.errors import NotFoundError, RequestError, UnavailableError
from hal.base import Hardware, HardwareError, Reading

log = logging.getLogger(__name__)

LOOK_S = 5.0  # how often to look whether the supply still gives what it gave
FEED_S = 15.0  # that the cap keeps its step without a word from here; three looks
_SLACK_W = 1e-6  # of sums of floats


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants for a node. ``ttl_s``: for how long, from now."""

    node_id: str
    requested_w: float
    min_w: float
    priority: Priority
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A contract as it stands now."""

    contract: Contract
    granted_w: float
    floor_w: float
    applied_w: float  # the worst watts of the step that the cap took: at most what is granted, but for a fault
    supply_w: float | None  # None: the supply does not say
    left_s: float
    reason: str


class PowerContracts:
    """Makes, shows and ends contracts. Thread-safe; one thread of its own watches their time and the supply."""

    def __init__(self, node_id: str, hardware: Hardware, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_id, self._hardware, self._clock = node_id, hardware, clock
        self._changed = threading.Condition()
        self._held: tuple[Contract, ...] = ()
        self._asked: float | None = None  # W that the cap was last told to keep to
        self._taken = 0.0  # what it answered
        self._came_up = 0.0  # where it stood before it was told anything
        self._managed = False  # there has been a contract
        self._fault = ""
        self._closed = False
        self._alert = PowerAlert(hardware.alert, self.settle, clock)
        self._thread = threading.Thread(target=self._run, name="power-contracts", daemon=True)

    def start(self) -> None:
        self._alert.start()
        self._thread.start()

    def close(self) -> None:
        self._alert.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)

    @property
    def fault(self) -> str:
        """Why the cap does not keep to what was granted; empty when it does."""
        with self._changed:
            return self._fault

    @property
    def alert(self) -> str:
        """What an alert of the stack does to this node; empty when none does."""
        return self._alert.reason

    def watch_alert(self, raised: bool) -> None:
        """``raised``: the level of the alert line now. The thread that ``start`` starts looks for it by itself."""
        self._alert.look(raised)

    def request(self, ask: Ask) -> Grant:
        """Negotiate a contract. Raises RequestError and NotFoundError for what can never be granted, UnavailableError
        for what cannot be granted now, the supply's or the cap's silence included; the contracts in force then stand.
        """
        with self._changed:
            now = self._clock()
            budget = self._budget()
            if budget is None:
                raise UnavailableError(
                    "the power supply does not say what it gives, so no watts can be promised",
                    retry_after=LOOK_S,
                    hint="check the supply and its cable",
                )
            before = self._held
            contract = Contract(
                f"contract-{secrets.token_hex(6)}",
                ask.node_id,
                ask.requested_w,
                ask.min_w,
                ask.priority,
                now + ask.ttl_s,
            )
            self._held = self._admit(budget, contract, now)
            self._settle(now)
            if self._fault:
                fault, self._held = self._fault, before
                self._settle(now)
                raise UnavailableError(
                    f"the power cap does not follow: {fault}", retry_after=LOOK_S, hint="GET /v1/nodes shows its state"
                )
            self._changed.notify_all()
            return self._grant(contract, budget, now)

    def cancel(self, contract_id: str) -> Contract:
        """End a contract now; its node falls back to its floor. Raises NotFoundError."""
        with self._changed:
            for contract in in_force(self._held, self._clock()):
                if contract.id == contract_id:
                    self._held = tuple(one for one in self._held if one is not contract)
                    self._settle(self._clock())
                    return contract
        raise NotFoundError("there is no such contract in force", hint="GET /v1/power/contract lists those in force")

    def grants(self) -> list[Grant]:
        """The contracts in force."""
        with self._changed:
            now = self._clock()
            self._settle(now)
            budget = self._budget()
            return [self._grant(contract, budget, now) for contract in self._held]

    def settle(self) -> None:
        """End what has expired and hold the cap to what is granted now."""
        with self._changed:
            self._settle(self._clock())

    def _admit(self, budget: Budget, contract: Contract, now: float) -> tuple[Contract, ...]:
        """Raises as ``request`` does: what an alert alone forbids may be granted later."""
        retry_after = self._alert.wait_s
        if self._alert.at_floor:
            raise UnavailableError(self._alert.reason, retry_after=retry_after, hint="GET /v1/health shows the alert")
        try:
            return admit(budget, self._held, contract, now)
        except RequestError as error:
            if self._alert.factor == 1:
                raise
            admit(replace(budget, supply_w=budget.supply_w / self._alert.factor), self._held, contract, now)
            raise UnavailableError(
                f"{self._alert.reason}: {error}", retry_after=retry_after, hint=error.hint
            ) from error

    def _settle(self, now: float) -> None:
        if self._alert.at_floor:
            self._apply(self._hardware.cap.floor_w)  # before anything is asked of a supply that gives way
        held = in_force(self._held, now)
        budget = self._budget()
        if budget is not None:
            held = bearable(budget, held)
        for contract in self._held:
            if contract not in held:
                log.info("power contract ended", extra={"contract": contract.id})
        self._held = held
        self._managed = self._managed or bool(held)
        if held:
            self._feed(min(FEED_S, max(contract.expires_at for contract in held) - now))
        if self._managed or self._asked is not None or self._alert.factor < 1:
            self._apply(self._share(budget))
        if not self._managed and not self._alert.reason:
            self._asked = None  # it stands where it came up again

    def _share(self, budget: Budget | None) -> float:
        """What this node may draw. Without a word from the supply: no more than it cannot do without."""
        cap = self._hardware.cap
        if budget is None or self._alert.at_floor:
            return cap.floor_w
        if not self._managed:  # an alert alone holds it down
            return self._came_up if self._alert.factor == 1 else max(cap.floor_w, min(self._came_up, budget.supply_w))
        return share(budget, self._held)[self._node_id]

    def _apply(self, watts: float) -> None:
        try:
            if self._asked is None:
                self._came_up = self._hardware.cap.applied()
            if watts == self._asked and not self._fault and self._hardware.cap.applied() == self._taken:
                return  # else whatever holds the cap was restarted, or not fed in time, or somebody else moved it
            self._taken = taken = self._hardware.cap.apply(watts)
        except HardwareError as error:
            self._fault = str(error)
        else:
            over = taken > watts + _SLACK_W
            self._fault = f"it stands at {taken:g} W, and {watts:g} W are granted" if over else ""
        if self._fault:
            log.warning("the power cap does not follow: %s", self._fault)
        self._asked = watts

    def _feed(self, ttl_s: float) -> None:
        try:
            self._hardware.cap.feed(ttl_s)
        except HardwareError as error:
            log.warning("the power cap's dead man's switch cannot be fed: %s", error)

    def _grant(self, contract: Contract, budget: Budget | None, now: float) -> Grant:
        cap = self._hardware.cap
        watts = self._share(budget)
        return Grant(
            contract=contract,
            granted_w=watts,
            floor_w=cap.floor_w,
            applied_w=cap.applied(),
            supply_w=None if budget is None else budget.supply_w,
            left_s=max(0.0, contract.expires_at - now),
            reason=self._why(contract, budget, watts),
        )

    def _why(self, contract: Contract, budget: Budget | None, watts: float) -> str:
        if budget is None:
            return "the supply does not say what it gives"
        return self._alert.reason or explain(budget, contract, watts)

    def _budget(self) -> Budget | None:
        """This node alone, on its own supply; None when the supply does not say what it gives."""
        reading = available(self._hardware)
        if reading is None or reading.value is None:
            return None
        cap = self._hardware.cap
        return Budget(reading.value * self._alert.factor, (Member(self._node_id, cap.floor_w, cap.peak_w),))

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = self._clock()
                self._settle(now)
                ends = min((contract.expires_at for contract in self._held), default=now + LOOK_S)
                self._changed.wait(max(0.01, min(LOOK_S, ends - now)))


def available(hardware: Hardware) -> Reading | None:
    """W that the supply gives; None when it does not answer at all."""
    try:
        return hardware.supply.available()
    except HardwareError:
        return None
