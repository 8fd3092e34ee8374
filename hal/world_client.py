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


class WorldClient:
    """One connection, for any number of threads; a thread of its own reads it. As a module it is a Port."""

    def __init__(self, path: Path, module: str | None = None, load: Callable[[], float] | None = None) -> None:
        """Without ``module`` it has hands alone. ``load``: what the module does, where this is its agent.

        Raises HardwareError when there is no World, or no such module.
        """
        self._path, self._load = path, load
        self._numbers = count(1)
        self._answered = threading.Condition()
        self._answers: dict[int, Json] = {}
        self._mail = Mailbox(self._answered)
        self._gone = ""
        self._sending = threading.Lock()
        try:
            self._end = connect(path, ANSWER_S)
        except OSError as error:
            raise HardwareError(
                f"no World is served at {path}: {error.strerror}", "start the node that has it: make run"
            ) from error
        self._lines = self._end.makefile("rb")
        try:
            self._greet(module)
        except HardwareError:
            self._hang_up()
            raise
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
            while True:
                event, left = self._mail.take(channel), end - time.monotonic()
                if event is not None or left <= 0:
                    return event
                if self._gone:
                    self._answered.wait(left)  # whoever waits in a loop must not spin
                    raise self._lost()
                self._answered.wait(left)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other side was faster
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._hang_up()

    def _greet(self, module: str | None) -> None:
        try:
            self._end.sendall(pack({"world": VERSION, "module": module}))
            greeting = unpack(self._lines.readline(LINE_BYTES) or b"{}")
        except OSError as error:
            raise HardwareError(f"the World at {self._path} does not answer") from error
        if greeting.get("world") != VERSION:
            raise HardwareError(str(greeting.get("error") or "this is no World"), str(greeting.get("hint") or ""))
        self._end.settimeout(None)

    def _hang_up(self) -> None:
        self._lines.close()
        self._end.close()

    def _call(self, call: str, arguments: object) -> Any:  # noqa: ANN401
        number = next(self._numbers)
        line = pack({"id": number, "call": call, "with": arguments})
        end = time.monotonic() + ANSWER_S
        try:
            with self._sending:
                self._end.sendall(line)
        except OSError as error:
            raise self._lost() from error
        with self._answered:
            while number not in self._answers:
                left = end - time.monotonic()
                if self._gone or left <= 0:
                    raise self._lost()
                self._answered.wait(left)
            answer = self._answers.pop(number)
        if "error" in answer:
            raise HardwareError(str(answer["error"]), str(answer.get("hint") or ""))
        return answer.get("value")

    def _lost(self) -> HardwareError:
        return MissingPartError(
            f"the World at {self._path} does not answer", "start it again, and then whatever was in it"
        )

    def _read(self) -> None:
        try:
            while line := self._lines.readline():
                message = unpack(line)
                if "event" in message:
                    self._mail.put(Event(message["event"], message["at"], message["body"]))
                else:
                    with self._answered:
                        self._answers[message["id"]] = message
                        self._answered.notify_all()
        except (OSError, ValueError, KeyError, HardwareError) as error:
            self._gone = str(error)
        with self._answered:
            self._gone = self._gone or "it hung up"
            self._answered.notify_all()
