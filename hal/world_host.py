"""Serves a World to other processes of the same user: one thread, which also keeps its time going."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from hal.base import HardwareError
from hal.world import World
from hal.world_state import Event, Json
from hal.world_wire import LINE_BYTES, VERSION, at_path, connect, pack, unpack, use_hand

LOOK_S = 0.5  # the longest that time stands still: batteries run down, and loads change, without anybody's word
MOST_CLIENTS = 64
BEHIND_BYTES = 1024 * 1024  # of what a client has not read yet; one that is further behind is dropped


class WorldHost:
    """Listens on a socket. Close it before the folder of the socket goes."""

    def __init__(self, world: World, path: Path) -> None:
        """Raises HardwareError when another host serves there, or nobody can."""
        self._world, self._path = world, path
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _bind(self._listener, path)
        except HardwareError:
            for end in (self._listener, self._wake, self._woken):
                end.close()
            raise
        for end in (self._listener, self._wake, self._woken):
            end.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self.wake()
        self._thread.join(5.0)
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for end in (self._listener, self._wake, self._woken):
            end.close()
        self._path.unlink(missing_ok=True)

    def wake(self) -> None:
        """There is something to send. From any thread."""
        try:
            self._wake.send(b"\0")
        except (BlockingIOError, OSError):  # it is awake, or closed
            return

    def _run(self) -> None:
        while not self._closed.is_set():
            due = self._world.advance()
            for key, _ in self._selector.select(LOOK_S if due is None else min(LOOK_S, max(0.001, due))):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._woken:
                    _drain(self._woken)
                else:
                    self._serve(key.data)
            for client in list(self._clients.values()):
                self._flush(client)

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:
            return
        end.setblocking(False)
        if len(self._clients) >= MOST_CLIENTS or _user(end) not in (os.getuid(), 0):
            end.close()
            return
        client = _Client(end, self._world, self.wake)
        self._clients[end.fileno()] = client
        self._selector.register(end, selectors.EVENT_READ, client)

    def _serve(self, client: _Client) -> None:
        """Read what is there and answer each line."""
        try:
            data = client.end.recv(LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not client.take(data):
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        if not client.flush():
            self._drop(client)
        elif client.end.fileno() in self._clients:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.behind else 0)
            self._selector.modify(client.end, wanted, client)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.end.fileno(), None) is not None:
            self._selector.unregister(client.end)
            client.close()


class _Client:
    """One connection: lines that came in half, bytes that wait to go out."""

    def __init__(self, end: socket.socket, world: World, wake: Callable[[], None]) -> None:
        self.end = end
        self._world, self._wake = world, wake
        self._module: str | None = None
        self._greeted = False
        self._detach: Callable[[], None] | None = None
        self._half = b""
        self._out = bytearray()
        self._lock = threading.Lock()

    @property
    def behind(self) -> int:
        with self._lock:
            return len(self._out)

    def take(self, data: bytes) -> bool:
        """Answer the lines that are whole now. False: hang up."""
        *lines, self._half = (self._half + data).split(b"\n")
        return all(self._answer(line) for line in lines) and len(self._half) <= LINE_BYTES

    def flush(self) -> bool:
        """Send what can be sent. False: it is gone, or too far behind."""
        with self._lock:
            try:
                if self._out:
                    del self._out[: self.end.send(self._out)]
            except BlockingIOError:
                pass
            except OSError:
                return False
            return len(self._out) <= BEHIND_BYTES

    def close(self) -> None:
        if self._detach is not None:
            self._detach()
        self.end.close()

    def _put(self, message: Json) -> None:
        with self._lock:
            self._out += pack(message)

    def _hear(self, event: Event) -> None:
        self._put({"event": event.channel, "at": event.at, "body": event.body})
        self._wake()

    def _answer(self, line: bytes) -> bool:
        number: object = None
        try:
            message = unpack(line)
            number = message.get("id")
            if not self._greeted:
                self._greet(message)
            else:
                self._put({"id": number, "value": self._call(message)})
        except HardwareError as error:
            self._put({"id": number, "error": str(error), "hint": error.hint})
            if not self._greeted:
                self.flush()
                return False
        return True

    def _greet(self, message: Json) -> None:
        if message.get("world") != VERSION:
            raise HardwareError(f"this World speaks version {VERSION}", "run the same version of the agent everywhere")
        module = message.get("module")
        with self._world.changed:  # no event comes before the greeting
            if module is not None:
                self._detach = self._world.attach(str(module), self._hear)
                self._module = str(module)
            self._put({"world": VERSION})
        self._greeted = True

    def _call(self, message: Json) -> object:
        call, given = str(message.get("call")), message.get("with", {})
        if call not in ("look", "tell"):
            return use_hand(self._world, call, given)
        if self._module is None or not isinstance(given, dict):
            raise HardwareError(f"{call} is for a module", "name one in the first line")
        if call == "tell":
            self._world.tell(self._module, str(given.get("order")), given.get("value"))
            return None
        load = given.get("load")
        if load is not None and (not isinstance(load, (int, float)) or not 0 <= load <= 1):
            raise HardwareError(f"a load of {load!r} is impossible", "from 0 to 1")
        return self._world.look(self._module, load).to_json()


def _bind(listener: socket.socket, path: Path) -> None:
    try:
        connect(path, 1.0).close()
    except ConnectionRefusedError:  # its host died
        path.unlink(missing_ok=True)
    except OSError:  # nothing is there; what else is wrong, binding will say
        pass
    else:
        raise HardwareError(
            f"another World is served at {path}", "end the other process, or choose another state folder"
        )
    try:
        at_path(path, listener.bind)
        path.chmod(0o600)  # whoever came before is turned away by the kernel's word on who it is
        listener.listen(16)
    except OSError as error:
        raise HardwareError(
            f"the simulated World cannot be served at {path}: {error.strerror}",
            "choose a state folder that can be written, on a file system that knows sockets",
        ) from error


def _user(end: socket.socket) -> int:
    """Who is on the other end, says the kernel."""
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def _drain(end: socket.socket) -> None:
    try:
        while end.recv(4096):
            pass
    except BlockingIOError:
        return
