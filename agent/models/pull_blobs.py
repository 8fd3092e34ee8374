"""Blobs on disk, by digest: what models share, and what a pull that was cut has already.

::

    <state>/blobs/sha256-<hex>              a whole blob, checked; every model that has it is a hard link to it
    <state>/blobs/sha256-<hex>.partial      the beginning of one

A blob that no model links to (its link count is 1) and no pull holds is unreferenced, and may be swept at any time. On
a disk without hard links models get copies, and blobs are only a cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.models.pull_control import Stop
from agent.models.pull_manifest import RemoteFile

if TYPE_CHECKING:
    from hashlib import _Hash

_PARTIAL = ".partial"
_ASK_AGAIN_S = 0.2  # a pull that waits for another's blob looks so often whether it was told to stop
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnreferencedBlob:
    """A blob, or the beginning of one, that no model has and no pull wants."""

    path: Path
    bytes: int
    modified: float  # Unix time, s
    partial: bool


def hasher(digest: str, size: int) -> _Hash:
    """What makes this kind of digest. ``git:`` is git's own of a file: SHA-1 over a header and the content."""
    if digest.startswith("git:"):
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.sha256()


def hash_file(file: RemoteFile, path: Path, stop: Stop) -> _Hash:
    """The hash of a file so far. Raises OSError, Stopped."""
    found = hasher(file.digest, file.size)
    with path.open("rb") as stream:
        while data := stream.read(_PIECE):
            stop.check()
            found.update(data)
    return found


def is_whole(file: RemoteFile, found: _Hash) -> bool:
    """Whether these are the bytes that the digest promises."""
    return file.digest.partition(":")[2] == found.hexdigest()


class BlobStore:
    """The folder of blobs. Safe to use from many threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._condition = threading.Condition()
        self._held: Counter[str] = Counter()
        self._coming: set[str] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self._folder

    def path(self, digest: str) -> Path:
        """Where a blob lies once it is whole."""
        return self._folder / digest.replace(":", "-")

    def partial(self, digest: str) -> Path:
        """Where a blob grows."""
        return self._folder / (digest.replace(":", "-") + _PARTIAL)

    def missing_bytes(self, files: Iterable[RemoteFile]) -> int:
        """What has still to come of these files."""
        sizes = {file.digest: file.size for file in files}
        missing = 0
        for digest, size in sizes.items():
            if not self.path(digest).exists():
                partial = self.partial(digest)
                missing += size - min(size, partial.stat().st_size if partial.exists() else 0)
        return missing

    @contextmanager
    def hold(self, digests: Iterable[str]) -> Iterator[None]:
        """Within the block these blobs are not swept."""
        held = list(digests)
        with self._condition:
            self._held.update(held)
        try:
            yield
        finally:
            with self._condition:
                self._held.subtract(held)
                self._held += Counter()  # drops the zeros

    @contextmanager
    def alone(self, digest: str, stop: Stop) -> Iterator[None]:
        """Within the block nobody else writes this blob; whoever does is waited for. Raises Stopped."""
        with self._condition:
            while digest in self._coming:
                stop.check()
                self._condition.wait(_ASK_AGAIN_S)
            stop.check()
            self._coming.add(digest)
        try:
            yield
        finally:
            with self._condition:
                self._coming.discard(digest)
                self._condition.notify_all()

    def publish(self, digest: str) -> None:
        """A partial blob that was checked becomes a whole one, also for after a power cut."""
        partial = self.partial(digest)
        partial.chmod(0o444)  # models share it: an edit in place would change them all
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(self.path(digest))

    def give(self, digest: str, target: Path) -> None:
        """Make ``target`` this blob: a hard link where the disk has them, else a copy. Raises OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(self.path(digest))
        except FileExistsError:
            raise
        except OSError:  # another disk, one without links, or a blob with as many as there can be
            shutil.copyfile(self.path(digest), target)

    def unreferenced(self) -> list[UnreferencedBlob]:
        """What could be swept now, oldest first."""
        with self._condition:
            held = {self.path(digest).name for digest in self._held}
            found = []
            with os.scandir(self._folder) as scanned:
                entries = list(scanned)
            for entry in entries:
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # published in this moment
                    continue
                partial = entry.name.endswith(_PARTIAL)
                if entry.name.removesuffix(_PARTIAL) not in held and stat.st_nlink == 1:
                    found.append(UnreferencedBlob(Path(entry.path), stat.st_size, stat.st_mtime, partial))
        return sorted(found, key=lambda blob: blob.modified)

    def sweep(self, older_than_s: float = 0.0, *, partial: bool = True) -> int:
        """Delete what is unreferenced and was not written to for so long; the bytes that this freed.

        ``partial``: also what a pull that was cut has got so far: the next one begins anew.
        """
        freed, now = 0, time.time()
        with self._condition:  # no pull may take hold of a blob in between
            for blob in self.unreferenced():
                if now - blob.modified >= older_than_s and (partial or not blob.partial):
                    blob.path.unlink(missing_ok=True)
                    freed += blob.bytes
        return freed
