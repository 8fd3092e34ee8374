"""EncoderEngine: texts in, vectors out; or a query and documents in, scores out. EncoderForm is the forward pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from agent.engine.base import Answer, Embeddings, EmbedRequest, EngineStatus, Floats, Meter, Request, Usage
from agent.engine.encoder_batch import EncoderBatch, batches
from agent.engine.encoder_input import EncoderInput, EncoderIntake, TextEncoder
from agent.engine.encoder_rank import scores
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import RankHead
from agent.errors import EngineError, RequestError


class EncoderForm(Protocol):
    """The forward pass of an encoder on one kind of processor. Called by one thread at a time."""

    def run(self, batch: EncoderBatch) -> Floats:
        """The last layer's hidden states, [rows, length, hidden_size]. The array holds until the next call."""
        ...

    def close(self) -> None: ...


class EncoderEngine:
    """An Engine for embedding models and rerankers. Calls of several threads take turns batch by batch.

    ``head`` is the reranker's.
    """

    def __init__(
        self,
        name: str,
        spec: EncoderSpec,
        form: EncoderForm,
        tokenizer: TextEncoder,
        *,
        head: RankHead | None = None,
        fingerprint: str = "",
        meter: Meter | None = None,
    ) -> None:
        self._name, self._spec, self._form, self._head = name, spec, form, head
        self._intake = EncoderIntake(name, spec, tokenizer)
        self._fingerprint, self._meter = fingerprint, meter
        self._turn = threading.Lock()  # over the form, and all below
        self._closed = False
        self._running = 0
        self._last_token_at: float | None = None

    def generate(self, request: Request) -> Answer:
        kind, path = ("a reranker", "rerank") if self._spec.ranks else ("an embedding model", "embeddings")
        raise RequestError(
            f"{self._name} is {kind}: it does not write text",
            param="model",
            hint=f"POST /v1/{path} is what it is for; GET /v1/models lists the models.",
        )

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises RequestError for an input that is empty or too long, EngineError once closed."""
        width = self._width(request.dimensions)
        inputs = self._intake.read(request)
        found = np.empty((len(inputs), width), np.float32)
        with self._turn:
            self._running += 1
        try:
            for rows in batches([len(item.tokens) for item in inputs]):
                members = [member for row in rows for member in row]
                found[members] = self._forward([[inputs[member] for member in row] for row in rows])[:, :width]
        finally:
            with self._turn:
                self._running -= 1
        count = sum(len(item.tokens) for item in inputs)
        if self._meter is not None:
            self._meter.finished(self._name, "stop", Usage(prompt=count))
        if not self._spec.ranks and (request.normalise or self._spec.normalised):
            found = _unit(found)
        return Embeddings(found, count)

    def status(self) -> EngineStatus:
        # Without the lock: who asks must not wait for a batch, and each value is read whole.
        return EngineStatus(
            model=self._name,
            kind="reranker" if self._spec.ranks else "embedding",
            context_length=self._spec.context_length,
            slots=1,
            running=self._running,
            fingerprint=self._fingerprint,
            last_token_at=self._last_token_at,
        )

    def close(self) -> None:
        """Waits for the batch that is running; what is left of that call ends with EngineError."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._form.close()

    def _width(self, dimensions: int | None) -> int:
        if self._spec.ranks:
            return 1
        if dimensions is None:
            return self._spec.hidden_size
        if not 1 <= dimensions <= self._spec.hidden_size:
            raise RequestError(
                f"dimensions must be from 1 to {self._spec.hidden_size}, not {dimensions}",
                param="dimensions",
                hint=f"{self._name} gives {self._spec.hidden_size} dimensions, of which the first are kept.",
            )
        return dimensions

    def _forward(self, rows: Sequence[Sequence[EncoderInput]]) -> Floats:
        """Pooled vectors, [inputs, hidden_size], or scores, [inputs, 1]."""
        batch = EncoderBatch.of(rows, typed=self._spec.ranks and self._spec.token_types > 1)
        prompts = [item.prompt for row in rows for item in row]
        with self._turn:
            if self._closed:
                raise EngineError(f"{self._name} was unloaded", hint="Load the model again and repeat the request.")
            start = time.monotonic()
            pooled = self._pool(self._form.run(batch), batch, prompts)
            self._last_token_at = time.monotonic()
            if self._meter is not None:
                seconds = self._last_token_at - start
                self._meter.step(self._name, seconds, seconds, batch.tokens.size, 0)
        return pooled if self._head is None else scores(self._spec, self._head, pooled)

    def _pool(self, hidden: Floats, batch: EncoderBatch, prompts: Sequence[int]) -> Floats:
        """One vector of each input. ``hidden`` is the form's own memory: nothing of it may be kept."""
        pooled = np.empty((len(batch.spans), hidden.shape[2]), np.float32)
        for index, ((row, begin, end), prompt) in enumerate(zip(batch.spans, prompts, strict=True)):
            match self._spec.pooling:
                case "cls":
                    pooled[index] = hidden[row, begin]
                case "last":
                    pooled[index] = hidden[row, end - 1]
                case "mean":
                    pooled[index] = hidden[row, min(begin + prompt, end - 1) : end].mean(axis=0)
        return pooled


def _unit(vectors: Floats) -> Floats:
    """Rows of length 1. A row of nothing but zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
