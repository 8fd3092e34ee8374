"""Links between members: JSON requests and answers under mutual TLS 1.3, each end known by its device id.

One port serves members (``THL1``) and devices that touch (``THX1``). Who is not proven yet may have 16 connections at
once, 4 of them from one address, for 5 seconds each; a member 8. A request that has begun must be whole in 10 seconds.
That its sender is a member still, and its certificate of this time, is looked at again for every request.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from agent.cluster.link.frames import (
    Deadline,
    Json,
    LinkError,
    encode_frame,
    receive_bytes,
    receive_frame,
    send_bytes,
    send_frame,
)
from agent.cluster.link.refusal import refusal
from agent.cluster.link.tls import secured
from agent.cluster.trust.identity import KnownIdentity, TrustError, read_link
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.touch import MAGIC as TOUCH
from agent.cluster.trust.touch import TouchHost
from agent.errors import ThoxError

PORT: Final = 5382
MAGIC: Final = b"THL1"
HANDSHAKE_S: Final = 5.0
REQUEST_S: Final = 10.0
IDLE_S: Final = 60.0
MOST_UNPROVEN, MOST_UNPROVEN_OF_ONE, MOST_OF_A_MEMBER = 16, 4, 8
_POLL_S: Final = 0.2

Address = tuple[str, int]
Handler = Callable[[str, Json], Json]
_log = logging.getLogger(__name__)


class LinkConnection:
    """To one member. Requests follow one another; safe to use from many threads."""

    def __init__(self, trust: TrustService, tls: ssl.SSLSocket, member: KnownIdentity, ends_at: float) -> None:
        self._trust, self._tls, self._member, self._ends_at = trust, tls, member, ends_at
        self._lock = threading.Lock()
        self.broken = False  # nothing can be asked over it any more

    @property
    def device_id(self) -> str:
        return self._member.device_id

    def request(self, body: Json, timeout_s: float = REQUEST_S) -> Json:
        """The answer of the other side. Raises LinkError when the connection is ``broken``; TrustError, and it is, when
        the member was forgotten; the ThoxError that the other side raised when it refuses."""
        data, deadline = encode_frame(body), Deadline(timeout_s)
        with self._lock:
            try:
                _still(self._trust, self._member, self._ends_at)
                send_bytes(self._tls, data, deadline)
                answer = receive_frame(self._tls, deadline)
            except ThoxError:
                self.broken = True
                self._tls.close()
                raise
        if "error" in answer:
            raise refusal(self.device_id, answer["error"])
        result = answer.get("result")
        return result if isinstance(result, dict) else {}

    def close(self) -> None:
        """Ends a request that waits, too."""
        self.broken = True
        _cut(self._tls)
        with self._lock:
            self._tls.close()


class MutualTls:
    """Both ends of the links of one device. One thread listens, and each connection has one of its own."""

    def __init__(self, trust: TrustService, handler: Handler, touch: TouchHost | None = None) -> None:
        """``handler``: device id of a member and its request, to the answer; what ThoxError it raises is told.
        ``touch``: who answers devices that touch this one; None: nobody."""
        self._trust, self._handler, self._touch = trust, handler, touch
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._unproven: Counter[str] = Counter()
        self._members: Counter[str] = Counter()
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._source: Address | None = None  # where connections come from: of several networks, the links'

    def listen(self, host: str, port: int = PORT) -> Address:
        """Serve there from now on; 0 takes any free port. Raises LinkError."""
        try:
            self._listener = socket.create_server((host, port), backlog=16)
        except OSError as error:
            raise LinkError(f"{host}:{port} cannot be listened on: {error.strerror}") from error
        self._listener.settimeout(_POLL_S)
        self._start(self._accept, self._listener, "links")
        name = self._listener.getsockname()
        self._source = (str(name[0]), 0)
        return str(name[0]), int(name[1])

    def connect(self, device_id: str, address: Address, timeout_s: float = HANDSHAKE_S) -> LinkConnection:
        """To that member and nobody else. Raises TrustError when it is none, LinkError when it does not answer."""
        deadline, member = Deadline(timeout_s), self._trust.member(device_id)
        try:
            plain = socket.create_connection(address, deadline.left(), self._source)
        except OSError as error:
            raise LinkError(f"{device_id} does not answer at {address[0]}:{address[1]}") from error
        try:
            send_bytes(plain, MAGIC, deadline)
        except LinkError:
            plain.close()
            raise
        own = self._trust.link_credentials()
        tls, shown = secured(plain, server=False, credentials=own, trusted=(member,), deadline=deadline)
        try:
            _, ends_at = read_link(shown, (member,), self._trust.clock)
            if receive_frame(tls, deadline, 1024) != {"ready": True}:
                raise LinkError(f"{device_id} does not take this device for a member")
        except ThoxError:
            tls.close()
            raise
        return LinkConnection(self._trust, tls, member, ends_at)

    def close(self) -> None:
        """Ends every connection that was accepted."""
        self._closed.set()
        with self._lock:
            open_now, threads = tuple(self._open), tuple(self._threads)
        for connection in open_now:
            _cut(connection)
        for thread in threads:
            thread.join(5.0)

    # --- the listening side ------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._closed.is_set():
                try:
                    connection, sender = listener.accept()
                except TimeoutError:
                    continue
                except OSError:  # it left before we looked; or no more files can be open
                    self._closed.wait(_POLL_S)
                    continue
                address = str(sender[0])
                with self._lock:
                    total = self._unproven.total()
                    full = total >= MOST_UNPROVEN or self._unproven[address] >= MOST_UNPROVEN_OF_ONE
                    if not full:
                        self._unproven[address] += 1
                if full:
                    connection.close()
                else:
                    self._start(partial(self._serve, address), connection, f"link {address}")

    def _start(self, run: Callable[[socket.socket], None], connection: socket.socket, name: str) -> None:
        def whole() -> None:
            try:
                run(connection)
            except ThoxError as error:
                _log.info("%s ended: %s", name, error.message)
            except Exception:  # noqa: BLE001 - one connection must not take the others along
                _log.exception("%s broke", name)
            finally:
                connection.close()
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=whole, name=name, daemon=True)
        with self._lock:  # whoever closes waits for threads that run
            self._threads.add(thread)
            thread.start()

    def _serve(self, address: str, plain: socket.socket) -> None:
        proven = False
        try:
            deadline = Deadline(HANDSHAKE_S)
            with self._kept(plain):
                magic = receive_bytes(plain, 4, deadline)
                if magic == TOUCH and self._touch is not None:
                    self._touch.answer(plain)
                    return
                if magic != MAGIC:
                    raise LinkError("This is no device of ours")
                tls, member, ends_at = self._proven(plain, deadline)
            with tls, self._kept(tls):
                with self._lock:
                    self._unproven[address] -= 1
                    proven = True
                    self._members[member.device_id] += 1
                    many = self._members[member.device_id] > MOST_OF_A_MEMBER
                try:
                    if many:
                        raise LinkError(f"{member.device_id} has too many connections")
                    send_frame(tls, {"ready": True}, deadline)
                    self._answer(tls, member, ends_at)
                finally:
                    with self._lock:
                        self._members[member.device_id] -= 1
        finally:
            if not proven:
                with self._lock:
                    self._unproven[address] -= 1

    def _proven(self, plain: socket.socket, deadline: Deadline) -> tuple[ssl.SSLSocket, KnownIdentity, float]:
        own_print = self._trust.fingerprint
        others = tuple(each for each in self._trust.roster().members if each.fingerprint != own_print)
        own = self._trust.link_credentials()
        tls, shown = secured(plain, server=True, credentials=own, trusted=others, deadline=deadline)
        try:
            member, ends_at = read_link(shown, others, self._trust.clock)
        except TrustError:
            tls.close()
            raise
        return tls, member, ends_at

    def _answer(self, tls: ssl.SSLSocket, member: KnownIdentity, ends_at: float) -> None:
        """Requests, one after the other, until the other side is silent for long or breaks a rule."""
        while not self._closed.is_set():
            head = receive_bytes(tls, 1, Deadline(IDLE_S))
            body = receive_frame(tls, Deadline(REQUEST_S), head=head)
            _still(self._trust, member, ends_at)
            try:
                answer: Json = {"result": self._handler(member.device_id, body)}
            except ThoxError as error:
                answer = error.to_json()
            send_frame(tls, answer, Deadline(REQUEST_S))

    @contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[None]:
        """While it is open, ``close`` ends it."""
        with self._lock:
            self._open.add(connection)
        try:
            if self._closed.is_set():
                _cut(connection)
            yield
        finally:
            with self._lock:
                self._open.discard(connection)


def _still(trust: TrustService, member: KnownIdentity, ends_at: float) -> None:
    """Raises TrustError where the trust that a connection stands on has ended."""
    if trust.member(member.device_id).fingerprint != member.fingerprint:
        raise TrustError(f"{member.device_id} has another key now")
    if trust.clock.now() > ends_at:
        raise TrustError(f"The link certificate of {member.device_id} has ended")


def _cut(connection: socket.socket) -> None:
    """Ends what waits on it, in whichever thread; that one closes it.

    Not by the method of an SSLSocket: that takes TLS away first, and whoever reads meanwhile would read in the clear.
    """
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:  # it was never connected, or is not any more
        return
