"""A Runner for tests of the engine: it checks the whole contract; its logits depend on the slot's own tokens alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from agent.engine.base import CacheUse, Chunk, Floats, Logits

Model = Callable[[Sequence[int]], Floats]


def hashed(vocab_size: int) -> Model:
    """A model whose logits are random numbers drawn from a hash of all tokens so far."""

    def logits(tokens: Sequence[int]) -> Floats:
        key = hash(tuple(tokens)) & (2**63 - 1)
        return (np.random.default_rng(key).standard_normal(vocab_size) * 2).astype(np.float32)

    return logits


def counting(vocab_size: int) -> Model:
    """A model that always says the id after the last one."""

    def logits(tokens: Sequence[int]) -> Floats:
        row = np.zeros(vocab_size, dtype=np.float32)
        row[(tokens[-1] + 1) % vocab_size] = 10.0
        return row

    return logits


def scripted(vocab_size: int, script: Sequence[int], prompt: int) -> Model:
    """A model that says ``script`` after a prompt of so many tokens, whatever it was."""

    def logits(tokens: Sequence[int]) -> Floats:
        row = np.zeros(vocab_size, dtype=np.float32)
        row[script[min(max(len(tokens) - prompt, 0), len(script) - 1)]] = 10.0
        return row

    return logits


class FakeRunner:
    """``pages`` of ``page_tokens`` tokens are shared by the slots; full pages of prompts are reused by prefix.

    ``gate``, where given, holds every forward pass until it is set. ``on_forward`` may raise. ``calls`` has each step's
    chunks.
    """

    def __init__(
        self,
        model: Model,
        *,
        vocab_size: int = 64,
        slots: int = 4,
        context_length: int = 256,
        pages: int = 1000,
        page_tokens: int = 4,
        gate: threading.Semaphore | None = None,
        on_forward: Callable[[Sequence[Chunk]], None] | None = None,
    ) -> None:
        self.slots = slots
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.model = model
        self.gate = gate
        self.on_forward = on_forward
        self.calls: list[tuple[Chunk, ...]] = []
        self.begun: list[tuple[int, int]] = []  # (tokens, of them held) of each begin
        self.adapters: list[int] = []  # of each begin
        self.closed = threading.Event()
        self.entered = threading.Semaphore(0)  # released at the start of every forward pass
        self._pages, self._page_tokens = pages, page_tokens
        self._held: dict[int, list[int]] = {}
        self._guessed: dict[int, int] = {}
        self._reserved: dict[int, int] = {}
        self._known: set[tuple[int, ...]] = set()
        self._thread: int | None = None

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        self._same_thread()
        assert 0 <= slot < self.slots and slot not in self._held, "the slot must be free"
        assert tokens, "a sequence has a first token"
        held = 0
        for end in range(self._page_tokens, len(tokens), self._page_tokens):
            if tuple(tokens[:end]) not in self._known:
                break
            held = end
        if self._in_use() + self._pages_for(held) > self._pages:
            held = 0
        self._held[slot] = list(tokens[:held])
        self._reserved[slot] = held
        self.begun.append((len(tokens), held))
        self.adapters.append(adapter)
        return held

    def reserve(self, slot: int, length: int) -> bool:
        self._same_thread()
        assert slot in self._held and 0 < length <= self.context_length
        more = self._pages_for(length) - self._pages_for(self._reserved[slot])
        if more > 0 and self._in_use() + more > self._pages:
            return False
        self._reserved[slot] = max(length, self._reserved[slot])
        return True

    def forward(self, chunks: Sequence[Chunk]) -> Logits:
        self._same_thread()
        assert chunks and len({chunk.slot for chunk in chunks}) == len(chunks), "one chunk a slot"
        self.entered.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=30), "the test forgot to open the gate"
        self.calls.append(tuple(chunks))
        if self.on_forward is not None:
            self.on_forward(chunks)
        rows: list[Floats] = []
        for chunk in chunks:
            held = self._held[chunk.slot]
            assert chunk.tokens and chunk.start == len(held), "a chunk goes on where the slot ends"
            assert chunk.start + len(chunk.tokens) <= self._reserved[chunk.slot], "beyond what was reserved"
            assert all(0 <= token < self.vocab_size for token in chunk.tokens)
            for offset, token in enumerate(chunk.tokens):
                held.append(token)
                if chunk.logits == "all" or (chunk.logits == "last" and offset == len(chunk.tokens) - 1):
                    rows.append(self.model(held))
            self._guessed[chunk.slot] = self._guessed.get(chunk.slot, 0)
            assert not self._guessed[chunk.slot] or chunk.guessed == len(chunk.tokens), "guesses are not settled"
            self._guessed[chunk.slot] += chunk.guessed
            self._know(held[: len(held) - self._guessed[chunk.slot]])
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), dtype=np.float32)

    def settle(self, slot: int, length: int) -> None:
        self._same_thread()
        held, guessed = self._held[slot], self._guessed.pop(slot, 0)
        assert len(held) - guessed <= length <= len(held), "only guesses can be dropped"
        del held[length:]
        self._know(held)

    def release(self, slot: int) -> None:
        self._same_thread()
        self._guessed.pop(slot, None)
        del self._held[slot], self._reserved[slot]

    def cache_use(self) -> CacheUse:
        return CacheUse(self._pages, self._in_use(), self._page_tokens)

    def close(self) -> None:
        self.closed.set()

    def _know(self, tokens: list[int]) -> None:
        for end in range(self._page_tokens, len(tokens) + 1, self._page_tokens):
            self._known.add(tuple(tokens[:end]))

    def _in_use(self) -> int:
        return sum(self._pages_for(length) for length in self._reserved.values())

    def _pages_for(self, length: int) -> int:
        return -(-length // self._page_tokens)

    def _same_thread(self) -> None:
        current = threading.get_ident()
        self._thread = self._thread or current
        assert current == self._thread, "a runner is for one thread"
