"""A World in another process: hands on it, and a module's port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from hal.base import HardwareError, MissingPartError
from hal.world_port import Mailbox
from hal.world_state import Channel, Event, Json, View
from hal.world_wire import LINE_BYTES, VERSION, connect, pack, unpack

ANSWER_S = 5.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0  # between two tries to reach a World that is lost; each wait doubles


class WorldClient:
    """A connection for any number of threads; a thread of its own reads it. As a module it is a Port.

    When the World is lost, every call says so at once and every wait when its time is up, until a World is served there
    again that has the module. It is another World then: what was told to the old one is forgotten.
    """

    def __init__(self, path: Path, module: str | None = None, load: Callable[[], float] | None = None) -> None:
        """Without ``module`` it has hands alone. ``load``: what the module does, where this is its agent.

        Raises HardwareError when there is no World, or no such module.
        """
        self._path, self._module, self._load = path, module, load
        self._numbers = count(1)
        self._answered = threading.Condition()
        self._answers: dict[int, Json] = {}
        self._mail = Mailbox(self._answered)
        self._gone = ""  # why the World is lost; empty while it is there
        self._losses = 0
        self._closed = threading.Event()
        self._sending = threading.Lock()
        self._end = self._connected()
        self._thread = threading.Thread(target=self._read, name="world-client", daemon=True)
        self._thread.start()

    def hand(self, name: str, /, **arguments: object) -> Any:  # noqa: ANN401  what that hand returns, as JSON
        """Raises HardwareError as the hand does."""
        return self._call(name, arguments)

    def look(self) -> View:
        said = {} if self._load is None else {"load": min(1.0, max(0.0, self._load()))}
        return View.from_json(self._call("look", said))

    def tell(self, order: str, value: object) -> None:
        self._call("tell", {"order": order, "value": value})

    def wait(self, channel: Channel, timeout: float) -> Event | None:
        end = time.monotonic() + max(0.0, timeout)
        with self._answered:
            losses = self._losses
            while True:
                event, left = self._mail.take(channel), end - time.monotonic()
                if event is not None:
                    return event
                lost = self._gone or losses != self._losses  # events may be missing: whoever waits has to look anew
                if lost and (left <= 0 or not self._gone):  # not at once: whoever waits in a loop must not spin
                    raise self._lost()
                if left <= 0:
                    return None
                self._answered.wait(left)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # the other side was faster
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join(ANSWER_S)

    def _connected(self) -> socket.socket:
        """Raises HardwareError when there is no World, or it does not have the module."""
        try:
            end = connect(self._path, ANSWER_S)
        except OSError as error:
            raise HardwareError(
                f"no World is served at {self._path}: {error.strerror}", "start the node that has it: make run"
            ) from error
        try:
            self._greet(end)
        except HardwareError:
            end.close()
            raise
        end.settimeout(None)
        return end

    def _greet(self, end: socket.socket) -> None:
        try:
            end.sendall(pack({"world": VERSION, "module": self._module}))
            with end.makefile("rb", buffering=0) as lines:  # not a byte more than the greeting
                greeting = unpack(lines.readline(LINE_BYTES) or b"{}")
        except OSError as error:
            raise HardwareError(f"the World at {self._path} does not answer") from error
        if greeting.get("world") != VERSION:
            raise HardwareError(str(greeting.get("error") or "this is no World"), str(greeting.get("hint") or ""))

    def _call(self, call: str, arguments: object) -> Any:  # noqa: ANN401
        number, losses = next(self._numbers), self._losses
        line = pack({"id": number, "call": call, "with": arguments})
        end = time.monotonic() + ANSWER_S
        try:
            with self._sending:
                if self._gone:
                    raise self._lost()
                self._end.sendall(line)
        except OSError as error:
            raise self._lost() from error
        with self._answered:
            while number not in self._answers:
                left = end - time.monotonic()
                if self._gone or losses != self._losses or left <= 0:
                    raise self._lost()
                self._answered.wait(left)
            answer = self._answers.pop(number)
        if "error" in answer:
            raise HardwareError(str(answer["error"]), str(answer.get("hint") or ""))
        return answer.get("value")

    def _lost(self) -> HardwareError:
        return MissingPartError(
            f"World lost: {self._gone or f'the one at {self._path} does not answer'}",
            "start the node that serves it again; a module that it had more: thox sim add",
        )

    def _read(self) -> None:
        """Take what the World says; when it is lost, look for it until it is back or this is closed."""
        while True:
            reason = self._read_on()
            with self._answered:
                self._gone, self._losses = reason, self._losses + 1
                self._answers.clear()
                self._answered.notify_all()
            with self._sending:
                self._end.close()
            if not self._found():
                return

    def _found(self) -> bool:
        """Whether there is a World again; False: this was closed."""
        wait = FIRST_WAIT_S
        while not self._closed.wait(wait):
            wait = min(LONGEST_WAIT_S, 2 * wait)
            try:
                end = self._connected()
            except HardwareError as error:
                self._gone = str(error)
                continue
            with self._sending, self._answered:
                self._end, self._gone = end, ""
                self._answered.notify_all()
            if self._closed.is_set():  # it closed the old one meanwhile
                end.close()
                return False
            return True
        return False

    def _read_on(self) -> str:
        """Until there is nothing more; returns why."""
        try:
            with self._end.makefile("rb") as lines:
                while line := lines.readline():
                    message = unpack(line)
                    if "event" in message:
                        self._mail.put(Event(message["event"], message["at"], message["body"]))
                    else:
                        with self._answered:
                            self._answers[message["id"]] = message
                            self._answered.notify_all()
        except (OSError, ValueError, KeyError, HardwareError) as error:
            return str(error)
        return f"the one at {self._path} hung up"
