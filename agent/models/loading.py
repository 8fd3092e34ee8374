"""A load on its way: how far it is, what is said to those who ask meanwhile, and how it may end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.engine.base import Engine, LoadStage, Report
from agent.errors import EngineError, ModelLoadingError, NoRoomError, ThoxError, UnavailableError
from agent.models.checkpoint import StoredModel
from agent.models.memory import Memory
from agent.models.options import LoadOptions

log = logging.getLogger(__name__)

OpenEngine = Callable[[StoredModel, LoadOptions, Report], Engine]

# Which part of a load's time each stage takes, roughly. Where a packed file is there already, the middle one is short.
_STAGES: dict[LoadStage, tuple[float, float]] = {
    "reading": (0.0, 0.05),
    "quantising": (0.05, 0.85),
    "compiling": (0.85, 1.0),
}
_LONGEST_RETRY_S = 30.0


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
        """The loader tells how far it is: a Report. Raises UnavailableError when nobody wants the load any more."""
        if self.unwanted:
            raise UnavailableError(f"{self.model.name} is not wanted any more", retry_after=1)
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


def attempt(
    job: Job, open_engine: OpenEngine, make_room: Callable[[Job], None]
) -> tuple[Engine | None, ThoxError | None]:
    """Load, unless nobody wants it any more. The engine, or what went wrong; of an unwanted load neither."""
    error: ThoxError
    try:
        if job.unwanted:
            return None, None
        make_room(job)
        log.info("model %s is loading", job.model.name)
        return open_engine(job.model, job.options, job.report), None
    except ThoxError as raised:
        error = raised
    except MemoryError:
        error = NoRoomError(f"The memory ran out while {job.model.name} was loading", hint="unload another model")
    except Exception as raised:  # noqa: BLE001 top of the thread's loop: a broken model must not end it
        error = EngineError(f"{job.model.name} could not be loaded: {type(raised).__name__}: {raised}")
        error.__cause__ = raised
    return None, error
