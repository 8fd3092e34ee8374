"""One blob from its server into the blob store, through every cut; several of them at a time.

A connection that breaks is taken up where it ended, and so is what an earlier pull left. Bytes are hashed as they come.
A blob that was put together from pieces and is wrong is fetched once more from its first byte: a piece may be of
another day. A blob that came in one piece and is wrong is the server's fault.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from agent.errors import ModelError, NoRoomError, ThoxError, UnavailableError
from agent.models.pull_blobs import BlobStore, hash_file, hasher, is_whole
from agent.models.pull_control import BusyError, Limits, Stop, Stopped
from agent.models.pull_http import Response
from agent.models.pull_manifest import RemoteFile

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ENOUGH = 1024 * 1024  # a try that brings so many bytes, or a hundredth of the blob, has not failed


@dataclass(frozen=True, slots=True)
class Downloads:
    """What all blobs of a pull have in common.

    ``open`` asks for a file from a byte on; ``told`` hears a file and its bytes so far, from several threads.
    """

    open: Callable[[RemoteFile, int], Response]
    told: Callable[[RemoteFile, int], None]
    blobs: BlobStore
    stop: Stop
    limits: Limits

    def fetch_all(self, files: Iterable[RemoteFile]) -> None:
        """Bring every file's blob; the first that fails ends the others, which keep what they have.

        Raises ModelError (what came is wrong), UnavailableError (it does not come), NoRoomError, Stopped, and what
        ``open`` raises.
        """
        with ThreadPoolExecutor(self.limits.parallel, thread_name_prefix="blob") as pool:
            running = [pool.submit(self.fetch, file) for file in {file.digest: file for file in files}.values()]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            failed = [future for future in done if future.exception() is not None]
            if failed:
                first = _cause(failed)
                self.stop.set()
                raise first

    def fetch(self, file: RemoteFile) -> None:
        """Bring one blob, or find that it is here. Raises as ``fetch_all``."""
        with self.blobs.alone(file.digest, self.stop):
            path, partial = self.blobs.path(file.digest), self.blobs.partial(file.digest)
            if path.exists():
                # A disk may have spoilt it since: pulling again is how its owner mends a model.
                if path.stat().st_size == file.size and is_whole(file, hash_file(file, path, self.stop)):
                    self.told(file, file.size)
                    return
                path.unlink()
            try:
                if not self._fill(file):
                    partial.unlink()
                    self._fill(file)
            except ModelError:
                partial.unlink(missing_ok=True)
                raise
            except OSError as error:
                if error.errno in _FULL:
                    raise NoRoomError(
                        f"the disk is full: {file.path} cannot be written", hint="delete a model"
                    ) from error
                raise ThoxError(f"{file.path} cannot be written: {error.strerror}") from error
            self.blobs.publish(file.digest)
            self.told(file, file.size)

    def _fill(self, file: RemoteFile) -> bool:
        """Append to the partial blob until it is whole. False: it was put together from pieces, and is wrong."""
        partial, stop, limits = self.blobs.partial(file.digest), self.stop, self.limits
        partial.touch(mode=0o600)
        if partial.stat().st_size > file.size:
            partial.write_bytes(b"")
        digest = hash_file(file, partial, stop)
        with partial.open("ab") as target:
            done = furthest = target.tell()
            pieced, failures = done > 0, 0
            self.told(file, done)
            while done < file.size:
                wished, problem = 0.0, None
                try:
                    with self.open(file, done) as response:
                        start = _start(response, file, done)
                        if start != done:  # a server that knows no ranges
                            target.truncate(start)
                            digest, done = hasher(file.digest, file.size), start
                        pieced = start > 0
                        for data in response.chunks(stop) if response.status != 416 else ():
                            if done + len(data) > file.size:
                                raise ModelError(f"{file.path} is longer than the {file.size} bytes it should have")
                            target.write(data)
                            target.flush()
                            digest.update(data)
                            done += len(data)
                            self.told(file, done)
                except UnavailableError as error:
                    problem, wished = error, error.wished_s if isinstance(error, BusyError) else 0.0
                if done == file.size:
                    break
                failures = 0 if done - furthest >= min(_ENOUGH, file.size // 100 + 1) else failures + 1
                furthest = max(furthest, done)
                if failures >= limits.tries or wished > limits.longest_wait_s:
                    raise problem or UnavailableError(
                        f"{file.path} ended after {done} of {file.size} bytes", retry_after=30
                    )
                stop.wait(limits.delay(failures, wished))
        if is_whole(file, digest):
            return True
        if pieced:
            return False
        raise ModelError(f"{file.path} did not arrive as its digest says", hint="pull it again")


def disk_error(path: str, error: OSError) -> ThoxError:
    """What a disk that does not take a file means to a client."""
    if error.errno in _FULL:
        return NoRoomError(f"the disk is full: {path} cannot be written", hint="delete a model first")
    return ThoxError(f"{path} cannot be written: {error.strerror or error}")


def _start(response: Response, file: RemoteFile, wanted: int) -> int:
    """At which byte of the blob the body begins. Raises ModelError when the server tells of another blob."""
    length, start, total = response.header("Content-Length"), 0, ""
    if response.status == 416:  # it has nothing at that byte: from the first one, then
        return 0
    if response.status == 206:
        found = _RANGE.fullmatch(response.header("Content-Range"))
        start, total = (int(found[1]), found[3]) if found else (wanted, "")
    if start not in (0, wanted):
        raise ModelError(f"{file.path}: asked for byte {wanted}, the server begins at {start}")
    told = int(total) if total.isdecimal() else start + int(length) if length.isdecimal() else file.size
    if told != file.size:
        raise ModelError(f"{file.path} has {told} bytes at its server, and should have {file.size}")
    return start


def _cause(failed: list[Future[None]]) -> BaseException:
    """Of several, the one that is not only the others' end."""
    errors = [error for future in failed if (error := future.exception()) is not None]
    return next((error for error in errors if not isinstance(error, Stopped)), errors[0])
