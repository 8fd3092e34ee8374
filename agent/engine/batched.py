"""BatchedEngine: many answers from one model at once, over any Runner.

``generate`` prepares a request in the client's thread; the engine's own thread (batched_loop.py) computes all of them
together, one forward pass a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.engine.base import (
    Answer,
    Embeddings,
    EmbedRequest,
    EngineStatus,
    Meter,
    Request,
    Runner,
)
from agent.engine.batched_guesses import Guesses
from agent.engine.batched_intake import Intake, Matchers, Template, Tokens
from agent.engine.batched_loop import StepLoop
from agent.engine.defaults import OPENAI, SamplingDefaults
from agent.errors import RequestError

BUFFER_BYTES = 1 << 20  # unread text of one answer, some five thousand pieces


class BatchedEngine:
    """An Engine for a decoder. Safe to call from many threads.

    ``waiting``: requests that may wait beside those that have a slot. ``prefill_tokens``: tokens of prompts computed in
    a step, shared by all that are at their prompts; whoever is past that never waits for more than these. ``defaults``:
    what a request leaves open. ``guesses``: speculation; None: every token has a step of its own. ``adapters``: the
    names of the runner's, in their order.
    """

    def __init__(
        self,
        name: str,
        runner: Runner,
        tokenizer: Tokens,
        template: Template | None,
        grammars: Matchers | None,
        meter: Meter,
        fingerprint: str = "",
        waiting: int = 64,
        prefill_tokens: int = 256,
        buffer_bytes: int = BUFFER_BYTES,
        defaults: SamplingDefaults = OPENAI,
        guesses: Guesses | None = None,
        adapters: Sequence[str] = (),
    ) -> None:
        use = runner.cache_use()
        self._intake = Intake(
            tokenizer,
            template,
            grammars,
            vocab_size=runner.vocab_size,
            limit=min(runner.context_length, use.pages * use.page_tokens),
            buffer_bytes=buffer_bytes,
            defaults=defaults,
            adapters={adapter: number for number, adapter in enumerate(adapters, 1)},
        )
        self._name = name
        self._context_length = runner.context_length
        self._slots = runner.slots
        self._fingerprint = fingerprint
        self._loop = StepLoop(name, runner, meter, waiting=waiting, prefill_tokens=prefill_tokens, guesses=guesses)
        self._loop.start()

    def generate(self, request: Request) -> Answer:
        """Join the waiting line.

        Raises RequestError for a prompt that cannot be served, OverloadedError when the line is full, UnavailableError
        after ``close``.
        """
        job = self._intake.job(request)
        self._loop.submit(job)
        return job.answer

    def embed(self, request: EmbedRequest) -> Embeddings:
        """This engine has no vectors to give: RequestError."""
        raise RequestError(
            f"{self._name} writes text and makes no embeddings", param="model", hint="use an embedding model"
        )

    def status(self) -> EngineStatus:
        load = self._loop.load
        return EngineStatus(
            model=self._name,
            kind="text",
            context_length=self._context_length,
            slots=self._slots,
            running=load.running,
            waiting=self._loop.waiting,
            pages=load.pages,
            pages_used=load.pages_used,
            fingerprint=self._fingerprint,
            last_token_at=load.last_token_at,
        )

    def close(self) -> None:
        """End every answer with an error and free the memory of the model."""
        self._loop.close()
