"""The helper process of an NFC reader, seen from the agent: start it, take its lines, end it.

The helper is trusted no further than a pipe: what it says is bounded and checked, and whoever listens waits for a
bounded time. What is no event is a HelperError, after which the process has to be ended.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from hal.base import HardwareError

MAX_LINE = 16_384  # a tag's 868 bytes in hex, several times over
END_S = 5.0  # SIGKILL takes effect at once, unless the process hangs in the kernel


class HelperError(HardwareError):
    """The helper ended, hangs, talks nonsense, or cannot use the reader; ``state`` is what that makes of the part."""

    def __init__(self, message: str, state: Literal["fault", "missing", "restarting"] = "restarting") -> None:
        super().__init__(message)
        self.state = state


def helper_command(device: str) -> list[str]:
    """How to start the helper for the PN532 behind ``device``, a path such as /dev/thox-nfc0.

    It runs by its path and isolated: no module of the working directory, the environment or hal can get in its way.
    """
    return [sys.executable, "-I", str(Path(__file__).with_name("nfc_helper.py")), device]


class HelperProcess:
    """One run of the helper. Raises OSError when it cannot be started."""

    def __init__(self, command: Sequence[str]) -> None:
        # A session of its own: Ctrl-C in a terminal is the agent's business. It ends when its stdin does.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def event(self, timeout: float) -> Mapping[str, object] | None:
        """The next thing it says; None when the time is up. Raises HelperError when it ended, or says nonsense."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise HelperError("the helper's lines have no end")
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            arrived = os.read(self._out, 4096)
            if not arrived:
                raise HelperError(f"the helper ended{self._status()}")
            self._buffer += arrived
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise HelperError("the helper said no JSON") from error
        if not isinstance(said, dict) or not isinstance(said.get("event"), str):
            raise HelperError("the helper said no event")
        return said

    def end(self) -> None:
        """Kill it, whatever it does; it keeps nothing that could be lost."""
        self._process.kill()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise HelperError("the helper cannot be killed: its device hangs in the kernel", "fault") from error

    def __enter__(self) -> HelperProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def _status(self) -> str:
        try:
            status = self._process.wait(1.0)  # it has closed its stdout; give it the moment to be gone
        except subprocess.TimeoutExpired:
            return ""
        return f" by signal {-status}" if status < 0 else f" with status {status}"
