"""Holds this module's cap and load switch to what the power contract allows, and reads back what they really took."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hal.base import Hardware, HardwareError, answer_of

_log = logging.getLogger(__name__)

_SLACK_W = 1e-6  # of sums of floats


class PowerHold:
    """Thread-safe. Until ``keep`` is called the cap is its owner's, and so it is again some time after ``leave``.

    While the dead man's switch is fed the module falls to its floor by itself, should this process end or hang.
    """

    def __init__(self, hardware: Hardware, clock: Callable[[], float], came_up_w: float | None = None) -> None:
        """``came_up_w``: where the cap stood before an earlier run held it; None: none did, it stands there now."""
        self._hardware, self._clock = hardware, clock
        self._lock = threading.Lock()
        self._came_up = came_up_w
        self._asked: float | None = None  # W that the cap was last told to keep to
        self._taken = 0.0  # what it answered
        self._fed_until = float("-inf")
        self._dropped = False
        self.fault = ""  # why the cap does not keep to what it was told; empty when it does

    def came_up_w(self) -> float | None:
        """Where the cap stood before it was held: what its owner wants of it. None: it does not answer."""
        with self._lock:
            return self.applied_w() if self._came_up is None else self._came_up

    def applied_w(self) -> float | None:
        """Worst W of the step that the cap stands at; None: it does not answer."""
        return answer_of(self._hardware.cap.applied)

    @property
    def held_w(self) -> float | None:
        """Where its owner had the cap; None: it stands there."""
        return self._came_up

    def drop(self) -> None:
        """To the floor now, and no higher before ``lift``."""
        with self._lock:
            self._dropped = True
            self._apply(0.0)

    def lift(self) -> None:
        with self._lock:
            self._dropped = False

    def keep(self, watts: float, feed_s: float | None) -> None:
        """No more than ``watts``, and only for ``feed_s`` unless it is fed anew; None: until another word."""
        with self._lock:
            self._apply(0.0 if self._dropped else watts)
            if feed_s is not None:
                self._feed(max(0.0, feed_s))

    def leave(self) -> None:
        """Back to where its owner had it; only look from then on."""
        with self._lock:
            if self._came_up is None or self._dropped:
                return
            self._apply(self._came_up)
            if not self.fault and self._clock() > self._fed_until:  # the dead man's switch acts no more
                self._came_up = self._asked = None

    def switch(self, on: bool) -> None:
        """The load switch."""
        try:
            if self._hardware.load_switch.enabled() != on:
                _log.info("load switch %s", "on" if on else "off")
                self._hardware.load_switch.enable(on)
        except HardwareError as error:  # its part's state says so, too
            _log.warning("the load switch does not follow: %s", error)

    def _apply(self, watts: float) -> None:
        cap, fault = self._hardware.cap, ""
        try:
            if self._came_up is None:
                self._came_up = cap.applied()
            if watts == self._asked and not self.fault and cap.applied() == self._taken:
                return  # else whatever holds the cap was restarted, or not fed in time, or somebody else moved it
            self._taken = taken = cap.apply(watts)
            if taken > max(watts, cap.floor_w) + _SLACK_W:
                fault = f"it stands at {taken:g} W, and {watts:g} W are granted"
        except HardwareError as error:
            fault = str(error)
        if fault and fault != self.fault:
            _log.warning("the power cap does not follow: %s", fault)
        self.fault, self._asked = fault, watts

    def _feed(self, ttl_s: float) -> None:
        try:
            self._hardware.cap.feed(ttl_s)
            self._fed_until = self._clock() + ttl_s
        except HardwareError as error:
            _log.warning("the power cap's dead man's switch cannot be fed: %s", error)
