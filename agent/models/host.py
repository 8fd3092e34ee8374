"""Which models are in memory: loads and frees them, lends them out, and swaps one without dropping its answers.

One thread loads, one model after the other, and frees those that nobody used for long; no lock is held meanwhile. A
model is available (on disk), loading, loaded or failed::

    available --load, or a request for it--> loading --> loaded --unload, keep-alive, room for another--> available
                                                |
                                                +--> failed --load--> loading
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from agent.engine.base import Engine
from agent.errors import EngineError, ModelError, NotFoundError, RequestError, ThoxError, UnavailableError
from agent.models.adapter import has, holds
from agent.models.checkpoint import StoredModel, check_usable
from agent.models.lease import HostedModel, Lease, Loaded, hosted_adapter, hosted_model
from agent.models.loading import Job, OpenEngine, again, attempt, loading_error
from agent.models.memory import Estimate, Memory, anonymous_bytes, available_bytes, estimate
from agent.models.options import FOR_EVER, LoadOptions, fitting
from agent.models.shelf import Shelf
from agent.models.store import ModelStore

log = logging.getLogger(__name__)

# What a load takes that nobody has seen yet: packing is what takes the time.
_LEAST_LOAD_S, _PARAMETERS_PER_S = 1.0, 80e6
_RENEW_AGAIN_S = 30.0  # newer files that do not fit beside the old engine, or cannot be used


class ModelHost:
    """The loaded models of one node. Thread-safe.

    ``open_engine`` turns a stored model into an engine; it may take long and may raise ThoxError. ``needed`` estimates
    the memory that will take, ``available`` gives the bytes that are free and ``held`` those that this process has.
    ``quick_s`` is how long a request waits for a model that is being loaded, ``keep_alive_s`` how long a model stays
    after its last answer. ``auto_unload``: models that nobody uses make room for one that is asked for.
    """

    def __init__(
        self,
        store: ModelStore,
        open_engine: OpenEngine,
        *,
        needed: Estimate = estimate,
        available: Callable[[], int] = available_bytes,
        held: Callable[[], int] = anonymous_bytes,
        quick_s: float = 2.0,
        keep_alive_s: float = FOR_EVER,
        auto_unload: bool = False,
    ) -> None:
        self._store, self._open_engine = store, open_engine
        self._needed, self._available, self._held = needed, available, held
        self._held_empty = held()
        self._quick_s, self._keep_alive_s, self._auto_unload = quick_s, keep_alive_s, auto_unload
        self._changed = threading.Condition()  # guards everything below
        self._shelf = Shelf()
        self._jobs: dict[str, Job] = {}  # the newest load of each model that is not done yet
        self._line: deque[Job] = deque()  # loads that the thread has not taken up
        self._failed: dict[str, tuple[str, ThoxError]] = {}  # with the digest of the files that failed
        self._took: dict[tuple[str, LoadOptions], float] = {}  # how long a load of these files took last
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
        self._thread.start()

    # --- asking for models

    def load(self, name: str, options: LoadOptions | None = None, wait_s: float | None = 600.0) -> HostedModel:
        """Load a model and wait until it is there. A load that is on its way is joined; other options load it anew.

        ``wait_s`` None: begin, and do not wait. Raises NotFoundError, RequestError, ModelError, NoRoomError, and
        ModelLoadingError when ``wait_s`` are over.
        """
        model, adapter = self._wanted(name)
        options = options or LoadOptions()
        job = self._begin(model, fitting(options, model.name, model.kind, model.context_length), adapter)
        if job is not None and wait_s is not None:
            if not job.done.wait(wait_s):
                raise loading_error(job)
            if job.error is not None:
                raise again(job.error)
        if options.keep_alive_s is not None:
            self._keep(model.name, options.keep_alive_s)
        return self.state(model.name if adapter is None else adapter.name)

    def preload(self, names: Iterable[str]) -> None:
        """Begin to load these; those that are not there are passed over with a line in the log."""
        for name in names:
            try:
                model, adapter = self._wanted(name)
                self._begin(model, LoadOptions(), adapter)
            except ThoxError as error:
                log.warning("model %s is not preloaded: %s", name, error.message)

    def lease(self, name: str) -> Lease:
        """Borrow the engine of a model, or that of an adapter's base. One that is not loaded starts to load.

        Raises NotFoundError; ModelLoadingError (503) when it is not there within ``quick_s``; what a load raises.
        """
        model, adapter = self._wanted(name)
        self._renew(model, adapter)
        deadline = time.monotonic() + self._quick_s
        while True:
            with self._changed:
                lease = self._lend(model.name, adapter)
                if lease is not None:
                    return lease
                job, failed = self._jobs.get(model.name), self._failed.get(model.name)
            if job is None:
                if failed is not None and failed[0] == model.digest:
                    raise again(failed[1])
                job = self._begin(model, LoadOptions(), adapter)
            if job is not None:
                if not job.done.wait(max(0.0, deadline - time.monotonic())):
                    raise loading_error(job)
                if job.error is not None:
                    raise again(job.error)

    def running(self, name: str | None = None) -> Lease | None:
        """Borrow a model only if it is loaded: the one of this name, or the active one. Does not count as use."""
        if name is not None:
            try:
                found = self._store.find(name)
                name = found.base or found.name
            except ThoxError:
                return None
        with self._changed:
            name = name or self._shelf.active()
            return self._lend(name, use=False) if name is not None else None

    def unload(self, name: str, wait_s: float = 30.0, cancel: bool = False) -> HostedModel:
        """Free the memory of a model, once its answers have ended; with ``cancel``, end them now with an error.

        Raises UnavailableError when answers still run after ``wait_s``: the model then stays loaded. Harmless for a
        model that is not loaded.
        """
        try:
            model = self._store.find(name)
            name = model.name
        except NotFoundError:
            if name not in self._shelf:  # deleted from disk, still in memory
                raise
        else:
            if model.kind == "adapter":
                raise RequestError(
                    f"{name} is an adapter: it goes with its base", hint=f"unload {model.base}", param="model"
                )
        deadline = time.monotonic() + wait_s
        with self._changed:
            job = self._jobs.pop(name, None)
            if job is not None:
                job.unwanted = True
            self._failed.pop(name, None)
            loaded = self._shelf.take(name)
            if loaded is not None and not cancel:
                while loaded.leases and name not in self._shelf and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                if loaded.leases and name in self._shelf:  # loaded anew meanwhile: the last answer closes the old one
                    loaded.retired, loaded = True, None
                elif loaded.leases and not self._closed:
                    self._shelf.put(loaded)
                    raise UnavailableError(
                        f"{name} is still answering {loaded.leases} request{'s' * (loaded.leases > 1)}",
                        retry_after=10,
                        hint='ask again later, or with "cancel": true to end them',
                    )
        if loaded is not None:
            self._close(loaded)
        return self.state(name)

    def discard(self, name: str) -> None:
        """Forget a model that was deleted: its memory is free when its last answer has ended."""
        with self._changed:
            job = self._jobs.pop(name, None)
            if job is not None:
                job.unwanted = True
            self._failed.pop(name, None)
            self._shelf.forget_adapter(name)
            idle = self._shelf.discard(name)
        if idle is not None:
            self._close(idle)

    # --- what is there

    @property
    def active(self) -> str | None:
        """The text model that was used last; None when none is loaded."""
        with self._changed:
            return self._shelf.active()

    def state(self, name: str) -> HostedModel:
        """How a model stands. ``name`` is its own, not an alias."""
        with self._changed:
            loaded, job, failed = self._shelf.get(name), self._jobs.get(name), self._failed.get(name)
            if loaded is None and job is None and failed is None:
                jobs = [job for job in self._jobs.values() if holds(job.model, name)]
                return hosted_adapter(name, self._shelf.with_adapter(name), jobs[0] if jobs else None)
        return hosted_model(name, loaded, job, None if failed is None else failed[1])

    def states(self) -> list[HostedModel]:
        """Every model that is loaded, loading or failed, by name."""
        with self._changed:
            names = {*(one.model.name for one in self._shelf), *self._jobs, *self._failed}
        return [state for name in sorted(names) if (state := self.state(name)).state != "available"]

    def needed(self, model: StoredModel, options: LoadOptions | None = None) -> Memory:
        """What a load would take."""
        options = fitting(options or LoadOptions(), model.name, model.kind, model.context_length)
        return self._needed(self._complete(model), options)

    def memory_free(self) -> int:
        """Bytes that a further model may take: what is free without what the loaded ones have still coming."""
        with self._changed:
            return self._free()

    def close(self, wait_s: float = 10.0) -> None:
        """Unload everything now and stop. A load on its way is given ``wait_s``, then left to the process's end."""
        with self._changed:
            self._closed = True
            loaded = self._shelf.clear()
            for job in self._jobs.values():
                job.unwanted = True
            self._jobs.clear()
            self._changed.notify_all()
        for one in loaded:
            one.engine.close()
        self._thread.join(wait_s)

    # --- inside: lending

    def _lend(self, name: str, adapter: StoredModel | None = None, use: bool = True) -> Lease | None:
        held = self._shelf.get(name)
        loaded = self._shelf.lend(name, use=use) if held is not None and has(held.model, adapter) else None
        called = "" if adapter is None else adapter.name
        if loaded is None:
            return None
        return Lease(loaded.model, loaded.engine, lambda: self._give_back(loaded, use), called)

    def _give_back(self, loaded: Loaded, use: bool) -> None:
        with self._changed:
            close = self._shelf.give_back(loaded, use=use)
            self._changed.notify_all()
        if close:
            self._close(loaded)

    def _keep(self, name: str, keep_alive_s: float) -> None:
        """From now on the model stays so long after its last answer, and after this."""
        with self._changed:
            loaded = self._shelf.get(name)
            if loaded is not None:
                loaded.keep_alive_s, loaded.used_at = keep_alive_s, time.monotonic()
                self._changed.notify_all()

    def _close(self, loaded: Loaded) -> None:
        loaded.engine.close()
        log.info("model %s unloaded", loaded.model.name)

    # --- inside: loading

    def _wanted(self, name: str) -> tuple[StoredModel, StoredModel | None]:
        """The model to load for a name, and the adapter on it that the name means."""
        model = self._store.find(name)
        if model.kind != "adapter":
            return model, None
        check_usable(model)
        return self._store.base(model), model

    def _complete(self, model: StoredModel) -> StoredModel:
        """A model with the adapters that load with it."""
        return replace(model, adapters=self._store.adapters(model)) if model.kind == "text" else model

    def _begin(self, model: StoredModel, options: LoadOptions, adapter: StoredModel | None = None) -> Job | None:
        """Put a load into the line, or join the one that is there; None when the model is loaded just so.

        A model that was loaded before its ``adapter`` came is loaded anew, with the options that it has.
        """
        check_usable(model)
        model = self._complete(model)
        with self._changed:
            if self._closed:
                raise UnavailableError("The device is shutting down", retry_after=10)
            job, loaded = self._jobs.get(model.name), self._shelf.get(model.name)
            if job is not None and options in (job.options, LoadOptions()) and has(job.model, adapter):
                return job
            if job is None and loaded is not None and _serves(loaded, model, options):
                if has(loaded.model, adapter):
                    return None
                options = loaded.options
            needed = self._needed(model, options)
            coming = sum(job.memory.total for job in self._jobs.values())
            self._shelf.victims(model, needed, self._free() - coming, auto_unload=self._auto_unload)
            self._failed.pop(model.name, None)
            guess = _LEAST_LOAD_S + model.parameters / _PARAMETERS_PER_S
            job = Job(model, options, needed, self._took.get((model.digest, options), guess))
            self._jobs[model.name] = job
            self._line.append(job)
            self._changed.notify_all()
        return job

    def _renew(self, model: StoredModel, adapter: StoredModel | None) -> None:
        """Files that came since, of a newer pull, are loaded as the old ones were, whose engine answers meanwhile."""
        with self._changed:
            loaded, failed, now = self._shelf.get(model.name), self._failed.get(model.name), time.monotonic()
            if loaded is None or loaded.model.digest == model.digest or model.name in self._jobs:
                return
            if (failed is not None and failed[0] == model.digest) or now < loaded.renew_at:
                return
            loaded.renew_at = now + _RENEW_AGAIN_S
            options = replace(loaded.options, keep_alive_s=loaded.keep_alive_s)
        try:
            self._begin(model, options, adapter)
        except ThoxError as error:
            log.warning("model %s stays as it was before its files were replaced: %s", model.name, error.message)

    def _free(self) -> int:
        """A cache takes its room only as it is written to: what is promised and not taken yet is not free."""
        grown = self._held() - self._held_empty
        return self._available() - max(0, self._shelf.promised() - grown)

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                expired = self._shelf.expired()
                if not expired and not self._line and not self._closed:
                    self._changed.wait(self._shelf.next_expiry_s())
                    continue
                job = self._line.popleft() if self._line and not expired else None
            for one in expired:
                self._close(one)
            if job is not None:
                self._load(job)
        for job in list(self._line):  # nobody joins the line of a closed host
            self._finish(job, None, None, 0.0)

    def _load(self, job: Job) -> None:
        began = time.monotonic()
        engine, error = attempt(job, self._open_engine, self._make_room)
        self._finish(job, engine, error, time.monotonic() - began)

    def _make_room(self, job: Job) -> None:
        """Unload what must go for this one: now, since models may have come and gone while it stood in the line."""
        with self._changed:
            names = self._shelf.victims(job.model, job.memory, self._free(), auto_unload=self._auto_unload)
            going = [gone for name in names if (gone := self._shelf.take(name)) is not None]
        for one in going:
            log.info("model %s makes room for %s", one.model.name, job.model.name)
            self._close(one)

    def _finish(self, job: Job, engine: Engine | None, error: ThoxError | None, seconds: float) -> None:
        name = job.model.name
        spare = engine
        with self._changed:
            if self._jobs.get(name) is job:
                del self._jobs[name]
            if job.unwanted or engine is None:
                if error is not None and not job.unwanted and isinstance(error, (ModelError, EngineError)):
                    self._failed[name] = (job.model.digest, error)  # a bad option or a want of room is no fault of it
            else:
                kept = self._keep_alive_s if job.options.keep_alive_s is None else job.options.keep_alive_s
                old = self._shelf.put(Loaded(job.model, job.options, engine, job.memory, seconds, kept))
                spare = None if old is None else old.engine
                self._took[job.model.digest, job.options] = seconds
            if job.unwanted:  # whatever else went wrong: its files may be gone
                error = UnavailableError(f"{name} was unloaded or deleted while it was loading", retry_after=1)
            job.error = error
            self._changed.notify_all()
        if error is None:
            log.info("model %s loaded in %.1f s", name, seconds)
        else:
            trace = error.__cause__ if isinstance(error, EngineError) else None
            log.warning("model %s is not loaded: %s", name, error.message, exc_info=trace)
        if spare is not None:
            spare.close()  # before anybody hears of the end: what they load next may need its room
        job.done.set()


def _serves(loaded: Loaded, model: StoredModel, options: LoadOptions) -> bool:
    """Whether what is loaded is what is asked for. Plain options ask for the model, however it is loaded."""
    return loaded.model.digest == model.digest and options in (loaded.options, LoadOptions())
