"""What the host of the models knows and lends: a model's state, a lease on its engine, a load on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from agent.engine.base import Engine, EngineStatus, LoadStage
from agent.errors import ModelLoadingError, ThoxError
from agent.models.checkpoint import StoredModel
from agent.models.memory import Memory
from agent.models.options import FOR_EVER, LoadOptions

State = Literal["available", "loading", "loaded", "failed"]

# Which part of a load's time each stage takes, roughly. Where a packed file is there already, the middle one is short.
_STAGES: dict[LoadStage, tuple[float, float]] = {
    "reading": (0.0, 0.05),
    "quantising": (0.05, 0.85),
    "compiling": (0.85, 1.0),
}
_LONGEST_RETRY_S = 30.0
_LEAST_IDLE_S = 1.0  # a model that came for a request must be there when the request takes it up


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is. ``expected_s`` is the whole time that it will take, as far as that can be told."""

    stage: str
    progress: float  # 0 to 1
    elapsed_s: float
    expected_s: float

    def to_json(self) -> dict[str, object]:
        return {
            "stage": self.stage,
            "progress": round(self.progress, 3),
            "elapsed_s": round(self.elapsed_s, 1),
            "expected_s": round(self.expected_s, 1),
        }


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
        self.used_at = time.monotonic()  # the newest lease: begun or given back

    @property
    def expires_at(self) -> float:
        """When nobody will have used it for as long as it is kept; FOR_EVER while somebody does."""
        return FOR_EVER if self.leases else self.used_at + max(self.keep_alive_s, _LEAST_IDLE_S)


class Job:
    """One load on its way. ``error`` is set before ``done``. ``expected_s``: how long it took last, or a guess."""

    def __init__(self, model: StoredModel, options: LoadOptions, memory: Memory, expected_s: float) -> None:
        self.model, self.options, self.memory, self.expected_s = model, options, memory, expected_s
        self.began = time.monotonic()
        self.done = threading.Event()
        self.error: ThoxError | None = None
        self.unwanted = False  # unloaded, or the host closed, before it was loaded
        self._at: tuple[str, float] = ("waiting", 0.0)

    def report(self, stage: LoadStage, share: float) -> None:
        """The loader tells how far it is: a Report."""
        begin, end = _STAGES[stage]
        self._at = (stage, begin + (end - begin) * min(1.0, max(0.0, share)))

    def progress(self) -> LoadProgress:
        stage, progress = self._at
        elapsed = time.monotonic() - self.began
        expected = self.expected_s
        if stage == "quantising" and progress > 0.2:  # far enough to know better than from the size
            expected = elapsed / progress
        return LoadProgress(stage, progress, elapsed, max(expected, elapsed))


def loading_error(job: Job) -> ModelLoadingError:
    at = job.progress()
    return ModelLoadingError(
        f"The model {job.model.name} is being loaded",
        retry_after=min(_LONGEST_RETRY_S, max(1.0, at.expected_s - at.elapsed_s)),
        hint="ask again when Retry-After has passed",
        loading={"model": job.model.name, **at.to_json()},
    )


def again(error: ThoxError) -> ThoxError:
    """The same error once more: an exception raised in several threads would mix up their tracebacks."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh
