"""What PWR_ALERT# does to this node: its cap falls to the floor at once, and rises again slowly, to less. One thread.

Any module of the stack pulls the line when the supply's voltage gives way or a contact carries too much. Nobody is
asked then: messages would come too late. How far the supply is derated afterwards: ``agent/cluster/power_derate.py``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.cluster.power_derate import Derating
from hal.base import AlertLine, HardwareError

log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often the level is looked at besides: a line may be pulled when we come, and be read as broken
QUIET_S = 3.0  # at the floor after the line was let go: as long as a lease, so that all of the stack have noticed


class PowerAlert:
    """Watches the line and tells ``changed`` of every change of ``reason`` or ``factor``, in its own thread."""

    def __init__(self, line: AlertLine, changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self._line, self._changed, self._clock = line, changed, clock
        self._derating = Derating()
        self._raised = False
        self._quiet_from: float | None = None  # when the line was let go, until QUIET_S after it
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-alert", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    @property
    def at_floor(self) -> bool:
        """Whether this module may draw no more than its floor."""
        return self._raised or self._quiet_from is not None

    @property
    def factor(self) -> float:
        """The part of the supply that may be shared out."""
        return self._derating.factor

    @property
    def wait_s(self) -> float:
        """In how many seconds there may be more watts."""
        return QUIET_S if self.at_floor else self._derating.wait_s

    @property
    def reason(self) -> str:
        """What is the matter, for a person; empty when nothing is."""
        if self._raised:
            return "the alert line is pulled: the module is held at its floor"
        if self._quiet_from is not None:
            return "the alert line was pulled a moment ago: the module is held at its floor"
        return "" if self.factor == 1 else f"after an alert {self.factor:.0%} of the supply are shared out"

    def look(self, raised: bool) -> None:
        """``raised``: the line's level now."""
        before, now = (self.at_floor, self.factor), self._clock()
        if raised and not self._raised:
            self._derating.alert()
            log.warning("the power alert line is pulled: down to the floor")
        if not raised and self._raised:
            self._quiet_from = now
        if raised or (self._quiet_from is not None and now - self._quiet_from >= QUIET_S):
            self._quiet_from = None
        self._raised = raised
        self._derating.look(not raised, now)
        if before != (self.at_floor, self.factor):
            self._changed()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                level = self._line.wait(LOOK_S)
                if level:  # as told: a pulse may be over by now
                    self.look(True)
                self.look(self._line.raised())
            except HardwareError:  # its part's state says so; a line that is not heard raises no alert
                self._closed.wait(LOOK_S)
