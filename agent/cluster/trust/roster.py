"""Who is trusted in a stack: a value that merges. Pure; what comes from another device is hostile until read here.

An entry of a key changes by a higher version, and of two that say different things of one version the stricter holds,
so rosters that two halves of a divided stack kept apart merge to the same one, in whatever order. Where two stacks
touch, one goes up in the other: its name stands among those that the other absorbed, and its members follow.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from agent.cluster.fields import FieldError, each, flag, one_of, record, text, uuid_text, whole
from agent.cluster.trust.identity import CERTIFICATE_BYTES, KnownIdentity, TrustError, read_identity

Standing = Literal["allowed", "member", "forgotten"]
STANDINGS: Final[tuple[Standing, ...]] = ("allowed", "member", "forgotten")  # each stricter than the one before
MOST_ENTRIES: Final = 64
MOST_VERSION: Final = 1 << 53  # here the stricter word is the last one


@dataclass(frozen=True, slots=True)
class Entry:
    """What the stack holds of one key. ``allowed``: forgotten once, and may come in by touch again."""

    identity: KnownIdentity
    standing: Standing
    version: int = 1
    by: str = ""  # id of the device that said so

    def _rank(self) -> tuple[int, int, str]:
        return self.version, STANDINGS.index(self.standing), self.by


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of a stack, and who was forgotten. ``stack`` names it: a UUID, no secret."""

    stack: str
    entries: Mapping[str, Entry] = field(default_factory=dict)  # by fingerprint
    locked: bool = False
    lock_version: int = 0
    absorbed: frozenset[str] = frozenset()  # stacks that went up in this one

    @property
    def members(self) -> tuple[KnownIdentity, ...]:
        """By device id; where two keys claim one id, neither is believed."""
        found = [entry.identity for entry in self.entries.values() if entry.standing == "member"]
        ids = [each.device_id for each in found]
        return tuple(sorted((m for m in found if ids.count(m.device_id) == 1), key=lambda each: each.device_id))

    def member(self, device_id: str) -> KnownIdentity | None:
        return next((each for each in self.members if each.device_id == device_id), None)

    def standing(self, fingerprint: str) -> Standing | None:
        entry = self.entries.get(fingerprint)
        return None if entry is None else entry.standing

    def with_entry(self, identity: KnownIdentity, standing: Standing, by: str) -> Roster:
        """Raises TrustError when the roster is full, or the id of the newcomer is a member's."""
        old = self.entries.get(identity.fingerprint)
        if old is None and len(self.entries) >= MOST_ENTRIES:
            raise TrustError(
                f"A stack knows {MOST_ENTRIES} devices at most", hint="`thox trust leave` begins a new one."
            )
        if standing == "member" and any(
            entry.standing == "member"
            and entry.identity.device_id == identity.device_id
            and key != identity.fingerprint
            for key, entry in self.entries.items()
        ):
            raise TrustError(
                f"Another key is the member {identity.device_id}",
                hint="If that device got a new key, forget the old one first: thox trust forget.",
            )
        entry = Entry(identity, standing, min(old.version + 1, MOST_VERSION) if old else 1, by)
        return replace(self, entries={**self.entries, identity.fingerprint: entry})

    def with_lock(self, locked: bool) -> Roster:
        return replace(self, locked=locked, lock_version=min(self.lock_version + 1, MOST_VERSION))

    def merged(self, other: Roster) -> Roster:
        """Raises TrustError when the other is of another stack, or both together are too long."""
        if other.stack != self.stack:
            raise TrustError("The other device belongs to another stack")
        entries = dict(self.entries)
        for key, entry in other.entries.items():
            if key not in entries or entry._rank() > entries[key]._rank():
                entries[key] = entry
        if len(entries) > MOST_ENTRIES:
            raise TrustError(f"A stack knows {MOST_ENTRIES} devices at most")
        version, locked = max((self.lock_version, self.locked), (other.lock_version, other.locked))
        return Roster(self.stack, entries, locked, version, self.absorbed | other.absorbed)

    def joined(self, other: Roster) -> Roster:
        """What this stack is when the other one has gone up in it: its members, and whom it forgot, under our lock."""
        both = self.merged(replace(other, stack=self.stack))
        absorbed = both.absorbed | {other.stack}
        if len(absorbed) > MOST_ENTRIES:
            raise TrustError("Too many stacks went up in this one", hint="`thox trust leave` begins a new one.")
        return replace(both, absorbed=absorbed - {self.stack}, locked=self.locked, lock_version=self.lock_version)

    def to_json(self) -> dict[str, Any]:
        return {
            "stack": self.stack,
            "locked": self.locked,
            "lock_version": self.lock_version,
            "absorbed": sorted(self.absorbed),
            "entries": [
                {
                    "certificate": base64.b64encode(entry.identity.certificate).decode(),
                    "standing": entry.standing,
                    "version": entry.version,
                    "by": entry.by,
                }
                for _, entry in sorted(self.entries.items())
            ],
        }


def alone(identity: KnownIdentity) -> Roster:
    """A new stack of one."""
    return Roster(str(uuid.uuid4()), {identity.fingerprint: Entry(identity, "member", 1, identity.device_id)})


def roster_from_json(body: object) -> Roster:
    """Raises TrustError for anything that ``to_json`` could not have written."""
    try:
        return _ROSTER("", body)
    except FieldError as error:
        raise TrustError(f"This is no roster of a stack: {error}") from error


def _identity(place: str, value: object) -> KnownIdentity:
    """Raises TrustError, too."""
    try:
        return read_identity(base64.b64decode(text(2 * CERTIFICATE_BYTES)(place, value), validate=True))
    except binascii.Error as error:
        raise FieldError(place, "base64 is needed") from error


def _entry(certificate: KnownIdentity, standing: Standing, version: int, by: str) -> Entry:
    return Entry(certificate, standing, version, by)


def _roster(
    stack: str, locked: bool, lock_version: int, absorbed: tuple[str, ...], entries: tuple[Entry, ...]
) -> Roster:
    by_key = {entry.identity.fingerprint: entry for entry in entries}
    if len(by_key) != len(entries):
        raise FieldError("entries", "a key comes twice")
    return Roster(stack, by_key, locked, lock_version, frozenset(absorbed))


_VERSION: Final = whole(MOST_VERSION)
_ENTRY: Final = record(
    _entry, {"certificate": _identity, "standing": one_of(STANDINGS), "version": _VERSION, "by": uuid_text}
)
_ROSTER: Final = record(
    _roster,
    {
        "stack": uuid_text,
        "locked": flag,
        "lock_version": _VERSION,
        "absorbed": each(uuid_text, MOST_ENTRIES),
        "entries": each(_ENTRY, MOST_ENTRIES),
    },
)
