"""Logits to the next token. Pure: one row of numbers in, one choice out.

The order is vLLM's: grammar, ``logit_bias``, penalties (repetition, then frequency and presence), temperature,
``min_p``, ``top_k``, ``top_p``. ``top_p`` counts the probabilities that are left after ``min_p`` and ``top_k``. Log
probabilities are of the model's own distribution, before any of these: as with OpenAI, a bias does not show in them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats, Sampling
from agent.errors import EngineError

Ids = NDArray[np.intp]
Mask = NDArray[np.bool_]

GREEDY_BELOW = 1e-5  # a smaller temperature is zero: dividing by it would leave the range of float32
CANDIDATES = 1024  # as many as it is quicker to sort than to halve
FIRST_PIVOT = 3e-4  # most of a model's weights are less than this share of the largest one
SMALLEST = 1e-30
BLOCK = 512  # weights summed at once when a token is drawn from a whole vocabulary
BAN, FORCE = -100.0, 100.0  # biases that OpenAI documents as "ban" and "exclusive selection"


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; ``logprob`` and ``top`` (token, natural-log probability; best first) only where asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one sequence. What it has chosen so far is its only state."""

    def __init__(self, sampling: Sampling, *, vocab_size: int, seed: int, choice: int, prompt: Iterable[int]) -> None:
        self._temperature = 1.0 if sampling.temperature is None else sampling.temperature
        self._top_p = 1.0 if sampling.top_p is None else sampling.top_p
        self._top_k = sampling.top_k or 0
        self._min_p = sampling.min_p or 0.0
        self._repetition = 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty
        self._sampling = sampling
        # 128 bits of key: the seed and the number of the choice; the counter is the position.
        self._key = (seed % 2**64) | (choice % 2**64) << 64
        self._position = 0
        self._bias = {token: bias for token, bias in sampling.logit_bias.items() if bias}
        self._forced = np.array([t for t, bias in self._bias.items() if bias >= FORCE], dtype=np.intp)
        penal = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._counts = np.zeros(vocab_size, dtype=np.float32) if penal else None
        self._seen = np.zeros(vocab_size, dtype=np.bool_) if self._repetition != 1.0 else None
        if self._seen is not None:
            self._seen[np.fromiter(prompt, dtype=np.intp)] = True
        self._plain = not self._bias and self._counts is None and self._seen is None

    def fork(self) -> Sampler:
        """One that chooses as this one would from here on, and leaves it as it is. It tells no log probabilities."""
        fork = copy.copy(self)
        fork._sampling = replace(self._sampling, logprobs=None)
        fork._counts = None if self._counts is None else self._counts.copy()
        fork._seen = None if self._seen is None else self._seen.copy()
        return fork

    def choose(self, row: Floats, mask: Mask | None = None) -> Choice:
        """The next token after ``row``, [vocab_size]; ``mask`` is true where the grammar allows a token.

        ``row`` is left as it is. Raises EngineError when it holds a NaN or no finite maximum.
        """
        best = int(row.argmax())
        if not math.isfinite(row[best]):  # argmax finds a NaN first, too
            raise EngineError(
                "the model computed a number that is none",
                hint="its weights are broken, or the precision is too low for it; load it with another quantisation",
            )
        if mask is not None or not self._plain:
            row_now = self._adjusted(row, mask)
            best = int(row_now.argmax())
        else:
            row_now = row
        token = best if self._temperature < GREEDY_BELOW else self._drawn(row_now, float(row_now[best]))
        self._position += 1
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        if self._sampling.logprobs is None:
            return Choice(token)
        return scored(row, token, self._sampling.logprobs)

    def _adjusted(self, row: Floats, mask: Mask | None) -> Floats:
        """A copy of the row after grammar, bias and penalties."""
        adjusted = row.copy()
        for token, bias in self._bias.items():
            adjusted[token] = -np.inf if bias <= BAN else adjusted[token] + bias
        if len(self._forced):
            kept = adjusted[self._forced]
            adjusted.fill(-np.inf)
            adjusted[self._forced] = kept
        if self._seen is not None:
            penalty, seen = self._repetition, np.flatnonzero(self._seen)
            values = adjusted[seen]
            adjusted[seen] = np.where(values > 0, values / penalty, values * penalty)
        if self._counts is not None:
            adjusted -= self._sampling.frequency_penalty * self._counts
            adjusted -= self._sampling.presence_penalty * (self._counts > 0)
        if mask is not None:
            adjusted[~mask] = -np.inf
        if not np.isfinite(adjusted.max()):
            # The biases forbid all that the grammar allows: the grammar is the stronger promise.
            adjusted = row.copy() if mask is None else np.where(mask, row, np.float32(-np.inf))
            if not np.isfinite(adjusted.max()):
                raise EngineError("the grammar allows no token here", hint="ask for a grammar that text can match")
        return adjusted

    def _drawn(self, row: Floats, largest: float) -> int:
        with np.errstate(over="ignore"):  # far below the best becomes -inf: a weight of zero
            scaled: Floats = (row - np.float32(largest)) / np.float32(self._temperature)
        # Philox is counter-based: the number depends on nothing but key and position.
        bits = int(np.random.Philox(counter=self._position, key=self._key).random_raw())
        uniform = (bits >> 11) * 2.0**-53
        if self._top_p >= 1.0 and self._top_k <= 0 and self._min_p <= 0.0:
            return _pick_of_many(np.exp(scaled), uniform)
        ids = survivors(scaled, top_k=self._top_k, top_p=self._top_p, min_p=self._min_p)
        return int(ids[_pick_of_many(np.exp(scaled[ids]), uniform)])


