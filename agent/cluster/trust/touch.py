"""How two devices that touch come to trust one another, over the link between them.

One face of a module has a reader, the other a tag, so of two that touch only one reads the other. What each side has:

* the reader's side knows from the tag which key must answer (the fingerprint), and the tag's nonce;
* the tag's side knows from its own line that something lies on that face at this moment. That it is this caller it
  learns from the nonce, which stands on the tag alone: whoever knows it was there. It changes at every start and every
  time the face was left, and the first caller that enters by it spends it.

    reader ── "THX1", identity certificate ───────────────▶ tag's wearer     in the clear, to be proven:
    reader ◀────────────────── identity certificate ─────── tag's wearer     the reader checks the fingerprint
    ════════ TLS 1.3, each side trusting that one certificate: both prove their keys over both certificates ════════
    reader ── nonce of the tag, own nonce, own standing ──▶ tag's wearer     only the tag's key ever gets the nonce
    reader ◀────────── standing, or why not ─────────────── tag's wearer     both decide the same (decision.py)
    who enters ── own roster ──▶ host ── the roster with both ──▶ who enters ── "entered" ──▶ host ── "admitted"
"""

from __future__ import annotations

import hmac
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, Protocol

from agent.cluster.link.frames import (
    Deadline,
    Json,
    LinkError,
    receive_bytes,
    receive_frame,
    send_bytes,
    send_frame,
)
from agent.cluster.link.tls import secured
from agent.cluster.trust.decision import Standpoint, decide, standpoint_from_json
from agent.cluster.trust.identity import CERTIFICATE_BYTES, KnownIdentity, TrustError, read_identity
from agent.cluster.trust.roster import Roster, roster_from_json
from agent.cluster.trust.service import TrustService
from hal.base import TagRecord

MAGIC: Final = b"THX1"
HANDSHAKE_S: Final = 5.0
_ROSTER_BYTES: Final = 64 * 1024
_log = logging.getLogger(__name__)


class Worn(Protocol):
    """This device's own tag, as the handshake needs it."""

    def nonce(self) -> str:
        """What stands on the tag now."""
        ...

    def refusal(self, fingerprint: str, nonce: str) -> str:
        """Why the holder of this key, who read this nonce, cannot be what touches the tag now; empty: it can."""
        ...

    def spend(self, fingerprint: str) -> None:
        """This key entered by the present touch; no other one does."""
        ...


def meet(
    trust: TrustService, record: TagRecord, nonce: str, address: tuple[str, int], touched: Callable[[], bool]
) -> KnownIdentity:
    """The reader's side: who wears the tag, trusted from now on. Raises TrustError or LinkError.

    ``nonce`` is of our own tag; ``touched``: whether the face of the reader is touched at this moment.
    """
    deadline = Deadline(HANDSHAKE_S)
    try:
        connection = socket.create_connection(address, deadline.left())
    except OSError as error:
        raise LinkError(f"{record.device_id} does not answer at its address") from error
    with connection:
        send_bytes(connection, MAGIC + _framed(trust), deadline)
        other = _identity(connection, deadline)
        if other.fingerprint != record.fingerprint or other.device_id != record.device_id:
            raise TrustError("Who answers is not who the tag names")
        if trust.roster().standing(other.fingerprint) == "forgotten":
            raise TrustError("This device was forgotten", hint="`thox trust allow` lets it enter by touch again.")
        tls = _proven(connection, trust, other, deadline, server=False)
    with tls, _one_touch(trust, deadline):
        mine = _standpoint(trust, other)
        hello = {"boot_nonce": record.boot_nonce, "own_nonce": nonce, "standpoint": mine.to_json()}
        send_frame(tls, hello, deadline)
        answer = receive_frame(tls, deadline, _ROSTER_BYTES)
        if "refused" in answer:
            raise TrustError(f"{other.device_id} refuses: {str(answer['refused'])[:200]!r}")
        if not touched():
            raise TrustError("Nothing touches the reader any more")
        _settle(tls, trust, other, mine, standpoint_from_json(answer.get("standpoint")), deadline, first=True)
    return other


