"""Whether this node can answer at all: a token came lately, or one comes now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.api.serving import Models
from agent.engine.base import Engine, Request, Sampling
from agent.errors import ThoxError, UnavailableError

FRESH_S = 30.0  # a token this young is proof enough
PROBE_S = 5.0  # how long one may take to come
_FAILED_S = 2.0  # a failed try is believed for so long: probes come without a key, and must not pile up

_PROBE = Request(id="health", prompts=("health",), sampling=Sampling(max_tokens=1, temperature=0.0))


class Liveness:
    """Checks the model that was used last; one check at a time, however many ask."""

    def __init__(self, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._models, self._clock = models, clock
        self._one_at_a_time = threading.Lock()
        self._failed = (float("-inf"), "")  # when, and why

    def check(self) -> dict[str, object]:
        """What is healthy. Raises UnavailableError that says what is not."""
        lease = self._models.running()
        if lease is None:
            raise UnavailableError("no model is loaded", retry_after=2, hint="POST /v1/models/load loads one")
        with lease:
            if not self._fresh(lease.engine):
                self._probe(lease.engine)
            return {"status": "ok", "model": lease.model.name}

    def _fresh(self, engine: Engine) -> bool:
        newest = engine.status().last_token_at
        return newest is not None and self._clock() - newest < FRESH_S

    def _probe(self, engine: Engine) -> None:
        if not self._one_at_a_time.acquire(timeout=PROBE_S):
            raise UnavailableError("no token came in time", retry_after=2)
        try:
            if self._fresh(engine):
                return
            at, why = self._failed
            if self._clock() - at < _FAILED_S:
                raise UnavailableError(why, retry_after=2)
            try:
                _generate_one(engine)
            except ThoxError as error:
                self._failed = (self._clock(), f"no token can be generated: {error.message}")
                raise UnavailableError(self._failed[1], retry_after=2) from error
        finally:
            self._one_at_a_time.release()


def _generate_one(engine: Engine) -> None:
    answer = engine.generate(_PROBE)
    try:
        deadline = time.monotonic() + PROBE_S
        while (left := deadline - time.monotonic()) > 0:
            delta = answer.poll(left)
            if delta is not None and delta.usage is not None:
                return
        raise UnavailableError("it did not come in time", retry_after=2)
    finally:
        answer.close()
