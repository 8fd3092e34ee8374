"""Files that belong to the owner alone, mode 0600, and are never seen half written, nor written by two at once."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.errors import UnavailableError

_LOCKED_S: Final = 5.0  # how long another process may hold a lock
_POLL_S: Final = 0.02


def replace(file: Path, data: bytes) -> None:
    """Write the file anew and make it last: a reader sees the old one or the new one, and so does the next start."""
    new = _write_beside(file, data)
    try:
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    _keep_names(file.parent)


def create(file: Path, data: bytes) -> bool:
    """Write it unless it is there. False when another process was first; what it wrote stays."""
    new = _write_beside(file, data)
    try:
        os.link(new, file)  # unlike a rename, it never replaces what is there
    except FileExistsError:
        return False
    finally:
        new.unlink()
    _keep_names(file.parent)
    return True


@contextmanager
def locked(file: Path, patience_s: float = _LOCKED_S) -> Iterator[None]:
    """Of all threads and processes that ask for the lock of this name, one at a time. Raises UnavailableError when
    another keeps it for long, OSError."""
    ends = time.monotonic() + patience_s
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise UnavailableError(f"Another process holds {file.name}", retry_after=5.0) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _write_beside(file: Path, data: bytes) -> Path:
    """A file of another name in the same folder, on the disk before this returns."""
    new = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        new.unlink(missing_ok=True)
        raise
    return new


def _keep_names(folder: Path) -> None:
    """The names in a folder are on the disk, too, when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