def survivors(scaled: Floats, *, top_k: int, top_p: float, min_p: float, candidates: int = CANDIDATES) -> Ids:
    """The tokens that may be drawn, out of logits over temperature whose largest is 0; in no particular order.

    The same as sorting everything (best first, the lower id first among equals) and cutting: at ``exp(x) >= min_p``,
    after ``top_k``, and after the shortest run whose share of what is left reaches ``top_p``.
    """
    allowed = scaled >= math.log(min_p) if min_p > 0 else None
    if 0 < top_k < len(scaled):
        ids = largest(scaled, top_k if allowed is None else min(top_k, int(np.count_nonzero(allowed))))
    elif allowed is not None:
        ids = np.flatnonzero(allowed)
    elif top_p < 1.0:
        return _nucleus(np.exp(scaled), top_p, candidates)
    else:
        return np.arange(len(scaled))
    return ids if top_p >= 1.0 else ids[_nucleus(np.exp(scaled[ids]), top_p, candidates)]


def _nucleus(weights: Floats, share: float, candidates: int) -> Ids:
    """The shortest run of weights, largest first, that is ``share`` of their sum.

    By halving the range in which the smallest of the run lies, until so few are left in it that sorting them is cheap:
    a sort of a whole vocabulary takes longer than the forward pass of a small model.
    """
    mass = share * float(weights.sum(dtype=np.float64))
    band, above, pivot = weights, 0.0, FIRST_PIVOT
    while len(band) > candidates:
        upper = band[band > pivot]
        inside = float(upper.sum(dtype=np.float64))
        if above + inside >= mass:
            band = upper
        else:
            band, above = band[band <= pivot], above + inside
        least, most = float(band.min()), float(band.max())
        if not least < most:
            break  # all the same: nothing to halve
        # In the middle of their logarithms; zero has none. In float32, as it is compared: between two neighbours there
        # is nothing, and only a pivot below the largest leaves less to look at.
        pivot = float(np.float32(math.sqrt(max(least, SMALLEST) * most)))
        if not least <= pivot < most:
            pivot = least
    band = np.sort(band)[::-1]
    reached = int(np.searchsorted(above + np.cumsum(band, dtype=np.float64), mass, side="left"))
    edge = band[min(reached, len(band) - 1)]
    ids = np.flatnonzero(weights >= edge)
    # Of those equal to the last one in the run, as many as are in it: the lower ids.
    spare = int(np.count_nonzero(band[reached + 1 :] == edge))
    return ids if spare == 0 else np.delete(ids, np.flatnonzero(weights[ids] == edge)[-spare:])


def largest(values: Floats, count: int) -> Ids:
    """The ids of the ``count`` largest values, best first, the lower id first among equals."""
    size = len(values)
    if count >= size:
        ids = np.arange(size)
    elif count <= 0:
        return np.arange(0)
    else:
        # By value, not by argpartition: that would break ties at the edge by chance.
        edge = np.partition(values, size - count)[size - count]
        ids = np.flatnonzero(values >= edge)
    order = np.argsort(-values[ids], kind="stable")
    return ids[order][:count]


def scored(row: Floats, token: int, top: int) -> Choice:
    """``token`` with its log probability in the softmax of ``row``, and the ``top`` likeliest ones."""
    highest = row.max()
    total = float(highest) + math.log(float(np.exp(row - highest).sum(dtype=np.float64)))
    ids = largest(row, top)
    return Choice(token, float(row[token]) - total, tuple((int(i), float(row[i]) - total) for i in ids))


def _pick(weights: Floats | NDArray[np.float64], uniform: float) -> int:
    """The index under which ``uniform`` of [0, 1) falls; never one whose weight is zero."""
    sums = np.cumsum(weights.astype(np.float64))
    last = int(np.searchsorted(sums, sums[-1], side="left"))
    return min(int(np.searchsorted(sums, uniform * sums[-1], side="right")), last)


def _pick_of_many(weights: Floats, uniform: float) -> int:
    """As ``_pick``, by the sums of blocks: one running sum over a whole vocabulary takes milliseconds."""
    starts = np.arange(0, len(weights), BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    block = _pick(sums, uniform)
    before = float(sums[:block].sum())
    inside = (uniform * float(sums.sum()) - before) / float(sums[block])
    start = int(starts[block])
    return start + _pick(weights[start : start + BLOCK], min(max(inside, 0.0), 1.0))
