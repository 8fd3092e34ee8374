"""What the host of the models knows and lends: a model's state, and a lease on its engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal

from agent.engine.base import Engine, EngineStatus
from agent.errors import ThoxError
from agent.models.checkpoint import StoredModel
from agent.models.loading import Job, LoadProgress
from agent.models.memory import Memory
from agent.models.options import FOR_EVER, LoadOptions

State = Literal["available", "loading", "loaded", "failed"]

_LEAST_IDLE_S = 1.0  # a model that came for a request must be there when the request takes it up


@dataclass(frozen=True, slots=True)
class HostedModel:
    """What the host knows of one model at one moment."""

    name: str
    state: State
    seconds: float = 0.0  # loading: for how long; loaded: how long it took
    leases: int = 0
    options: LoadOptions = field(default_factory=LoadOptions)
    status: EngineStatus | None = None  # of a loaded one
    error: str = ""  # of a failed one
    loading: LoadProgress | None = None  # of one on its way
    memory: Memory | None = None  # of a loaded one: what it takes
    expires_s: float | None = None  # of a loaded one: when it will be unloaded unless somebody uses it; None: it stays


class Lease:
    """An engine that stays loaded until this is released. A context manager; releasing twice is harmless."""

    def __init__(self, model: StoredModel, engine: Engine, release: Callable[[], None], adapter: str = "") -> None:
        self.model = model
        self.engine = engine
        self.adapter = adapter  # which of the engine's the requests are for
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def release(self) -> None:
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Loaded:
    """An engine with its leases."""

    def __init__(
        self,
        model: StoredModel,
        options: LoadOptions,
        engine: Engine,
        memory: Memory,
        seconds: float,
        keep_alive_s: float = FOR_EVER,
    ) -> None:
        self.model, self.options, self.engine, self.memory, self.seconds = model, options, engine, memory, seconds
        self.keep_alive_s = keep_alive_s
        self.leases = 0
        self.retired = False  # closed with its last lease
        self.renew_at = 0.0  # not before this is it tried to load newer files in its place
        self.used_at = time.monotonic()  # the newest lease: begun or given back

    @property
    def expires_at(self) -> float:
        """When nobody will have used it for as long as it is kept; FOR_EVER while somebody does."""
        return FOR_EVER if self.leases else self.used_at + max(self.keep_alive_s, _LEAST_IDLE_S)


def hosted_model(name: str, loaded: Loaded | None, job: Job | None, failed: ThoxError | None) -> HostedModel:
    """How a model stands, of what the host has of it. One that is swapped is loaded and on its way."""
    if loaded is not None:
        expires_at = loaded.expires_at
        return HostedModel(
            name,
            "loaded",
            loaded.seconds,
            loaded.leases,
            loaded.options,
            loaded.engine.status(),
            loading=None if job is None else job.progress(),
            memory=loaded.memory,
            expires_s=None if expires_at == FOR_EVER else max(0.0, expires_at - time.monotonic()),
        )
    if job is not None:
        return HostedModel(name, "loading", time.monotonic() - job.began, options=job.options, loading=job.progress())
    return HostedModel(name, "available") if failed is None else HostedModel(name, "failed", error=failed.message)


def hosted_adapter(name: str, loaded: Loaded | None, job: Job | None) -> HostedModel:
    """How an adapter stands: as its base does, of which ``loaded`` and ``job`` are. The memory is counted there."""
    return replace(hosted_model(name, loaded, job, None), leases=0, memory=None, expires_s=None)
