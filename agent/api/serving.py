"""One request being served: its engine on loan and its answer, both given back however the request ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from flask import Response, g

from agent.api import sse
from agent.api.guard import Tally
from agent.api.render import Choice, Head, Object, collect
from agent.engine.base import Answer, Delta, Request, Usage
from agent.models.lease import Lease


class Models(Protocol):
    """Where engines are borrowed; models.host has it."""

    def lease(self, name: str) -> Lease:
        """Raises NotFoundError, or ModelLoadingError while the model is on its way."""
        ...

    def running(self, name: str | None = None) -> Lease | None: ...


class Serving:
    """A context manager. Leaving it cancels the answer and returns the engine, unless a stream took both with it."""

    def __init__(self, models: Models, model: str) -> None:
        self._models, self._model = models, model
        self._stack = ExitStack()

    def __enter__(self) -> Serving:
        lease = self._stack.enter_context(self._models.lease(self._model))
        self._engine, self._adapter = lease.engine, lease.adapter
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def head(self, request: Request) -> Head:
        return Head(request.id, self._model, self._engine.status().fingerprint)

    def whole(self, request: Request) -> tuple[list[Choice], Usage]:
        """Every choice, once the last is complete. Raises ClientGone when the client does not wait for it."""
        answer = self._generate(request)
        choices, usage = collect(sse.pieces(answer, g.connection), len(request.prompts) * request.n)
        _note(g.tally, usage)
        return choices, usage

    def stream(self, request: Request, chunks: Callable[[Delta], Iterable[Object]]) -> Response:
        """Server-sent events. The first piece is waited for: what goes wrong before it has a status of its own."""
        answer = self._generate(request)
        tally: Tally = g.tally
        deltas = sse.pieces(answer, g.connection)
        first = next(deltas)
        body = sse.events(first, deltas, chunks, lambda usage: _note(tally, usage))
        response = Response(body, headers=sse.HEADERS, mimetype=sse.MIMETYPE)
        # From here on the server ends it: it closes the response after the last byte, and when the client has left.
        response.call_on_close(self._stack.pop_all().close)
        return response

    def _generate(self, request: Request) -> Answer:
        answer = self._engine.generate(replace(request, adapter=self._adapter))
        self._stack.callback(answer.close)
        return answer


def _note(tally: Tally, usage: Usage) -> None:
    tally.prompt, tally.completion = usage.prompt, usage.completion
