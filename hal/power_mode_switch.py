"""NVIDIA's tool for power modes, run beside everything else: a mode takes seconds, and caps must not wait for it."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

NVPMODEL = "/usr/sbin/nvpmodel"
PATIENCE_S = 10.0


class ModeSwitch:
    """One mode at a time; of those asked for meanwhile the last one follows. For one thread.

    What the tool says is not believed, so failures are only logged; a question whether to reboot gets no answer.
    """

    def __init__(self, program: str = NVPMODEL, clock: Callable[[], float] = time.monotonic) -> None:
        self._program, self._clock = program, clock
        self._running: subprocess.Popen[bytes] | None = None
        self._mode: int | None = None  # that is being set
        self._next: int | None = None
        self._until = 0.0

    @property
    def runs(self) -> bool:
        return self._running is not None

    def ask(self, mode: int) -> None:
        if self._running is None:
            self._start(mode)
        else:
            self._next = None if mode == self._mode else mode

    def tend(self) -> bool:
        """To be called often while it runs. Whether a mode has just been set, or tried."""
        if self._running is None:
            return False
        if self._running.poll() is None:
            if self._clock() < self._until:
                return False
            log.error("power mode %s: the tool does not end", self._mode)
            self._running.kill()
        code = self._running.wait()
        if code > 0:
            log.error("power mode %s: the tool says %d", self._mode, code)
        self._running, following, self._next = None, self._next, None
        if following is not None:
            self._start(following)
        return True

    def close(self) -> None:
        """Nothing of it is left running."""
        self._next = None
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def _start(self, mode: int) -> None:
        quiet = subprocess.DEVNULL
        try:
            self._running = subprocess.Popen(
                [self._program, "-m", str(mode)], stdin=quiet, stdout=quiet, stderr=quiet, env={}
            )
        except OSError as error:
            log.error("the power mode was not switched: %s", error)
            return
        self._mode, self._until = mode, self._clock() + PATIENCE_S
