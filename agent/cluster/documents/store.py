"""What a device keeps of the stack's documents: ``documents.json`` in the state folder, mode 0600, replaced whole.

The command line and a running device both write it, under a lock; a running device sees a change at once, for the cost
of one stat. What the file says is merged into what is known, so neither loses what the other wrote. What other nodes
say holds even while the disk is full: a key that was revoked elsewhere must not live on for want of room.
"""

from __future__ import annotations

import errno
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from agent import private_file
from agent.cluster.documents.document import LATEST_MS
from agent.cluster.documents.documents import Documents, Merged
from agent.cluster.trust.service import TrustService
from agent.errors import NoRoomError, UnavailableError
from agent.identity import device_id

LAST_MS: Final = LATEST_MS - 365 * 86_400_000  # here documents' time stands still: what is written after it is counted
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")
_log = logging.getLogger(__name__)


class DocumentStore:
    """Safe to use from many threads and several processes."""

    def __init__(self, state_dir: Path, trust: TrustService) -> None:
        """``trust`` signs, and tells the time: the stack's, since a device without a clock of its own would refuse all
        that the others write. Raises OSError where the file cannot be read."""
        self._file, self._lock_file = state_dir / "documents.json", state_dir / "documents.lock"
        self._aside = state_dir / "documents.json.damaged"
        self._lock = threading.Lock()  # of whoever replaces what follows
        # Never changed, only replaced.
        self._documents = Documents(trust.device_id, trust, lambda: min(int(trust.clock.now() * 1000), LAST_MS))
        self._seen: tuple[int, int, int] | None = None
        self._news: set[str] = set()  # kinds of what changed and nobody was told of yet
        self._unsaved = False
        self._disk = ""  # why the file is not what it should be
        self._listeners: list[tuple[str, Callable[[], None]]] = []
        with self._lock:
            self._refresh()

    @property
    def fault(self) -> str:
        """What is wrong with the file; empty when nothing is."""
        if not self._disk and self._aside.exists():
            return f"documents.json was damaged: what is left of it is {self._aside.name}"
        return self._disk

    def on_change(self, kind: str, listener: Callable[[], None]) -> None:
        """Called, from any thread, after documents of this kind changed, whoever did it; it must return at once."""
        self._listeners.append((kind, listener))

    def read(self) -> Documents:
        """As they are now; not to be changed."""
        if self._stat() != self._seen:
            with self._lock:
                self._try_refresh()
            self._tell()
        return self._documents

    def view(self, make: Callable[[Documents], T]) -> Callable[[], T]:
        """What ``make`` says of them as they are at each call; it is asked only when they are others."""
        known: list[tuple[str, T]] = []  # digest, and what was made of that

        def now() -> T:
            documents = self.read()
            last = known[0] if known else None
            if last is None or last[0] != documents.digest:
                known[:] = [last := (documents.digest, make(documents))]
            return last[1]

        return now

    def change(self, change: Callable[[Documents], T]) -> T:
        """What ``change`` returns. On the disk when this returns; what it or the disk raises leaves all as it was.

        Raises NoRoomError when the disk is full, OSError where the file cannot be written, UnavailableError when
        another process holds it.
        """
        with self._lock, private_file.locked(self._lock_file):
            self._refresh(locked=True)
            fresh = self._documents.copy()
            result = change(fresh)
            if fresh.revision != self._documents.revision:
                try:
                    self._write(fresh)
                except OSError as error:
                    if error.errno in _FULL:
                        raise NoRoomError("There is no room on the disk", hint="Free some, then try again.") from error
                    raise
                self._replace(fresh)
                self._unsaved, self._disk = False, ""
        self._tell()
        return result

    def take(self, change: Callable[[Documents], T]) -> T:
        """What ``change`` returns. It holds from now on, and is on the disk as soon as that can be."""
        with self._lock:
            self._try_refresh()
            fresh = self._documents.copy()
            result = change(fresh)
            if fresh.revision != self._documents.revision:
                self._replace(fresh)
                self._unsaved = True
        self._tell()  # before the disk, which may be slow or full
        self.save()
        return result

    def merge(self, rows: object) -> Merged:
        """What another node sent, unchecked."""
        return self.take(lambda documents: documents.merge_json(rows))

    def save(self) -> None:
        """What is not on the disk yet. Tells in ``fault`` when that cannot be."""
        if self._unsaved:
            with self._lock:
                try:
                    with private_file.locked(self._lock_file):
                        self._refresh(locked=True)
                        self._write(self._documents)
                    self._unsaved, self._disk = False, ""
                except (OSError, UnavailableError) as error:
                    self._failed(f"shared documents cannot be kept over a restart: {error}")
        self._tell()

    def healed(self) -> None:
        """All that another node has is here: what was damaged is of no use any more."""
        if self._aside.exists():
            self._aside.unlink(missing_ok=True)
            _log.warning("what the others of the stack share is here again after documents.json was damaged")

    # --- how ---------------------------------------------------------------------------------------------------------

    def _replace(self, documents: Documents) -> None:
        self._news |= documents.changed_since(self._documents)
        self._documents = documents

    def _tell(self) -> None:
        if not self._news:
            return
        with self._lock:
            kinds, self._news = self._news, set()
        for kind, listener in tuple(self._listeners):
            if kind in kinds:
                listener()

    def _try_refresh(self) -> None:
        try:
            self._refresh()
        except (OSError, UnavailableError) as error:
            self._failed(f"documents.json cannot be read: {error}")

    def _refresh(self, locked: bool = False) -> None:
        """Merge the file into what is known, if it is another than before."""
        seen = self._stat()
        if seen == self._seen:
            return
        fresh = self._documents.copy()
        try:
            wrong = fresh.restore(json.loads(self._file.read_bytes())["documents"])
        except FileNotFoundError:
            wrong, seen = (), None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            wrong = (type(error).__name__,)
        if wrong and not locked:
            with private_file.locked(self._lock_file):  # it may be whole again by now
                self._refresh(locked=True)
            return
        if wrong:
            _log.error("documents.json is damaged: %s", wrong[0])
            self._unsaved = True  # what is known goes there
            if not self._documents.revision:
                self._file.replace(self._aside)
                seen = None
        if fresh.revision != self._documents.revision:
            self._replace(fresh)
        self._seen = seen

    def _write(self, documents: Documents) -> None:
        data = json.dumps({"version": 1, "documents": documents.to_json()}, separators=(",", ":"))
        private_file.replace(self._file, data.encode())
        self._seen = self._stat()

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _failed(self, why: str) -> None:
        if why != self._disk:
            _log.error("%s", why)
        self._disk = why


def open_documents(state_dir: Path) -> DocumentStore:
    """Those of the device whose state folder this is. Raises ConfigError, TrustFileError or OSError."""
    return DocumentStore(state_dir, TrustService(state_dir, device_id(state_dir)))