class TouchHost:
    """The tag's side: answers whoever says it touches this device."""

    def __init__(self, trust: TrustService, worn: Worn) -> None:
        self._trust, self._worn = trust, worn

    def answer(self, connection: socket.socket) -> None:
        """One connection, after its MAGIC was read; closed at the end. Raises TrustError or LinkError."""
        deadline = Deadline(HANDSHAKE_S)
        with connection:
            other = _identity(connection, deadline)
            send_bytes(connection, _framed(self._trust), deadline)
            tls = _proven(connection, self._trust, other, deadline, server=True)
        with tls:
            hello = receive_frame(tls, deadline, 4096)
            theirs = standpoint_from_json(hello.get("standpoint"))
            refusal = self._refusal(other, hello)
            if refusal:  # said before the lock is taken: who does not touch us keeps nobody from doing so
                self._refuse(tls, other, refusal, deadline)
            with _one_touch(self._trust, deadline):
                mine = _standpoint(self._trust, other)
                try:
                    decide(mine, theirs)
                except TrustError as error:
                    self._refuse(tls, other, error.message, deadline)
                self._worn.spend(other.fingerprint)
                send_frame(tls, {"standpoint": mine.to_json()}, deadline)
                _settle(tls, self._trust, other, mine, theirs, deadline, first=False)

    def _refuse(self, tls: ssl.SSLSocket, other: KnownIdentity, why: str, deadline: Deadline) -> NoReturn:
        send_frame(tls, {"refused": why}, deadline)
        raise TrustError(f"{other.device_id} may not enter: {why}")

    def _refusal(self, other: KnownIdentity, hello: Json) -> str:
        presented, theirs = str(hello.get("boot_nonce")), str(hello.get("own_nonce"))
        # Compared in constant time; what is wrong with it is not said.
        if not hmac.compare_digest(presented.encode(), self._worn.nonce().encode()):
            return "it has not read this device's tag as it is now"
        return self._worn.refusal(other.fingerprint, theirs)


def _settle(
    tls: ssl.SSLSocket,
    trust: TrustService,
    other: KnownIdentity,
    mine: Standpoint,
    theirs: Standpoint,
    deadline: Deadline,
    *,
    first: bool,
) -> None:
    """Do what both sides decided. Done again after a cut, it comes to the same end."""
    decision = decide(mine, theirs)
    if decision == "host":
        brought = _roster(tls, deadline)
        brings = brought if theirs.members > 1 else None
        send_frame(tls, {"roster": trust.proposal(other, brings).to_json()}, deadline)
        if receive_frame(tls, deadline, 4096) != {"entered": True}:  # and only then it is in ours
            raise TrustError(f"{other.device_id} did not enter")
        trust.admit(other, brings)
        send_frame(tls, {"admitted": True}, deadline)
    elif decision == "enter":
        send_frame(tls, {"roster": trust.roster().to_json()}, deadline)
        trust.enter(_roster(tls, deadline), other)
        send_frame(tls, {"entered": True}, deadline)
        receive_frame(tls, deadline, 4096)  # where it is lost, the next try finds both of one stack
    else:  # of one stack already: each tells the other what it knows
        trust.admit(other)
        if first:
            send_frame(tls, {"roster": trust.roster().to_json()}, deadline)
        trust.merge(_roster(tls, deadline), other)
        if not first:
            send_frame(tls, {"roster": trust.roster().to_json()}, deadline)
    _log.info("touched %s: %s", other.device_id, decision)


@contextmanager
def _one_touch(trust: TrustService, deadline: Deadline) -> Iterator[None]:
    """A device settles one touch after the other: it must not enter one stack while it takes somebody into another."""
    if not trust.touching.acquire(timeout=deadline.left()):
        raise LinkError("Another touch takes too long")
    try:
        yield
    finally:
        trust.touching.release()


def _roster(tls: ssl.SSLSocket, deadline: Deadline) -> Roster:
    return roster_from_json(receive_frame(tls, deadline, _ROSTER_BYTES).get("roster"))


def _standpoint(trust: TrustService, other: KnownIdentity) -> Standpoint:
    roster = trust.roster()
    return Standpoint(roster.stack, len(roster.members), roster.locked, roster.standing(other.fingerprint) or "unknown")


def _proven(
    connection: socket.socket, trust: TrustService, other: KnownIdentity, deadline: Deadline, *, server: bool
) -> ssl.SSLSocket:
    """The connection under TLS, the other side being the very key of that certificate, not one that it issued."""
    own = trust.identity.own_credentials()
    tls, shown = secured(connection, server=server, credentials=own, trusted=(other,), deadline=deadline)
    if shown != other.certificate:
        tls.close()
        raise TrustError("The other device proved another key than it named")
    return tls


def _framed(trust: TrustService) -> bytes:
    certificate = trust.identity.known.certificate
    return len(certificate).to_bytes(2, "big") + certificate


def _identity(connection: socket.socket, deadline: Deadline) -> KnownIdentity:
    length = int.from_bytes(receive_bytes(connection, 2, deadline), "big")
    if length > CERTIFICATE_BYTES:
        raise TrustError("This is no identity certificate of a device")
    return read_identity(receive_bytes(connection, length, deadline))
