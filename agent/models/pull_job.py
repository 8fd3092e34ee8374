"""A pull on its way: a thread of its own, and any number of listeners who see how far it is.

A listener that goes away only stops listening. A pull ends by itself, by its failure, or by ``cancel``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.errors import UnavailableError
from agent.models.pull_control import Limits, Stop, Stopped


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """How far one file is, in bytes. ``digest`` is empty for files of the device itself."""

    path: str
    digest: str
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is. ``completed`` and ``total`` are bytes over all files.

    ``status`` is resolving, downloading, copying, checking or success. ``blobs`` are the files that moved since the
    listener's step before; of the first step, all of them.
    """

    status: str
    completed: int = 0
    total: int = 0
    blobs: tuple[BlobProgress, ...] = ()


class PullJob:
    """One pull. ``work`` does it, in a thread; it is given the job to tell where it is, and its Stop."""

    def __init__(self, name: str, source: str, limits: Limits) -> None:
        self.name, self.source = name, source
        self.stop = Stop()
        self._limits = limits
        self._condition = threading.Condition()
        self._status = "resolving"
        self._blobs: dict[str, BlobProgress] = {}
        self._error: Exception | None = None
        self._ended = False
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[PullJob], None], ended: Callable[[PullJob], None]) -> None:
        """``ended`` is called before the listeners learn of the end."""

        def run() -> None:
            error: Exception | None = None
            try:
                work(self)
            except Exception as problem:  # noqa: BLE001  whoever listens gets it, whatever it is
                error = problem
            ended(self)
            with self._condition:
                self._status = "success" if error is None else "failed"
                self._end(error)

        self._thread = threading.Thread(target=run, name=f"pull {self.name}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Tell it to end. Its listeners learn it at once; what it has already fetched stays for the next pull."""
        with self._condition:
            if self._status == "success":
                return
            self._cancelled = True
            self._end(None)
        self.stop.set()

    def join(self, timeout: float) -> None:
        """Wait until its thread has ended, at most so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def begin(self, status: str, files: dict[str, tuple[str, int]]) -> None:
        """From here on these files move: path -> digest and bytes."""
        with self._condition:
            self._status = status
            self._blobs = {path: BlobProgress(path, digest, 0, size) for path, (digest, size) in files.items()}
            self._condition.notify_all()

    def tell(self, path: str, completed: int) -> None:
        """So many bytes of a file are there. Raises Stopped once the pull is to end."""
        self.stop.check()
        with self._condition:  # listeners look by themselves: waking them for each chunk would cost more than it tells
            blob = self._blobs[path]
            self._blobs[path] = BlobProgress(path, blob.digest, completed, blob.total)

    def check(self) -> None:
        """The bytes are there and are being looked at."""
        self.stop.check()
        with self._condition:
            self._status = "checking"

    def progress(self) -> Progress:
        """Where it is now, with every file."""
        with self._condition:
            return self._seen({})

    def steps(self) -> Iterator[Progress]:
        """From where it is now to its end. Raises what the pull raised, UnavailableError when it was cancelled."""
        known: dict[str, BlobProgress] = {}
        last: Progress | None = None
        while True:
            quiet_until = time.monotonic() + self._limits.heartbeat_s
            with self._condition:
                while True:
                    step = self._seen(known)
                    if self._ended:
                        break
                    moved = last is None or step.blobs or step.status != last.status
                    if self._status != "resolving" and (moved or time.monotonic() >= quiet_until):
                        break
                    self._condition.wait(self._limits.report_s)
                ended, error, cancelled = self._ended, self._error, self._cancelled
                known = dict(self._blobs)
            if error is not None:
                raise error
            if cancelled:
                raise UnavailableError(
                    f"the pull of {self.name} was cancelled",
                    retry_after=1,
                    hint="what came is kept: the next pull goes on from there",
                )
            yield step
            if ended:
                return
            last = step

    def _seen(self, known: dict[str, BlobProgress]) -> Progress:
        blobs = self._blobs
        moved = tuple(blob for path, blob in blobs.items() if known.get(path) != blob)
        completed, total = sum(blob.completed for blob in blobs.values()), sum(blob.total for blob in blobs.values())
        return Progress(self._status, completed, total, moved)

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._error = None if isinstance(error, Stopped) else error
            self._cancelled = self._cancelled or isinstance(error, Stopped)
            self._condition.notify_all()
