"""ModelPack's packed layers: a tar that holds the one file which its manifest names."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from agent.errors import ModelError

_PIECE = 1024 * 1024
_MOST_MEMBERS = 16  # the file, and folders above it
_LARGEST_NOTE = 64 * 1024  # of a header that carries a long name; tarfile would read any size into memory
_NOTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def unpack(archive: Path, path: str, target: Path, check: Callable[[], None]) -> None:
    """Write the file ``path`` of the tar to ``target``; ``check`` is called now and then, and may raise.

    Only a plain file counts, and only one: no links, no devices, nothing beside it. It cannot be larger than the tar,
    since that is not compressed. Raises ModelError, OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _check_headers(archive, path)
        with tarfile.open(archive, "r:") as tar:
            files = [member for member in tar if not member.isdir()]
            if len(files) != 1 or not files[0].isreg() or not _is(files[0].name, path):
                raise ModelError(f"the archive of {path} holds something else")
            source = tar.extractfile(files[0])
            assert source is not None  # it is a regular file
            with source, target.open("xb") as stream:
                while data := source.read(_PIECE):
                    check()
                    stream.write(data)
    except tarfile.TarError as error:
        raise ModelError(f"the archive of {path} cannot be read: {error}") from error


def _check_headers(archive: Path, path: str) -> None:
    """Look at the headers alone, before tarfile does. Raises ModelError, tarfile.TarError."""
    with archive.open("rb") as stream:
        for _ in range(_MOST_MEMBERS):
            block = stream.read(tarfile.BLOCKSIZE)
            if not block.strip(b"\0"):
                return
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if member.size < 0 or (member.type in _NOTES and member.size > _LARGEST_NOTE):
                break
            stream.seek(-(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, 1)
    raise ModelError(f"the archive of {path} holds something else")


def _is(member: str, path: str) -> bool:
    """Packed with its path, or by its name alone."""
    name = PurePosixPath(member.removeprefix("./"))
    return name == PurePosixPath(path) or str(name) == PurePosixPath(path).name
