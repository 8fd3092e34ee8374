"""A smaller model of the same vocabulary, which says what a larger one will probably say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.engine.base import Chunk, Floats, Runner
from agent.engine.sampler import Sampler
from agent.engine.sequence import TokenSequence


@dataclass(slots=True)
class _Slot:
    """What the draft model's slot of the same number holds: tokens that are certain, and then guesses."""

    held: int
    guesses: list[int] = field(default_factory=list)


class Draft:
    """Guesses for the sequences of an engine, by a Runner with as many slots. Called by the engine's thread.

    It reads a prompt when it is asked for the first guess of its answer, ``prefill_tokens`` in a step at most.
    """

    def __init__(self, runner: Runner, *, vocab_size: int, prefill_tokens: int) -> None:
        self._runner = runner
        self._vocab_size = vocab_size  # of the larger model; rows of logits are often padded, each in its own way
        self._prefill_tokens = prefill_tokens
        self._slots: dict[int, _Slot] = {}
        self.step_s = 0.0  # what a guess takes, lately; 0: not known yet

    def guess(self, sequences: Sequence[TokenSequence], count: int) -> list[list[int]]:
        """Up to ``count`` tokens that may follow each sequence; none for one whose text is still being read.

        Raises EngineError when the model's device fails.
        """
        guesses: list[list[int]] = [[] for _ in sequences]
        chunks: list[Chunk] = []
        drawing: list[tuple[int, TokenSequence, Sampler]] = []
        budget = self._prefill_tokens
        for index, sequence in enumerate(sequences):
            chunk = self._behind(sequence, count, budget)
            if chunk is None:
                continue
            budget -= len(chunk.tokens)
            chunks.append(chunk)
            if chunk.logits == "last":
                drawing.append((index, sequence, sequence.sampler.fork()))
        while chunks:
            began = time.monotonic()
            rows = self._runner.forward(chunks)
            if all(len(chunk.tokens) == 1 for chunk in chunks):
                taken = time.monotonic() - began
                self.step_s = taken if not self.step_s else self.step_s + 0.25 * (taken - self.step_s)
            for chunk in chunks:
                slot = self._slots[chunk.slot]
                sure = len(chunk.tokens) - chunk.guessed
                slot.held += sure
                slot.guesses += chunk.tokens[sure:]
            chunks = []
            for (index, _, sampler), row in zip(drawing, rows, strict=True):
                guesses[index].append(sampler.choose(self._fitted(row)).token)
            drawing = [one for one in drawing if self._goes_on(guesses[one[0]], count)]
            for index, sequence, _ in drawing:
                assert sequence.slot is not None
                at = len(sequence.tokens) + len(guesses[index]) - 1
                chunks.append(Chunk(sequence.slot, at, guesses[index][-1:], "last", 1))
        return guesses

    def release(self, slot: int) -> None:
        """The engine's slot is free."""
        if self._slots.pop(slot, None) is not None:
            self._runner.release(slot)

    def close(self) -> None:
        self._runner.close()

    def _behind(self, sequence: TokenSequence, count: int, budget: int) -> Chunk | None:
        """What of a sequence is to be read next; its last token as a guess, so that it can be read again."""
        number, tokens = sequence.slot, sequence.tokens
        assert number is not None
        length = len(tokens)
        if number >= self._runner.slots or length + count > self._runner.context_length:
            return None
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(self._runner.begin(number, tokens))
        else:
            after = zip(slot.guesses, tokens[slot.held : -1], strict=False)
            slot.held += sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], after))
            self._runner.settle(number, slot.held)
            slot.guesses = []
        missing = tokens[slot.held :]
        if max(missing) >= self._runner.vocab_size:  # a token that the draft model has no words for
            return None
        if not self._runner.reserve(number, length + count) or budget <= 0:
            return None
        if len(missing) > budget:
            return Chunk(number, slot.held, missing[:budget], "none")
        return Chunk(number, slot.held, missing, "last", 1)

    def _goes_on(self, guesses: Sequence[int], count: int) -> bool:
        return len(guesses) < count and guesses[-1] < self._runner.vocab_size

    def _fitted(self, row: Floats) -> Floats:
        """The row with as many columns as the larger model's."""
        if len(row) >= self._vocab_size:
            return row[: self._vocab_size]
        return np.pad(row, (0, self._vocab_size - len(row)), constant_values=-np.inf)
