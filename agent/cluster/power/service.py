"""The power contract at work in one node: its heartbeat, its cap and load switch, its alert line, and what it answers.

What it is in its stack, and what it may draw, is decided in seat.py, node.py and allocator.py; here are the threads,
the hardware and the links. Until a module's first contract, and while it stands alone on a supply that carries it, its
cap stays where its owner has it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.cluster.fields import read
from agent.cluster.link.frames import Json
from agent.cluster.link.peers import Links
from agent.cluster.power.alert import PowerAlert
from agent.cluster.power.hold import PowerHold
from agent.cluster.power.look import Look, look
from agent.cluster.power.messages import Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.rules import Member
from agent.cluster.power.seat import PowerSeat
from agent.cluster.power.steps import whole_mw_up
from agent.cluster.power.store import PowerFile
from agent.cluster.power.wire import (
    MODULE,
    PROMISES,
    message_from_json,
    message_to_json,
    promise,
    to_json,
)
from agent.cluster.state import Cluster
from agent.errors import RequestError, ThoxError
from hal.base import Hardware, HardwareError

PURPOSE: Final = "power"
CONTACT_W: Final = 100.0  # that each contact of the stack carries
LOOK_S: Final = 0.2  # between looks; two fit into the time for which a reading counts
PULL_LOOK_S: Final = 0.05  # while this module pulls the alert line, or is to take an office over
ASK_S: Final = 1.0  # for an answer; three fit into a lease
ECHO_S: Final = 1.0  # how late this module may hear of its own pulse
FEED_S: Final = 15.0  # the longest that a cap keeps its step without a word from here

_log = logging.getLogger(__name__)


class PowerService:
    """Thread-safe. Threads of its own from ``start`` to ``close``; ``step`` is one turn of theirs.

    ``seat`` is for whoever holds ``lock``.
    """

    def __init__(
        self,
        state_dir: Path,
        node_id: str,
        hardware: Hardware,
        cluster: Callable[[], Cluster],
        links: Links,
        clock: Callable[[], float] = time.monotonic,
        contact_w: float = CONTACT_W,
    ) -> None:
        steps = tuple(map(whole_mw_up, hardware.cap.steps_w))
        self.member = Member(node_id, steps[0], steps[-1], steps)
        self._hardware, self.cluster, self.links, self.clock = hardware, cluster, links, clock
        self._file = PowerFile(state_dir)
        self.hold = PowerHold(hardware, clock, self._file.kept.came_up_w)
        self.lock = threading.RLock()
        self.seat = PowerSeat(self.member, self._file, contact_w, self._look())
        self._pulled, self._let_go_at = False, -math.inf
        self._turning = threading.Lock()  # one look is decided by before the next
        self._enforcing = threading.Lock()
        self._hearing = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._alert = PowerAlert(hardware.alert, self.hear)
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)
        links.serve(PURPOSE, self._answer)

    def start(self) -> None:
        self._alert.start()
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._alert.close()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._pull(False)

    def wake(self) -> None:
        """Look at once: something changed."""
        self._wake.set()

    # --- what it tells -----------------------------------------------------------------------------------------------

    @property
    def fault(self) -> str:
        """Why the cap does not keep to what was granted; empty when it does."""
        return self.hold.fault

    @property
    def alert(self) -> str:
        """What an alert of the stack does to this node; empty when none does."""
        with self.lock:
            allocator = self.seat.office.allocator
            if self._pulled and allocator is not None and allocator.is_quiet(self.clock()):
                return "this module has just taken over the supply: the stack is held at its floors for some seconds"
            if self._pulled:
                return "the supply gives less than was granted: the stack is held at its floors for a moment"
            if self.seat.raised:
                return "the alert line is pulled: the module is held at its floor"
            factor = 1.0 if allocator is None else allocator.derating.factor
            return "" if factor == 1 else f"after an alert {factor:.0%} of the supply are shared out"

    @property
    def trouble(self) -> str:
        """What is wrong with the power contract of this node; empty when nothing is."""
        with self.lock:
            return self.seat.trouble(self.clock())

    @property
    def pulling(self) -> bool:
        """Whether this module pulls the alert line."""
        return self._pulled

    @property
    def pause_s(self) -> float:
        """Until the next turn."""
        return PULL_LOOK_S if self.pulling or self.seat.candidate else LOOK_S

    # --- one turn ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Look, decide, act, and ask whoever has the office, which may take ASK_S."""
        self.settle()
        with self.lock:
            candidate, due = self.seat.candidate, self.seat.is_due(self.clock())
        if candidate is not None:
            self._ask_for_book(candidate[0], candidate[1])
        elif due:
            self._beat()
        else:
            return
        self.settle()

    def settle(self) -> None:
        """Look and decide, and hold the hardware to it. Asks nobody."""
        with self._turning:
            seen, cluster = self._look(), self.cluster()
            with self.lock:
                self.seat.decide(seen, cluster)
                self.seat.ask_myself(self.clock())
                allocator = self.seat.office.allocator
                pulls = allocator is not None and allocator.pulls(self.clock())
            self._pull(pulls)
            with contextlib.suppress(HardwareError):  # its part's state says so; what is not heard raises no alert
                self.hear(False)
        self.enforce()

    def ask_again(self) -> None:
        """Take at once what a new plan gives this node, where it has the office itself. Then ``enforce``."""
        with self.lock:
            self.seat.ask_myself(self.clock(), at_once=True)

    def hear(self, pulse: bool) -> None:
        """The alert line: its level is what it is now; ``pulse``: it was raised, and that may be over. Raises
        HardwareError."""
        if pulse:
            self.hold.drop()  # before anything else
        with self._hearing:
            raised, now = self._hardware.alert.raised(), self.clock()
            own = self._pulled or (pulse and not raised and now - self._let_go_at < ECHO_S)
            for level in (True, False) if pulse and not raised else (raised,):
                if level:
                    self.hold.drop()
                with self.lock:
                    changed = level != self.seat.raised
                    self.seat.hear(level, now, own)
                if changed and level and not own:
                    _log.warning("the power alert line is pulled: down to the floor")
                if changed:
                    self._wake.set()
            if not raised:
                self.hold.lift()

    def enforce(self) -> None:
        """Hold cap and load switch to what is allowed now."""
        with self._enforcing:
            with self.lock:
                seat, now = self.seat, self.clock()
                node = seat.node
                allowed, ends, free = node.allowed(now), node.ends(now), seat.is_free(now)
                shared = seat.state != "alone" or seat.contracted
                feed = min(FEED_S, ends - now) if ends is not None and shared else None
                on: bool | None = node.loaded
                if seat.state == "alone" or seat.kind == "own":
                    on = False
                elif seat.state == "unfed":
                    on = None  # somebody may feed it still
            if on is False:
                self.hold.switch(False)
            if free:
                self.hold.leave()
            else:
                self.hold.keep(allowed, feed)
            if on:
                self.hold.switch(True)
            self._keep_owners_step(armed=feed is not None and not free)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self.step()
            except HardwareError as error:
                _log.warning("power: %s", error)
            except Exception:  # noqa: BLE001 - the top of the thread: without it the module would stay at its floor
                _log.exception("the power contract goes on after an error")
            self._wake.wait(self.pause_s)
            self._wake.clear()

    # --- messages ----------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        with self.lock:
            seat, holder = self.seat, self.seat.holder
            now = self.clock()
            known = [to_json(promise(one, now)) for one in seat.contracts if one.expires_at > now]
            request = message_to_json(seat.request(now))
            body = {"message": request, "module": to_json(seat.module()), "contracts": known}
        try:
            answer = self.links.ask(holder, PURPOSE, body, ASK_S)
            message = None if answer.get("message") is None else message_from_json(answer["message"])
            promises = None if answer.get("contracts") is None else read(PROMISES, answer["contracts"])
        except ThoxError as error:
            _log.debug("%s gives no watts: %s", holder, error)
            return
        # Only the module that was asked may grant, and only in a term of its own.
        grant = message if isinstance(message, PowerGrant) and message.term.holder == holder else None
        with self.lock:
            now = self.clock()
            if self.seat.holder == holder:
                held = None if promises is None else tuple(one.contract(now) for one in promises)
                self.seat.answered(grant, held, now)

    def _ask_for_book(self, term: Term, earlier: str) -> None:
        body, book = {"message": message_to_json(Takeover(term))}, None
        try:
            answer = self.links.ask(earlier, PURPOSE, body, ASK_S)
            waits = answer.get("office") is True  # it has not noticed yet that another module feeds the stack
            book = None if answer.get("message") is None else message_from_json(answer["message"])
        except ThoxError as error:
            _log.info("%s does not hand its book on: %s", earlier, error)
            waits = False
        seen = self._look()
        with self.lock:
            if isinstance(book, Handover) and book.term.holder == earlier:
                self.seat.take_book(book, seen)
            elif not waits:
                self.seat.give_up(term)

    def _answer(self, node: str, body: object) -> Json:
        """What another node asks. Raises RequestError for anything but a message of that node's own."""
        fields = body if isinstance(body, dict) else {}
        message, cluster = message_from_json(fields.get("message")), self.cluster()
        if all(node != one.id for one in cluster.nodes):
            raise RequestError("you are in no cluster with this node", hint="it may take a moment")
        if isinstance(message, PowerRequest) and message.node_id == node:
            module, known = read(MODULE, fields.get("module")), read(PROMISES, fields.get("contracts"))
            if module.floor_w > module.peak_w:
                raise RequestError("a floor is no higher than the peak", param="floor_w")
            with self.lock:
                now, office = self.clock(), self.seat.office
                if not self.seat.serves or office.allocator is None:
                    return {"message": None, "contracts": None}
                office.adopt(known, now)
                grant, held = office.request(message, module, now), office.allocator.contracts
                return {
                    "message": None if grant is None else message_to_json(grant),
                    "contracts": [to_json(promise(one, now)) for one in held if one.expires_at > now],
                }
        if isinstance(message, Takeover) and message.term.holder == node:
            with self.lock:
                feeds = self.seat.feeds(node, cluster)
                book = self.seat.office.takeover(message, self.clock()) if feeds else None
                return {"message": None if book is None else message_to_json(book), "office": self.seat.kind == "stack"}
        raise RequestError("this message is not for you to send", hint="each node speaks for itself")

    # --- the hardware ------------------------------------------------------------------------------------------------

    def _look(self) -> Look:
        return look(self._hardware, self.clock, self.hold.came_up_w())

    def _keep_owners_step(self, armed: bool) -> None:
        """Where the cap stood is on disk while the dead man's switch may move it without this process."""
        with self.lock:
            kept, held_w = self._file.kept, self.hold.held_w
            if armed and kept.came_up_w is None:
                self._file.keep(replace(kept, came_up_w=held_w))
            elif held_w is None and kept.came_up_w is not None:
                self._file.keep(replace(kept, came_up_w=None))

    def _pull(self, pulled: bool) -> None:
        if pulled == self._pulled:
            return
        with self._hearing:  # who hears the line knows who pulls it
            self._pulled, self._let_go_at = pulled, self.clock()
            try:
                self._hardware.alert.pull(pulled)
            except HardwareError as error:
                _log.error("the alert line cannot be pulled: %s", error)
