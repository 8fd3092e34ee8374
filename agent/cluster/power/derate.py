"""How far the supply is derated after an alert, and how it comes back. Pure.

An alert says that the supply gives less than was believed. Each takes one step off; a step comes back after the
supply has been good without a break for a while, one at a time. Each alert that comes before the last one is forgotten
doubles that while, so a supply that fails under load is tried ever more rarely, and noise changes little.
"""

from __future__ import annotations

STEP = 0.15  # of the supply
MOST = 4  # steps
FIRST_WAIT_S = 10.0
LONGEST_WAIT_S = 1280.0
FORGIVEN_S = 600.0  # at full supply without an alert: the next one counts as the first


class Derating:
    """Counts alerts and good times. ``factor``: the part of the supply that may be shared out."""

    def __init__(self) -> None:
        self._steps = 0
        self._wait_s = 0.0
        self._good_since: float | None = None

    @property
    def factor(self) -> float:
        return 1 - STEP * self._steps

    @property
    def wait_s(self) -> float:
        """How long the supply must be good before the next step comes back."""
        return self._wait_s

    def alert(self) -> None:
        """The alert line was pulled by somebody who found the voltage too low or the current too high."""
        self._steps = min(MOST, self._steps + 1)
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s) if self._wait_s else FIRST_WAIT_S
        self._good_since = None

    def look(self, good: bool, now: float) -> None:
        """``good``: no alert, and the voltage is above the upper threshold; below it, the waiting begins anew."""
        if not good:
            self._good_since = None
            return
        if self._good_since is None:
            self._good_since = now
        if self._steps and now - self._good_since >= self._wait_s:
            self._steps -= 1
            self._good_since = now
        elif not self._steps and now - self._good_since >= FORGIVEN_S:
            self._wait_s = 0.0
