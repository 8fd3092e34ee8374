"""Sealed datagrams: who said it, when in the life of that device, and that it is said now. Signed, not hidden.

    offset  size  field
    0       1     version, 1
    1       16    device id of the sender
    17      8     incarnation: grows with every start of the sender
    25      8     number of the datagram in that incarnation
    33      8     stack time, milliseconds since the epoch
    41      ...   what is said
    -64     64    Ed25519 over all before it and the stack's id

What was opened once, or is older than 30 s by the stack's time, is not opened again. Within an incarnation datagrams
may overtake one another by 64 numbers, as in RFC 4303, 3.4.3. A receiver that has just started, has no clock of its
own, and has not heard a living member yet can take a recording for new: nothing in a datagram to everybody can prevent
that, so a beacon must name the incarnations that its sender hears, and membership must be mutual.
"""

from __future__ import annotations

import struct
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from agent.cluster.trust.clock import StackClock
from agent.cluster.trust.identity import Identity
from agent.cluster.trust.roster import Roster

PURPOSE: Final = b"thox seal 1"
OLDEST_S: Final = 30.0
_HEAD: Final = struct.Struct(">B16sQQQ")
_SIGNATURE_BYTES: Final = 64
OVERHEAD_BYTES: Final = _HEAD.size + _SIGNATURE_BYTES
DATAGRAM_BYTES: Final = 1200  # what the link between modules carries
PAYLOAD_BYTES: Final = DATAGRAM_BYTES - OVERHEAD_BYTES
_WINDOW: Final = 64


class Seal(Protocol):
    """What membership needs of trust."""

    def seal(self, data: bytes) -> bytes:
        """Raises ValueError for more than PAYLOAD_BYTES."""
        ...

    def open(self, datagram: bytes) -> tuple[str, bytes] | None:
        """The sender's device id and what it said; None for a stranger, a forgery, a replay, or our own word."""
        ...


@dataclass(slots=True)
class _Heard:
    """The newest number of a sender, and a bit for each of the 64 up to it that came."""

    incarnation: int
    number: int
    came: int = 1

    def new(self, incarnation: int, number: int) -> bool:
        if incarnation != self.incarnation:
            return incarnation > self.incarnation
        behind = self.number - number
        return behind < 0 or (behind < _WINDOW and not self.came >> behind & 1)

    def take(self, incarnation: int, number: int) -> None:
        if incarnation != self.incarnation:
            self.incarnation, self.number, self.came = incarnation, number, 1
        elif number > self.number:
            self.came = (self.came << min(number - self.number, _WINDOW) | 1) & ((1 << _WINDOW) - 1)
            self.number = number
        else:
            self.came |= 1 << (self.number - number)


class TrustSeal:
    """A Seal by the keys of a roster. Safe to use from many threads."""

    def __init__(self, identity: Identity, roster: Callable[[], Roster], clock: StackClock, incarnation: int) -> None:
        self.incarnation = incarnation
        self._identity, self._roster, self._clock = identity, roster, clock
        self._own = uuid.UUID(identity.known.device_id).bytes
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}  # by fingerprint: a device that is forgotten and comes back is another

    def seal(self, data: bytes) -> bytes:
        if len(data) > PAYLOAD_BYTES:
            raise ValueError(f"{len(data)} bytes are too many for a sealed datagram: {PAYLOAD_BYTES} is the most")
        with self._lock:
            number = next(self._numbers)
        body = _HEAD.pack(1, self._own, self.incarnation, number, int(self._clock.now() * 1000)) + data
        return body + self._identity.sign(PURPOSE, body + _stack(self._roster()))

    def open(self, datagram: bytes) -> tuple[str, bytes] | None:
        if not OVERHEAD_BYTES <= len(datagram) <= DATAGRAM_BYTES:
            return None
        version, device, incarnation, number, milliseconds = _HEAD.unpack_from(datagram)
        if version != 1 or device == self._own:
            return None
        roster = self._roster()
        sender = roster.member(str(uuid.UUID(bytes=device)))
        if sender is None or milliseconds / 1000 < self._clock.now() - OLDEST_S:
            return None
        with self._lock:
            heard = self._heard.get(sender.fingerprint)
            if heard is not None and not heard.new(incarnation, number):
                return None
            body, signature = datagram[:-_SIGNATURE_BYTES], datagram[-_SIGNATURE_BYTES:]
            if not sender.signed(PURPOSE, body + _stack(roster), signature):
                return None
            if heard is None:
                self._heard[sender.fingerprint] = _Heard(incarnation, number)
            else:
                heard.take(incarnation, number)
        self._clock.heard(milliseconds / 1000)
        return sender.device_id, body[_HEAD.size :]


def _stack(roster: Roster) -> bytes:
    return uuid.UUID(roster.stack).bytes
