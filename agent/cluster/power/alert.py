"""PWR_ALERT#: one open-drain line through the whole stack, heard in one thread.

Any module pulls it when the supply's voltage gives way or a contact carries too much. Nobody is asked then: messages
would come too late. What it does is decided by who is told (``PowerService.hear``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hal.base import AlertLine, HardwareError

_log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often the level is looked at besides: a line may be pulled when we come, and be read as broken


class PowerAlert:
    """Tells ``told`` the level at its every change and look, in its own thread."""

    def __init__(self, line: AlertLine, told: Callable[[bool], None]) -> None:
        self._line, self._told = line, told
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-alert", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._line.wait(LOOK_S):  # as told: a pulse may be over by now
                    self._told(True)
                self._told(self._line.raised())
            except HardwareError:  # its part's state says so; a line that is not heard raises no alert
                self._closed.wait(LOOK_S)
            except Exception:  # noqa: BLE001 - the top of the thread: an alert that is not heard costs the stack its power
                _log.exception("the alert line is heard on after an error")
                self._closed.wait(LOOK_S)
