"""The power contracts of this node, in force: decided by the pure rules, held to by the hardware, ended in time.

Until the first contract the cap stays where the board came up. From then on it follows what is granted: the share of
the contract in force, and the floor once there is none.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.cluster.power import Budget, Contract, Member, Priority, admit, bearable, explain, in_force, share
from agent.errors import NotFoundError, UnavailableError
from hal.base import Hardware, HardwareError, Reading

log = logging.getLogger(__name__)

LOOK_S = 5.0  # how often to look whether the supply still gives what it gave
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
        self._fault = ""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="power-contracts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
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
            self._held = admit(budget, before, contract, now)
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

    def _settle(self, now: float) -> None:
        held = in_force(self._held, now)
        budget = self._budget()
        if budget is not None:
            held = bearable(budget, held)
        for contract in self._held:
            if contract not in held:
                log.info("power contract ended", extra={"contract": contract.id})
        self._held = held
        if held or self._asked is not None:
            self._apply(self._share(budget))

    def _share(self, budget: Budget | None) -> float:
        """What this node may draw. Without a word from the supply: no more than it cannot do without."""
        return self._hardware.cap.floor_w if budget is None else share(budget, self._held)[self._node_id]

    def _apply(self, watts: float) -> None:
        if watts == self._asked and not self._fault:
            return
        try:
            taken = self._hardware.cap.apply(watts)
        except HardwareError as error:
            self._fault = str(error)
        else:
            over = taken > watts + _SLACK_W
            self._fault = f"it stands at {taken:g} W, and {watts:g} W are granted" if over else ""
        if self._fault:
            log.warning("the power cap does not follow: %s", self._fault)
        self._asked = watts

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
            reason="the supply does not say what it gives" if budget is None else explain(budget, contract, watts),
        )

    def _budget(self) -> Budget | None:
        """This node alone, on its own supply; None when the supply does not say what it gives."""
        reading = available(self._hardware)
        if reading is None or reading.value is None:
            return None
        cap = self._hardware.cap
        return Budget(reading.value, (Member(self._node_id, cap.floor_w, cap.peak_w),))

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
