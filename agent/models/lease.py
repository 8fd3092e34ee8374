"""What the host of the models knows and lends: a model's state, a lease on its engine, a load on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from agent.engine.base import Engine, EngineStatus
from agent.errors import ModelLoadingError, ThoxError
from agent.models.checkpoint import StoredModel
from agent.models.options import LoadOptions

State = Literal["absent", "loading", "loaded", "failed"]


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


class Lease:
    """An engine that stays loaded until this is released. A context manager; releasing twice is harmless."""

    def __init__(self, model: StoredModel, engine: Engine, release: Callable[[], None]) -> None:
        self.model = model
        self.engine = engine
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

    def __init__(self, model: StoredModel, options: LoadOptions, engine: Engine, seconds: float) -> None:
        self.model, self.options, self.engine, self.seconds = model, options, engine, seconds
        self.leases = 0
        self.retired = False  # closed with its last lease
        self.used_at = time.monotonic()


class Job:
    """One load on its way. ``error`` is set before ``done``."""

    def __init__(self, model: StoredModel, options: LoadOptions) -> None:
        self.model, self.options = model, options
        self.began = time.monotonic()
        self.done = threading.Event()
        self.error: ThoxError | None = None
        self.unwanted = False  # unloaded, or the host closed, before it was loaded


def loading_error(job: Job) -> ModelLoadingError:
    seconds = round(time.monotonic() - job.began, 1)
    return ModelLoadingError(
        f"The model {job.model.name} is being loaded",
        retry_after=2,
        hint="ask again in a few seconds",
        loading={"model": job.model.name, "state": "loading", "seconds": seconds},
    )


def again(error: ThoxError) -> ThoxError:
    """The same error once more: an exception raised in several threads would mix up their tracebacks."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh
