"""Who may do what: the keys of a device, hashed at rest.

A key is ``thox_`` and 43 characters of base64url: 256 random bits. Nobody can guess or enumerate those, so at rest a
keyed hash (HMAC-SHA256 with a secret of the device) serves; a slow password hash would only cost time. Both files
belong to the owner alone (mode 0600): ``keys.json`` (names, permissions, hashes; replaced atomically under a lock, so
that the command and a running server may both write) and ``keys.secret``.

Verifying hashes what the client sent and looks the hash up in a dictionary. How long a lookup takes tells a client
nothing: without the secret it can neither choose nor know the hash that is compared, so it cannot feel its way to one.
A running server sees a new or a revoked key at once: every request costs one stat of ``keys.json``.

``admin`` implies every other permission.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from agent import private_file
from agent.errors import AuthenticationError, NotFoundError, RequestError, ThoxError

PERMISSIONS: Final = ("inference", "models", "cluster", "power", "admin")
PREFIX: Final = "thox_"
MAX_PER_MINUTE: Final = 1_000_000  # what the rate limiter remembers of a key is bounded by its limit
_LENGTH: Final = len(PREFIX) + 43


class KeysFileError(ThoxError):
    """keys.json or keys.secret cannot be read. Never taken for an empty ring."""

    type = "keys_file_error"


@dataclass(frozen=True, slots=True)
class Key:
    """What the device knows of a key; the key itself is known to its holder alone."""

    id: str
    name: str
    permissions: frozenset[str]
    created_at: float  # seconds since the epoch
    expires_at: float | None = None
    inference_per_minute: int | None = None  # None: the device's default; 0: no limit
    cluster_per_minute: int | None = None

    def allows(self, permission: str) -> bool:
        return permission in self.permissions or "admin" in self.permissions


class KeyRing:
    """The keys in a state directory. Safe to use from many threads and several processes."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        """Reads the files that are there; raises KeysFileError when they are damaged."""
        self._file = state_dir / "keys.json"
        self._secret_file = state_dir / "keys.secret"
        self._lock_file = state_dir / "keys.lock"
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}  # by hash
        self._secret = b""
        self._owner_made = False
        self._fresh()

    def verify(self, presented: str) -> Key:
        """The key that the client holds. Raises AuthenticationError when it is unknown, revoked or expired."""
        keys = self._fresh()
        if len(presented) != _LENGTH or not presented.startswith(PREFIX) or not presented.isascii():
            raise AuthenticationError("Invalid API key")
        key = keys.get(self._hash(presented))
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
        text = PREFIX + secrets.token_urlsafe(32)
        with self._writing() as keys:
            if any(key.name == name for key in keys.values()):
                raise RequestError(
                    f"There is a key named {name!r} already",
                    param="name",
                    hint="Choose another name, or revoke that one first.",
                )
            key = Key(
                id="key-" + secrets.token_hex(4),
                name=name,
                permissions=granted,
                created_at=self._clock(),
                expires_at=expires_at,
                inference_per_minute=inference_per_minute,
                cluster_per_minute=cluster_per_minute,
            )
            keys[self._hash(text)] = key
        return key, text

    def create_owner(self) -> str | None:
        """On the first start, a key that may do everything; None when this ring has had one, be it revoked since.

        Other keys may be there before: commands make them while no device has run yet.
        """
        if self._owner_made or "owner" in self.names():
            return None
        return self.create("owner", PERMISSIONS)[1]

    def revoke(self, name_or_id: str) -> Key:
        """Forget a key. Raises NotFoundError when there is none of that name or id."""
        with self._writing() as keys:
            for digest, key in keys.items():
                if name_or_id in (key.name, key.id):
                    del keys[digest]
                    return key
        raise NotFoundError(f"There is no key named {name_or_id!r}", hint="`thox key list` shows them.")

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

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _fresh(self) -> dict[str, Key]:
        """The keys as the file has them now."""
        try:
            stat = self._file.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            seen = None
        except OSError as error:
            raise _damaged(self._file, error) from error
        with self._lock:
            if seen != self._seen:
                self._secret, self._keys, self._owner_made = self._read() if seen else (b"", {}, False)
                self._seen = seen
            return self._keys

    def _read(self) -> tuple[bytes, dict[str, Key], bool]:
        try:
            secret = self._secret_file.read_bytes()
        except OSError as error:
            raise _damaged(self._secret_file, error) from error
        if len(secret) != 32:
            raise _damaged(self._secret_file, ValueError("it does not hold 32 bytes"))
        try:
            document = json.loads(self._file.read_text())
            keys = {entry["hash"]: _key(entry) for entry in document["keys"]}
            return secret, keys, document.get("owner_made") is True
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self._file, error) from error

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Key]]:
        """A copy of the keys that replaces the file when the block ends without an error."""
        with _open_private(self._lock_file) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = dict(self._fresh())
            if not self._secret:
                self._make_secret()
            yield keys
            made = self._owner_made or any(key.name == "owner" for key in keys.values())
            entries = [_entry(digest, key) for digest, key in keys.items()]
            document = {"version": 1, "owner_made": made, "keys": entries}
            private_file.replace(self._file, json.dumps(document, indent=1).encode())
        self._fresh()

    def _make_secret(self) -> None:
        """A secret left over from a ring without keys is used again: nothing was hashed with it that still matters."""
        if not self._secret_file.exists():
            private_file.replace(self._secret_file, secrets.token_bytes(32))
        with self._lock:
            self._secret = self._secret_file.read_bytes()


def _key(entry: Mapping[str, object]) -> Key:
    name, identity, created = entry["name"], entry["id"], entry["created_at"]
    permissions, expires = entry["permissions"], entry["expires_at"]
    if not (isinstance(name, str) and isinstance(identity, str) and isinstance(created, (int, float))):
        raise TypeError("a name, id or time is of the wrong type")
    if not (isinstance(permissions, list) and set(permissions) <= set(PERMISSIONS)):
        raise TypeError("the permissions are not a list of known ones")
    if not (expires is None or isinstance(expires, (int, float))):
        raise TypeError("expires_at is not a time")
    inference, cluster = entry["inference_per_minute"], entry["cluster_per_minute"]
    if not ((inference is None or isinstance(inference, int)) and (cluster is None or isinstance(cluster, int))):
        raise TypeError("a limit is not a number")
    return Key(identity, name, frozenset(permissions), created, expires, inference, cluster)


def _entry(digest: str, key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "hash": digest,
        "permissions": sorted(key.permissions),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "inference_per_minute": key.inference_per_minute,
        "cluster_per_minute": key.cluster_per_minute,
    }


def _damaged(file: Path, cause: Exception) -> KeysFileError:
    # A client may see this one: the file's name, not where it lies.
    return KeysFileError(
        f"{file.name} in the state directory cannot be used: {type(cause).__name__}",
        hint="Restore it from a backup, or move keys.json and keys.secret away: the next start makes a new owner key.",
    )


def _open_private(file: Path) -> IO[bytes]:
    return os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")
