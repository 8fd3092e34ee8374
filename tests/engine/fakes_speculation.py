"""Speculation that always thinks that guesses pay, and a model whose text repeats itself often enough to be guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fakes_runner import Model

from agent.engine.base import Floats
from agent.engine.speculation import StepCost


class FreeTokens(StepCost):
    """Every step takes the same time, however many tokens it has."""

    def stale(self, tokens: int) -> bool:
        return False

    def seconds(self, tokens: int) -> float:
        return 1.0


def stuttering(vocab_size: int, period: int = 5, noise: float = 1.0) -> Model:
    """A model that tends to say what it said ``period`` tokens ago; its doubts are drawn from the last few tokens."""

    def logits(tokens: Sequence[int]) -> Floats:
        key = hash((len(tokens), *tokens[-3:])) & (2**63 - 1)
        row = (np.random.default_rng(key).standard_normal(vocab_size) * noise).astype(np.float32)
        row[tokens[-period] if len(tokens) >= period else (tokens[-1] + 1) % vocab_size] += 7.0
        return row

    return logits
