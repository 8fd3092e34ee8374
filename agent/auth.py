"""Who may do what: the keys of a stack, hashed at rest.

A key is ``thox_`` and 43 characters of base64url: 256 random bits. Nobody can guess or enumerate those, so at rest a
plain SHA-256 serves; a slow password hash would only cost time, and a keyed one could not be shared. Keys are documents
of the stack (kind ``key``, by the key's id): made or revoked on any node, they hold on all of them, and a key that was
revoked leaves a tombstone that no older copy undoes.

Verifying hashes what the client sent and looks the hash up in a dictionary. How long a lookup takes tells a client
nothing of use: who knew all of a hash would still have to find the 256 bits that it is made of.
A running server sees a new or a revoked key at once: every request costs one stat of ``documents.json``.

``admin`` implies every other permission.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.cluster.documents.documents import Documents
from agent.cluster.documents.store import DocumentStore, open_documents
from agent.cluster.state import node_id
from agent.errors import AuthenticationError, NotFoundError, RequestError
from agent.identity import device_id

PERMISSIONS: Final = ("inference", "models", "cluster", "power", "admin")
PREFIX: Final = "thox_"
MAX_PER_MINUTE: Final = 1_000_000  # what the rate limiter remembers of a key is bounded by its limit
KIND: Final = "key"  # of their documents
_LENGTH: Final = len(PREFIX) + 43
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """What the stack knows of a key; the key itself is known to its holder alone."""

    id: str
    name: str
    permissions: frozenset[str]
    created_at: float  # seconds since the epoch
    made_on: str = ""  # id of the node
    expires_at: float | None = None
    inference_per_minute: int | None = None  # None: the device's default; 0: no limit
    cluster_per_minute: int | None = None

    def allows(self, permission: str) -> bool:
        return permission in self.permissions or "admin" in self.permissions


class KeyRing:
    """The keys of the stack, as a device knows them. Safe to use from many threads and several processes."""

    def __init__(
        self, state_dir: Path, documents: DocumentStore | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """``documents``: a running node's own; None: those in the state folder. Raises ConfigError, TrustFileError, or
        OSError where the files cannot be read."""
        self._node = node_id(device_id(state_dir))
        self._documents = documents or open_documents(state_dir)
        self._clock = clock
        self._fresh = self._documents.view(_keys)  # by hash

    @property
    def fault(self) -> str:
        """Why keys may be missing; empty when nothing is wrong."""
        return self._documents.fault

    def verify(self, presented: str) -> Key:
        """The key that the client holds. Raises AuthenticationError when it is unknown, revoked or expired."""
        keys = self._fresh()
        if len(presented) != _LENGTH or not presented.startswith(PREFIX) or not presented.isascii():
            raise AuthenticationError("Invalid API key")
        key = keys.get(_hash(presented))
        if key is None:
            raise AuthenticationError("Invalid API key")
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise AuthenticationError("Expired API key", hint="Ask the owner of the device for a new one.")
        return key

    def keys(self) -> tuple[Key, ...]:
        """All keys, oldest first."""
        return tuple(sorted(self._fresh().values(), key=lambda key: (key.created_at, key.id)))

    def names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys())

    def create(
        self,
        name: str,
        permissions: Iterable[str],
        *,
        expires_at: float | None = None,
        inference_per_minute: int | None = None,
        cluster_per_minute: int | None = None,
    ) -> tuple[Key, str]:
        """A new key, and its text, which is shown this once. Raises RequestError for a bad name or permission."""
        granted = frozenset(permissions)
        self._check(name, granted)
        for limit in (inference_per_minute or 0, cluster_per_minute or 0):
            if not 0 <= limit <= MAX_PER_MINUTE:
                raise RequestError(f"A limit is 1 to {MAX_PER_MINUTE} requests a minute, or 0 for none", param="limit")
        key = Key(
            id="key-" + secrets.token_hex(8),
            name=name,
            permissions=granted,
            created_at=self._clock(),
            made_on=self._node,
            expires_at=expires_at,
            inference_per_minute=inference_per_minute,
            cluster_per_minute=cluster_per_minute,
        )

        def change(documents: Documents) -> str:
            if any(other.name == name for other in _keys(documents).values()):
                raise RequestError(
                    f"There is a key named {name!r} already",
                    param="name",
                    hint="Choose another name, or revoke that one first.",
                )
            return _put(documents, key)

        return key, self._documents.change(change)

    def create_owner(self) -> str | None:
        """On a device's first start, a key that may do everything; None when it has had one, be it revoked since, and
        when its documents were damaged, since then that cannot be known.

        Other keys may be there before: commands make them while no device has run yet, and so do other devices of the
        stack, each its own ``owner``.
        """
        name = f"key-owner-{self._node.removeprefix('node-')}"
        key = Key(name, "owner", frozenset(PERMISSIONS), self._clock(), self._node)
        if self.fault or self._documents.read().knows(KIND, name):
            return None
        return self._documents.change(lambda documents: None if documents.knows(KIND, name) else _put(documents, key))

    def revoke(self, name_or_id: str) -> Key:
        """Forget a key, everywhere. Raises NotFoundError when there is none of that name or id, RequestError where
        several have that name: stacks that met may each have brought one."""

        def change(documents: Documents) -> Key:
            keys = tuple(_keys(documents).values())
            found = [key for key in keys if key.id == name_or_id] or [key for key in keys if key.name == name_or_id]
            if not found:
                raise NotFoundError(f"There is no key named {name_or_id!r}", hint="`thox key list` shows them.")
            if len(found) > 1:
                ids = ", ".join(f"{key.id} of {key.made_on}" for key in sorted(found, key=lambda key: key.id))
                raise RequestError(f"{len(found)} keys are named {name_or_id!r}", hint=f"Name one by its id: {ids}.")
            documents.delete(KIND, found[0].id)
            return found[0]

        return self._documents.change(change)

    @staticmethod
    def _check(name: str, permissions: frozenset[str]) -> None:
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise RequestError("A key's name has 1 to 64 printable characters", param="name")
        unknown = sorted(permissions - set(PERMISSIONS))
        if unknown or not permissions:
            raise RequestError(
                f"Unknown permission {unknown[0]!r}" if unknown else "A key needs a permission",
                param="permissions",
                hint=f"Permissions are {', '.join(PERMISSIONS)}.",
            )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _put(documents: Documents, key: Key) -> str:
    """The text of the key, which is nowhere from now on but with its holder."""
    text = PREFIX + secrets.token_urlsafe(32)
    documents.put(KIND, key.id, _entry(_hash(text), key))
    return text


def _keys(documents: Documents) -> dict[str, Key]:
    """By hash. What another node wrote that is no key is left out."""
    keys: dict[str, Key] = {}
    for name, value in documents.of(KIND).items():
        try:
            if not isinstance(value, dict) or not isinstance(value["hash"], str):
                raise TypeError("it has no hash")
            keys[value["hash"]] = _key(name, value)
        except (KeyError, TypeError) as error:
            _log.warning("the shared document of the key %.80s is none: %s", name, error)
    return keys


def _key(identity: str, entry: Mapping[str, object]) -> Key:
    """Raises KeyError or TypeError."""
    name, made_on, created = entry["name"], entry["made_on"], entry["created_at"]
    permissions, expires = entry["permissions"], entry["expires_at"]
    if not (isinstance(name, str) and isinstance(made_on, str) and isinstance(created, (int, float))):
        raise TypeError("a name, node or time is of the wrong type")
    if not (isinstance(permissions, list) and all(isinstance(each, str) for each in permissions)):
        raise TypeError("the permissions are no list")
    if not (expires is None or isinstance(expires, (int, float))):
        raise TypeError("expires_at is not a time")
    inference, cluster = entry["inference_per_minute"], entry["cluster_per_minute"]
    if not ((inference is None or isinstance(inference, int)) and (cluster is None or isinstance(cluster, int))):
        raise TypeError("a limit is not a number")
    known = frozenset(permissions) & frozenset(PERMISSIONS)  # a newer version may know more
    return Key(identity, name, known, created, made_on, expires, inference, cluster)


def _entry(digest: str, key: Key) -> dict[str, object]:
    return {
        "name": key.name,
        "hash": digest,
        "permissions": sorted(key.permissions),
        "created_at": key.created_at,
        "made_on": key.made_on,
        "expires_at": key.expires_at,
        "inference_per_minute": key.inference_per_minute,
        "cluster_per_minute": key.cluster_per_minute,
    }
