"""Files that belong to the owner alone, mode 0600, and are never seen half written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


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
