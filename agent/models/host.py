"""Which models are in memory: loads and frees them, lends them out, and swaps one without dropping its answers.

One thread loads, one model after the other; no lock is held meanwhile. A model is absent, loading, loaded or failed::

    absent --load, or a request for it--> loading --> loaded --unload--> absent
                                             |
                                             +--> failed --load--> loading
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from agent.engine.base import Engine
from agent.errors import (
    EngineError,
    ModelError,
    NoRoomError,
    NotFoundError,
    ThoxError,
    UnavailableError,
)
from agent.models.checkpoint import StoredModel
from agent.models.lease import HostedModel, Job, Lease, Loaded, again, loading_error
from agent.models.options import LoadOptions, needed_bytes
from agent.models.store import ModelStore

log = logging.getLogger(__name__)


class ModelHost:
    """The loaded models of one node. Thread-safe.

    ``open_engine`` turns a stored model into an engine; it may take long and may raise ThoxError. ``needed`` estimates
    the bytes that will take, ``available`` gives those that are free. ``quick_s`` is how long a request waits for a
    model that is being loaded.
    """

    def __init__(
        self,
        store: ModelStore,
        open_engine: Callable[[StoredModel, LoadOptions], Engine],
        *,
        needed: Callable[[StoredModel, LoadOptions], int] = needed_bytes,
        available: Callable[[], int] | None = None,
        quick_s: float = 2.0,
    ) -> None:
        self._store, self._open_engine = store, open_engine
        self._needed, self._available = needed, available or available_bytes
        self._quick_s = quick_s
        self._changed = threading.Condition()  # guards everything below
        self._loaded: dict[str, Loaded] = {}
        self._jobs: dict[str, Job] = {}  # the newest load of each model that is not done yet
        self._failed: dict[str, tuple[str, ThoxError]] = {}  # with the digest of the files that failed
        self._closed = False
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
        self._thread.start()

    # --- asking for models

    def load(self, name: str, options: LoadOptions | None = None, wait_s: float | None = 600.0) -> HostedModel:
        """Load a model and wait until it is there. A load that is on its way is joined; other options load it anew.

        ``wait_s`` None: begin, and do not wait. Raises NotFoundError, RequestError, ModelError, NoRoomError, and
        ModelLoadingError when ``wait_s`` are over.
        """
        model = self._store.find(name)
        job = self._begin(model, self._fitting(model, options or LoadOptions()))
        if job is not None and wait_s is not None:
            if not job.done.wait(wait_s):
                raise loading_error(job)
            if job.error is not None:
                raise again(job.error)
        return self.state(model.name)

    def preload(self, names: Iterable[str]) -> None:
        """Begin to load these; those that are not there are passed over with a line in the log."""
        for name in names:
            try:
                model = self._store.find(name)
                self._begin(model, LoadOptions())
            except ThoxError as error:
                log.warning("model %s is not preloaded: %s", name, error.message)

    def lease(self, name: str) -> Lease:
        """Borrow the engine of a model. One that is stored but not loaded starts to load.

        Raises NotFoundError; ModelLoadingError (503) when it is not there within ``quick_s``; what a load raises.
        """
        model = self._store.find(name)
        deadline = time.monotonic() + self._quick_s
        while True:
            with self._changed:
                lease = self._lend(model.name)
                if lease is not None:
                    return lease
                job, failed = self._jobs.get(model.name), self._failed.get(model.name)
            if job is None:
                if failed is not None and failed[0] == model.digest:
                    raise again(failed[1])
                job = self._begin(model, LoadOptions())
            if job is not None:
                if not job.done.wait(max(0.0, deadline - time.monotonic())):
                    raise loading_error(job)
                if job.error is not None:
                    raise again(job.error)

    def running(self, name: str | None = None) -> Lease | None:
        """Borrow a model only if it is loaded: the one of this name, or the active one. Does not count as use."""
        if name is not None:
            try:
                name = self._store.find(name).name
            except ThoxError:
                return None
        with self._changed:
            name = name or self._active()
            return self._lend(name, use=False) if name is not None else None

    def unload(self, name: str, wait_s: float = 30.0, cancel: bool = False) -> HostedModel:
        """Free the memory of a model, once its answers have ended; with ``cancel``, end them now with an error.

        Raises UnavailableError when answers still run after ``wait_s``: the model then stays loaded. Harmless for a
        model that is not loaded.
        """
        try:
            name = self._store.find(name).name
        except NotFoundError:
            if name not in self._loaded:  # deleted from disk, still in memory
                raise
        deadline = time.monotonic() + wait_s
        with self._changed:
            job = self._jobs.pop(name, None)
            if job is not None:
                job.unwanted = True
            self._failed.pop(name, None)
            loaded = self._loaded.pop(name, None)  # from here on nobody can borrow it
            if loaded is not None and not cancel:
                while loaded.leases and name not in self._loaded and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                if loaded.leases and name in self._loaded:  # loaded anew meanwhile: the last answer closes the old one
                    loaded.retired, loaded = True, None
                elif loaded.leases and not self._closed:
                    self._loaded[name] = loaded
                    raise UnavailableError(
                        f"{name} is still answering {loaded.leases} requests",
                        retry_after=10,
                        hint='ask again later, or with "cancel": true to end them',
                    )
        if loaded is not None:
            loaded.engine.close()
            log.info("model %s unloaded", name)
        return self.state(name)

    def discard(self, name: str) -> None:
        """Forget a model that was deleted: its memory is free when its last answer has ended."""
        with self._changed:
            job, loaded = self._jobs.pop(name, None), self._loaded.pop(name, None)
            if job is not None:
                job.unwanted = True
            self._failed.pop(name, None)
            idle = loaded is not None and loaded.leases == 0
            if loaded is not None:
                loaded.retired = True
        if loaded is not None and idle:
            loaded.engine.close()

    # --- what is there

    @property
    def active(self) -> str | None:
        """The text model that was used last; None when none is loaded."""
        with self._changed:
            return self._active()

    def state(self, name: str) -> HostedModel:
        """How a model stands. ``name`` is its own, not an alias."""
        with self._changed:
            loaded, job, failed = self._loaded.get(name), self._jobs.get(name), self._failed.get(name)
            leases = loaded.leases if loaded else 0
        if loaded is not None:
            return HostedModel(name, "loaded", loaded.seconds, leases, loaded.options, loaded.engine.status())
        if job is not None:
            return HostedModel(name, "loading", time.monotonic() - job.began, options=job.options)
        if failed is not None:
            return HostedModel(name, "failed", error=failed[1].message)
        return HostedModel(name, "absent")

    def states(self) -> list[HostedModel]:
        """Every model that is loaded, loading or failed, by name."""
        with self._changed:
            names = {*self._loaded, *self._jobs, *self._failed}
        return [state for name in sorted(names) if (state := self.state(name)).state != "absent"]

    def close(self, wait_s: float = 10.0) -> None:
        """Unload everything now and stop. A load on its way is given ``wait_s``, then left to the process's end."""
        with self._changed:
            self._closed = True
            loaded, self._loaded = self._loaded, {}
            for job in self._jobs.values():
                job.unwanted = True
            self._jobs.clear()
            self._changed.notify_all()
        self._queue.put(None)
        for one in loaded.values():
            one.engine.close()
        self._thread.join(wait_s)

    # --- inside: lending

    def _lend(self, name: str, use: bool = True) -> Lease | None:
        loaded = self._loaded.get(name)
        if loaded is None:
            return None
        loaded.leases += 1
        if use:
            loaded.used_at = time.monotonic()
        return Lease(loaded.model, loaded.engine, lambda: self._give_back(loaded))

    def _give_back(self, loaded: Loaded) -> None:
        with self._changed:
            loaded.leases -= 1
            close = loaded.retired and loaded.leases == 0
            self._changed.notify_all()
        if close:
            loaded.engine.close()

    def _active(self) -> str | None:
        text = [one for one in self._loaded.values() if one.model.kind == "text"]
        return max(text, key=lambda one: one.used_at).model.name if text else None

    # --- inside: loading

    def _fitting(self, model: StoredModel, options: LoadOptions) -> LoadOptions:
        """A context longer than the model's is asked for by those who mean "as long as it goes"."""
        if options.context_length and model.context_length:
            return replace(options, context_length=min(options.context_length, model.context_length))
        return options

    def _begin(self, model: StoredModel, options: LoadOptions) -> Job | None:
        """Put a load into the line, or join the one that is there; None when the model is loaded just so."""
        if model.broken:
            raise ModelError(f"The model {model.name} cannot be used: {model.broken}", hint="delete and pull it again")
        with self._changed:
            if self._closed:
                raise UnavailableError("The device is shutting down", retry_after=10)
            job, loaded = self._jobs.get(model.name), self._loaded.get(model.name)
            if job is not None and options in (job.options, LoadOptions()):
                return job
            if job is None and loaded is not None and _serves(loaded, model, options):
                return None
            self._check_room(model, options)
            self._failed.pop(model.name, None)
            job = self._jobs[model.name] = Job(model, options)
            self._queue.put(job)
        return job

    def _check_room(self, model: StoredModel, options: LoadOptions) -> None:
        coming = sum(self._needed(job.model, job.options) for job in self._jobs.values())
        needed, available = self._needed(model, options), self._available() - coming
        if needed > available:
            others = ", ".join(self._loaded)
            raise NoRoomError(
                f"{model.name} needs about {needed >> 20} MiB of memory and {max(0, available) >> 20} MiB are free",
                hint=f"unload one of {others}"
                if others
                else "choose int4, a shorter context_length or a smaller model",
                needed_bytes=needed,
                available_bytes=max(0, available),
            )

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            error: ThoxError | None = None
            began, engine = time.monotonic(), None
            try:
                if not job.unwanted:
                    log.info("model %s is loading", job.model.name)
                    engine = self._open_engine(job.model, job.options)
            except ThoxError as raised:
                error = raised
            except MemoryError:
                error = NoRoomError(
                    f"The memory ran out while {job.model.name} was loading", hint="unload another model"
                )
            except Exception as raised:  # noqa: BLE001 top of the thread's loop: a broken model must not end it
                error = EngineError(f"{job.model.name} could not be loaded: {type(raised).__name__}: {raised}")
                error.__cause__ = raised
            self._finish(job, engine, error, time.monotonic() - began)

    def _finish(self, job: Job, engine: Engine | None, error: ThoxError | None, seconds: float) -> None:
        name = job.model.name
        spare: Engine | None = None
        with self._changed:
            if self._jobs.get(name) is job:
                del self._jobs[name]
            if job.unwanted or engine is None:
                spare = engine
                if error is not None and not job.unwanted and isinstance(error, (ModelError, EngineError)):
                    self._failed[name] = (job.model.digest, error)  # a bad option or a want of room is no fault of it
            else:
                old = self._loaded.get(name)
                self._loaded[name] = Loaded(job.model, job.options, engine, seconds)
                if old is not None:
                    old.retired = True
                    spare = old.engine if old.leases == 0 else None
            if job.unwanted and error is None:
                error = UnavailableError(f"{name} was unloaded while it was loading", retry_after=1)
            job.error = error
            self._changed.notify_all()
        if error is None:
            log.info("model %s loaded in %.1f s", name, seconds)
        else:
            trace = error.__cause__ if isinstance(error, EngineError) else None
            log.warning("model %s is not loaded: %s", name, error.message, exc_info=trace)
        job.done.set()
        if spare is not None:
            spare.close()


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable: what the kernel can give without swapping."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise EngineError(f"{meminfo} does not say MemAvailable", hint="the agent needs Linux 3.14 or newer")


def _serves(loaded: Loaded, model: StoredModel, options: LoadOptions) -> bool:
    """Whether what is loaded is what is asked for. Plain options ask for the model, however it is loaded."""
    return loaded.model.digest == model.digest and options in (loaded.options, LoadOptions())
