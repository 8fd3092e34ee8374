"""A BatchedEngine over the fakes, and what a client does with it. Every wait has a deadline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fakes_runner import FakeRunner
from fakes_text import FakeGrammars, FakeMeter, FakeTemplate, FakeTokenizer

from agent.engine.base import Answer, Delta, FinishReason, Request, Sampling, TokenLogprob, Usage
from agent.engine.batched import BatchedEngine
from agent.engine.batched_guesses import Guesses

DEADLINE_S = 20.0
GREEDY = Sampling(temperature=0.0, max_tokens=8)


@contextlib.contextmanager
def engine_over(
    runner: FakeRunner,
    *,
    tokenizer: FakeTokenizer | None = None,
    meter: FakeMeter | None = None,
    waiting: int = 64,
    prefill_tokens: int = 256,
    buffer_bytes: int = 1 << 20,
    guesses: Guesses | None = None,
    adapters: Sequence[str] = (),
) -> Iterator[BatchedEngine]:
    engine = BatchedEngine(
        "fake",
        runner,
        tokenizer or FakeTokenizer(eos=frozenset()),
        FakeTemplate(),
        FakeGrammars(runner.vocab_size),
        meter or FakeMeter(),
        fingerprint="fp",
        waiting=waiting,
        prefill_tokens=prefill_tokens,
        buffer_bytes=buffer_bytes,
        guesses=guesses,
        adapters=adapters,
    )
    try:
        yield engine
    finally:
        if runner.gate is not None:
            runner.gate.release(10_000)
        engine.close()
        assert runner.closed.wait(DEADLINE_S)


@dataclass
class Read:
    """All that was answered, choice by choice."""

    texts: dict[int, str] = field(default_factory=dict)
    reasoning: dict[int, str] = field(default_factory=dict)
    finishes: dict[int, FinishReason] = field(default_factory=dict)
    logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    deltas: list[Delta] = field(default_factory=list)
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return self.texts[0]


def read(answer: Answer) -> Read:
    """Everything, to the end or the deadline."""
    got = Read()
    until = time.monotonic() + DEADLINE_S
    while got.usage is None:
        assert time.monotonic() < until, f"no end in sight after {got.deltas}"
        delta = answer.poll(0.5)
        if delta is None:
            continue
        got.deltas.append(delta)
        assert delta.index not in got.finishes, "nothing comes after the end of a choice"
        got.texts[delta.index] = got.texts.get(delta.index, "") + delta.text
        got.reasoning[delta.index] = got.reasoning.get(delta.index, "") + delta.reasoning
        got.logprobs.setdefault(delta.index, []).extend(delta.logprobs)
        if delta.finish is not None:
            got.finishes[delta.index] = delta.finish
        got.usage = delta.usage
    return got


def ask(
    engine: BatchedEngine, *prompts: str | tuple[int, ...], sampling: Sampling = GREEDY, n: int = 1, echo: bool = False
) -> Answer:
    return engine.generate(Request("req", prompts, sampling, n=n, echo=echo))


def eventually(what: Callable[[], bool]) -> None:
    """Wait for it to be so."""
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.001)
