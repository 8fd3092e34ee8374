"""A Runner over stages in one process: each step goes through all of them in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from agent.engine.base import Batch, CacheUse, Chunk, Logits, Report, Stage
from agent.engine.decoder import DecoderSpec
from agent.engine.quantise import Quantisation
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter, AdapterStack
from agent.engine.weights_packed import Weights


class CacheTable(Protocol):
    """Who holds which part of a key-value cache: pages of some tokens, or one long page a slot.

    Wrong calls raise ValueError and change nothing.
    """

    @property
    def slots(self) -> int: ...

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        """Open a slot; how many leading tokens its pages hold already, at most ``len(tokens) - 1``.

        Only what was computed with the same adapter counts.
        """
        ...

    def reserve(self, slot: int, length: int) -> bool:
        """Pages for ``length`` tokens; False, and nothing changed, when there are not enough."""
        ...

    def append(self, slot: int, tokens: Sequence[int], guessed: int = 0) -> None:
        """Note tokens that are in the cache now; the last ``guessed`` of them may yet be dropped."""
        ...

    def settle(self, slot: int, length: int) -> None:
        """Keep ``length`` tokens and drop the guesses after them."""
        ...

    def release(self, slot: int) -> None: ...

    def length(self, slot: int) -> int:
        """How many tokens the slot holds."""
        ...

    def room(self, slot: int) -> int:
        """How many tokens the slot's pages can hold."""
        ...

    def pages(self, slot: int) -> tuple[int, ...]:
        """The slot's pages in order; the same object as long as they do not change."""
        ...

    def copies(self) -> tuple[tuple[int, int, int], ...]:
        """What every stage must copy before its next step: (from page, to page, tokens). Asked once a step."""
        ...

    def use(self) -> CacheUse: ...


class StagedRunner:
    """A Runner: a chain of stages, and the table of the cache pages that all of them share. Called by one thread."""

    def __init__(self, stages: Sequence[Stage], table: CacheTable, *, context_length: int, vocab_size: int) -> None:
        self._stages = stages
        self._table = table
        self._context_length = context_length
        self._vocab_size = vocab_size
        self._page_tokens = table.use().page_tokens
        self._adapters = [0] * table.slots  # of each slot
        self._copies: tuple[tuple[int, int, int], ...] = ()  # asked of the stages, but not known to be done

    @property
    def slots(self) -> int:
        return self._table.slots

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        held = self._table.begin(slot, tokens, adapter)
        self._adapters[slot] = adapter
        return held

    def reserve(self, slot: int, length: int) -> bool:
        if length > self._context_length:
            raise ValueError(f"{length} tokens do not fit a context of {self._context_length}")
        return self._table.reserve(slot, length)

    def forward(self, chunks: Sequence[Chunk]) -> Logits:
        """One step. Raises ValueError for chunks that do not fit, EngineError if a stage breaks; then no slot grew."""
        if not chunks:
            return np.zeros((0, self._vocab_size), np.float32)
        self._check(chunks)
        tokens = np.fromiter((token for chunk in chunks for token in chunk.tokens), np.int64)
        if tokens.min() < 0 or tokens.max() >= self._vocab_size:
            raise ValueError(f"token ids must be within 0 to {self._vocab_size - 1}")
        pages = tuple(self._table.pages(chunk.slot) for chunk in chunks)
        self._copies += self._table.copies()
        adapters = tuple(self._adapters[chunk.slot] for chunk in chunks)
        batch = Batch(tuple(chunks), pages, self._page_tokens, self._copies, adapters if any(adapters) else ())
        states = self._stages[0].run(tokens, batch)
        for stage in self._stages[1:]:
            states = stage.run(states, batch)
        self._copies = ()  # of a step that broke they are asked again: other slots than its own rely on them
        for chunk in chunks:
            self._table.append(chunk.slot, chunk.tokens, chunk.guessed)
        return states

    def settle(self, slot: int, length: int) -> None:
        self._table.settle(slot, length)

    def release(self, slot: int) -> None:
        self._table.release(slot)

    def cache_use(self) -> CacheUse:
        return self._table.use()

    def close(self) -> None:
        for stage in self._stages:
            stage.close()

    def _check(self, chunks: Sequence[Chunk]) -> None:
        if len({chunk.slot for chunk in chunks}) < len(chunks):
            raise ValueError("a slot has more than one chunk")
        for chunk in chunks:
            if not chunk.tokens:
                raise ValueError(f"the chunk of slot {chunk.slot} is empty")
            if not 0 <= chunk.guessed <= len(chunk.tokens):
                raise ValueError(f"of {len(chunk.tokens)} tokens {chunk.guessed} cannot be guesses")
            if chunk.start != self._table.length(chunk.slot):
                raise ValueError(f"slot {chunk.slot} holds {self._table.length(chunk.slot)} tokens, not {chunk.start}")
            if chunk.start + len(chunk.tokens) > self._table.room(chunk.slot):
                raise ValueError(f"slot {chunk.slot} has no room for {len(chunk.tokens)} more tokens")


def open_staged(
    checkpoint: Checkpoint,
    spec: DecoderSpec,
    quantisation: Quantisation,
    make: Callable[[DecoderSpec, range, Weights, AdapterStack | None], Stage],
    table: CacheTable,
    *,
    cuts: Sequence[range] | None,
    context_length: int,
    threads: int,
    cache: Path | None,
    report: Report | None = None,
    adapters: Sequence[Adapter] = (),
) -> StagedRunner:
    """A runner of a whole model, of the stages that ``make`` makes: one or, where ``cuts`` says so, several.

    ``threads`` 0: one for each core. ``cache``: a folder of this model's own for its packed weights. ``report`` hears
    how far it is. ``adapters`` are numbered from 1 in this order. Raises what Weights.open and ``make`` do.
    """
    told = report or (lambda stage, share: None)
    spec = spec.within(context_length)
    stages: list[Stage] = []
    ranges = cuts or [range(spec.layers)]
    for index, layers in enumerate(ranges):

        def packing(share: float, index: int = index) -> None:
            told("quantising", (index + share) / len(ranges))

        packers = threads or os.cpu_count() or 1
        weights = Weights.open(checkpoint, spec, layers, quantisation, cache=cache, threads=packers, told=packing)
        told("compiling", index / len(ranges))
        stack = AdapterStack(adapters, spec.tensors(layers))
        stages.append(make(spec, layers, weights, stack if stack.down else None))  # None: nothing of it is changed
    return StagedRunner(stages, table, context_length=context_length, vocab_size=spec.vocab)
