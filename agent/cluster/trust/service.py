"""Whom this device trusts, and what it signs: the one door to ``identity.key`` and ``trust.json``.

There is no key of the stack. Each member's identity key is a certificate authority for that member alone, and the
stack's authority is the roster: the list of those keys, which each member keeps, and changes by touch (``admit``) or by
an owner's word (``forget``, ``allow``, ``lock``). A key of the stack that all members hold could never be taken back
from one that is forgotten, and one that a single member holds would leave the other half of a divided stack without
renewals.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.cluster.trust.clock import StackClock
from agent.cluster.trust.identity import (
    LINK_LIFETIME_S,
    Credentials,
    Identity,
    KnownIdentity,
    TrustError,
    load_identity,
)
from agent.cluster.trust.roster import Entry, Roster, Standing, alone, roster_from_json
from agent.cluster.trust.seal import TrustSeal
from agent.cluster.trust.store import TrustState, TrustStore
from agent.errors import NotFoundError

DOCUMENT: Final = b"thox document 1"
ROSTER: Final = b"thox roster 1"
DOCUMENT_BYTES: Final = 64 * 1024
_log = logging.getLogger(__name__)


class TrustService:
    """Safe to use from many threads. A command and a running device may have one each on the same folder."""

    def __init__(
        self,
        state_dir: Path,
        device_id: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes key and stack of one at the first start. Raises ConfigError or TrustFileError."""
        self.identity: Identity = load_identity(state_dir, device_id)
        self._store = TrustStore(state_dir, lambda: TrustState(alone(self.identity.known)))
        self.clock = StackClock(self._store.read().time_s, wall, monotonic)
        self.touching = threading.Lock()  # held while two devices settle who enters: one touch after the other
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._listeners: list[Callable[[], None]] = []

    # --- who is trusted ----------------------------------------------------------------------------------------------

    @property
    def device_id(self) -> str:
        return self.identity.known.device_id

    @property
    def fingerprint(self) -> str:
        """Of this device's key: what its tag carries."""
        return self.identity.known.fingerprint

    def roster(self) -> Roster:
        """As it is now, whoever changed it."""
        return self._store.read().roster

    def member(self, device_id: str) -> KnownIdentity:
        """Raises TrustError for one that is not trusted."""
        member = self.roster().member(device_id)
        if member is None:
            raise TrustError(f"{device_id} is no member of this stack")
        return member

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called, from any thread, after this service changed the roster; it must return at once."""
        self._listeners.append(listener)

    # --- changes by touch --------------------------------------------------------------------------------------------

    def proposal(self, newcomer: KnownIdentity, brings: Roster | None = None) -> Roster:
        """What the roster is with a device that was touched, and with the stack that it ``brings``, if it is of one.

        Raises TrustError when the stack is locked, or the device was forgotten.
        """
        return self._with(self.roster(), newcomer, brings)

    def admit(self, newcomer: KnownIdentity, brings: Roster | None = None) -> Roster:
        """Make that so. Raises TrustError."""
        return self._change(
            lambda roster: self._with(roster, newcomer, brings), f"{newcomer.device_id} entered the stack by touch"
        )

    def _with(self, roster: Roster, newcomer: KnownIdentity, brings: Roster | None) -> Roster:
        if roster.standing(newcomer.fingerprint) == "member" and brings is None:
            return roster
        if roster.locked:
            raise TrustError("The stack is locked", hint="`thox trust unlock` lets newcomers enter by touch.")
        if roster.standing(newcomer.fingerprint) == "forgotten":
            raise TrustError("This device was forgotten", hint="`thox trust allow` lets it enter by touch again.")
        if brings is None:
            return roster.with_entry(newcomer, "member", self.device_id)
        if brings.locked or brings.standing(newcomer.fingerprint) != "member":
            raise TrustError("The other device may not bring its stack")
        return roster.joined(brings)

    def enter(self, roster: Roster, host: KnownIdentity) -> None:
        """Become a member of the stack of a device that was touched, and bring our own stack if we are of one."""

        def change(own: Roster) -> Roster:
            if own.locked or own.standing(host.fingerprint) == "forgotten":
                raise TrustError("This device may not enter another stack")
            members = {each.fingerprint for each in roster.members}
            if not {host.fingerprint, self.fingerprint} <= members:
                raise TrustError("This roster is of a stack without one of us two")
            if len(own.members) == 1:
                return roster
            if own.stack not in roster.absorbed:
                raise TrustError("The other stack does not take ours in")
            return roster.joined(own)

        self._change(change, f"this device entered the stack of {host.device_id} by touch")

    def merge(self, roster: Roster, teller: KnownIdentity) -> bool:
        """Take over what a member knows. True when that was new. Raises TrustError when it is no member.

        Where our stack has gone up in another by a member's touch, we follow it, with all that we know, unless it is
        locked here. A device that finds itself forgotten begins a stack of its own: it has no say in this one any more.
        """

        def change(own: Roster) -> Roster:
            if own.standing(teller.fingerprint) != "member":
                raise TrustError(f"{teller.device_id} is no member of this stack")
            went_up = own.stack in roster.absorbed and own.stack != roster.stack
            if roster.stack in own.absorbed and own.stack < roster.stack:
                went_up = False  # of two that went up in one another, at two touches at once, the lower one stays
            if went_up:
                if own.locked:
                    raise TrustError("The stack is locked", hint="`thox trust unlock` lets it join another.")
                merged = roster.joined(own)
            elif roster.stack in own.absorbed:
                merged = own.joined(roster)  # the teller has not followed yet
            else:
                merged = own.merged(roster)
            return alone(self.identity.known) if merged.standing(self.fingerprint) != "member" else merged

        before = self.roster()
        return self._change(change, f"the roster of {teller.device_id} was new") != before

    # --- changes by an owner -----------------------------------------------------------------------------------------

    def forget(self, name: str) -> KnownIdentity:
        """By device id, fingerprint, or the beginning of one. Raises NotFoundError, or TrustError for ourselves."""
        return self._decide(name, "member", "forgotten")

    def allow(self, name: str) -> KnownIdentity:
        """Let a device that was forgotten enter by touch again."""
        return self._decide(name, "forgotten", "allowed")

    def lock(self, locked: bool) -> None:
        """Locked: no newcomer enters by touch alone."""
        self._change(
            lambda roster: roster if roster.locked == locked else roster.with_lock(locked),
            "the stack is locked" if locked else "the stack is unlocked",
        )

    def leave(self) -> None:
        """Begin a stack of one. The others trust this device until they forget it."""
        self._change(lambda _roster: alone(self.identity.known), "this device left its stack")

    def _decide(self, name: str, now: Standing, then: Standing) -> KnownIdentity:
        found: list[Entry] = []

        def change(roster: Roster) -> Roster:
            found[:] = [
                entry
                for key, entry in roster.entries.items()
                if entry.standing == now
                and name
                and (key.startswith(name) or entry.identity.device_id.startswith(name))
            ]
            if len(found) != 1:
                raise NotFoundError(
                    f"{len(found) or 'No'} devices begin with {name!r} and are {now}",
                    hint="`thox trust list` shows them all.",
                )
            if found[0].identity.fingerprint == self.fingerprint:
                raise TrustError("That is this device itself", hint="`thox trust leave` begins a stack of its own.")
            return roster.with_entry(found[0].identity, then, self.device_id)

        self._change(change, f"a device is {then} now")
        return found[0].identity

    # --- the roster as a document ------------------------------------------------------------------------------------

    def document(self) -> bytes:
        """The roster, signed by this device: for members, by whatever way."""
        body = json.dumps({"by": self.device_id, "roster": self.roster().to_json()}, separators=(",", ":")).encode()
        return self.identity.sign(ROSTER, body) + body

    def take(self, document: bytes) -> bool:
        """Merge such a document. True when it said something new. Raises TrustError unless a member signed it."""
        if not 64 < len(document) <= DOCUMENT_BYTES:
            raise TrustError("This document is too long or too short")
        signature, body = document[:64], document[64:]
        try:
            fields = json.loads(body)
            by, roster = str(fields["by"]), fields["roster"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrustError("This is no roster of a stack") from error
        teller = self.member(by)
        if not teller.signed(ROSTER, body, signature):
            raise TrustError(f"{by} did not sign this")
        return self.merge(roster_from_json(roster), teller)

    # --- what is signed ----------------------------------------------------------------------------------------------

    def sign(self, data: bytes) -> bytes:
        """A signature of 64 bytes over a document of the stack."""
        return self.identity.sign(DOCUMENT, data)

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        """Whether that member signed the document. One that was forgotten signs nothing, be it of before."""
        member = self.roster().member(node)
        return member is not None and member.signed(DOCUMENT, data, signature)

    def new_seal(self) -> TrustSeal:
        """For the datagrams of this start. Call it once a start: the incarnation grows, on the disk first."""

        def change(state: TrustState) -> TrustState:
            now = self.clock.now()
            return replace(state, incarnation=max(state.incarnation + 1, int(now)), time_s=max(state.time_s, now))

        _, after = self._store.change(change)
        return TrustSeal(self.identity, self.roster, self.clock, after.incarnation)

    def link_credentials(self) -> Credentials:
        """For links to members; renewed when two thirds of its life are over."""
        with self._lock:
            now, old = self.clock.now(), self._credentials
            if old is None or old.ends_at - now < LINK_LIFETIME_S / 3:
                self._credentials = old = self.identity.link_credentials(now)
                self._store.change(lambda state: replace(state, time_s=max(state.time_s, now)))
            return old

    def _change(self, change: Callable[[Roster], Roster], event: str) -> Roster:
        before, after = self._store.change(lambda state: replace(state, roster=change(state.roster)))
        if before.roster != after.roster:
            _log.info(event)
            for listener in tuple(self._listeners):
                listener()
        return after.roster
