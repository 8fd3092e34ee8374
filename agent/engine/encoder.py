"""EncoderEngine: texts in, unit vectors out. The forward pass is behind EncoderForm, one for each kind of processor.

A call is cut into batches of inputs of exactly one length: nothing is padded, no mask is needed, and an input's vector
does not depend on its neighbours. That costs nothing that counts: a handful of tokens keeps a CPU's arithmetic busy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from agent.engine.base import Answer, Embeddings, EmbedRequest, EngineStatus, Floats, Meter, Request, Tokens, Usage
from agent.engine.encoder_spec import EncoderSpec
from agent.errors import EngineError, RequestError

BATCH_TOKENS = 4096  # bounds the memory of one forward pass, and how long another call waits for its turn


class EncoderForm(Protocol):
    """The forward pass of an embedding model on one kind of processor. Called by one thread at a time."""

    def run(self, tokens: Tokens) -> Floats:
        """Token ids, [inputs, length], to the last layer's hidden states, [inputs, length, hidden_size]."""
        ...

    def close(self) -> None: ...


class TextEncoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def encode(self, text: str, special: bool = True) -> Sequence[int]:
        """Token ids; ``special``: between the tokens that open and close every input of the model."""
        ...


class EncoderEngine:
    """An Engine for embedding models. Calls of several threads take turns batch by batch."""

    def __init__(
        self,
        name: str,
        spec: EncoderSpec,
        form: EncoderForm,
        tokenizer: TextEncoder,
        *,
        fingerprint: str = "",
        meter: Meter | None = None,
    ) -> None:
        self._name, self._spec, self._form, self._tokenizer = name, spec, form, tokenizer
        self._fingerprint, self._meter = fingerprint, meter
        # What stays at the end of a text that is cut: [SEP] of BERT, which opens with one token, too.
        self._closing = tuple(tokenizer.encode(""))[1:]
        self._turn = threading.Lock()  # over the form, and all below
        self._closed = False
        self._running = 0
        self._last_token_at: float | None = None

    def generate(self, request: Request) -> Answer:
        raise RequestError(
            f"{self._name} is an embedding model: it does not write text",
            param="model",
            hint="POST /v1/embeddings turns texts into vectors with it; GET /v1/models lists the models.",
        )

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises RequestError for an input that is empty or too long, EngineError once closed."""
        width = self._width(request.dimensions)
        if not request.inputs:
            raise RequestError(
                "input is an empty list", param="input", hint="Give a text, a list of texts or token ids."
            )
        inputs = [self._tokens(item, request.truncate) for item in request.inputs]
        vectors = np.empty((len(inputs), width), np.float32)
        with self._turn:
            self._running += 1
        try:
            for members in batches([len(tokens) for tokens in inputs]):
                vectors[members] = self._forward([inputs[member] for member in members])[:, :width]
        finally:
            with self._turn:
                self._running -= 1
        count = sum(map(len, inputs))
        if self._meter is not None:
            self._meter.finished(self._name, "stop", Usage(prompt=count))
        return Embeddings(_unit(vectors), count)

    def status(self) -> EngineStatus:
        # Without the lock: who asks must not wait for a batch, and each value is read whole.
        return EngineStatus(
            model=self._name,
            kind="embedding",
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
        if dimensions is None:
            return self._spec.hidden_size
        if not 1 <= dimensions <= self._spec.hidden_size:
            raise RequestError(
                f"dimensions must be from 1 to {self._spec.hidden_size}, not {dimensions}",
                param="dimensions",
                hint=f"{self._name} gives {self._spec.hidden_size} dimensions, of which the first are kept.",
            )
        return dimensions

    def _tokens(self, item: str | tuple[int, ...], truncate: bool) -> tuple[int, ...]:
        """Token ids of one input. Those that a client gives are taken as they are, special tokens included."""
        if not len(item):
            kind = "string" if isinstance(item, str) else "list of tokens"
            raise RequestError(f"input cannot be an empty {kind}", param="input", hint="Leave empty inputs out.")
        if isinstance(item, str):
            tokens = tuple(self._tokenizer.encode(item))
            closing = self._closing
        else:
            tokens, closing = item, ()
            strange = next((token for token in tokens if not 0 <= token < self._spec.vocab_size), None)
            if strange is not None:
                raise RequestError(
                    f"{strange} is not a token of {self._name}",
                    param="input",
                    hint=f"Its tokens are 0 to {self._spec.vocab_size - 1}.",
                )
        limit = self._spec.context_length
        if len(tokens) <= limit:
            return tokens
        if not truncate:
            raise RequestError(
                f"An input has {len(tokens)} tokens; {self._name} reads at most {limit}",
                param="input",
                hint='Split the text, or send "truncate": true to embed its beginning.',
            )
        return tokens[: limit - len(closing)] + closing

    def _forward(self, inputs: Sequence[tuple[int, ...]]) -> Floats:
        """Pooled vectors, [inputs, hidden_size], of inputs of one length."""
        with self._turn:
            if self._closed:
                raise EngineError(f"{self._name} was unloaded", hint="Load the model again and repeat the request.")
            start = time.monotonic()
            hidden = self._form.run(np.array(inputs, np.int64))
            pooled: Floats = hidden[:, 0].copy() if self._spec.pooling == "cls" else hidden.mean(axis=1)
            self._last_token_at = time.monotonic()
            if self._meter is not None:
                seconds = self._last_token_at - start
                self._meter.step(self._name, seconds, seconds, len(inputs) * len(inputs[0]), 0)
        return pooled


def batches(lengths: Sequence[int], most: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of inputs that may be computed together: of one length, and at most ``most`` tokens (or one input)."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    for length, members in sorted(by_length.items()):
        size = max(1, most // length)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def _unit(vectors: Floats) -> Floats:
    """Rows of length 1. A row of nothing but zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
