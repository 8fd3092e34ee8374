"""Speculation: guess the next tokens of an answer, compute them in one forward pass, keep those that are right. Pure.

Exact by construction: after each guessed token stand the logits that the model would have given anyway, the sequence
chooses its token from them exactly as it always does, and a guess only decides whether the next row is of use, too. For
a guess that is one token this *is* rejection sampling (Leviathan, Kalai and Matias 2023, arXiv:2211.17192): it is kept
with the probability that the model gives it. A draft model draws with the random number that the model will draw with
(a coupling of the two distributions), so that a seed gives the same text with or without it.

Here: what is guessed from the text itself (prompt lookup: after the same few tokens, what followed them last time), how
often guesses hold, what a forward pass of so many tokens costs, and from these how many guesses pay.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LONGEST = 8  # guesses at once for one sequence
MOST_TOKENS = (
    48  # tokens in a step with guesses: beyond that the arithmetic bounds it, and nothing is to be had for free
)
GRAMS = (4, 3, 2)  # how many tokens must be the same as before, the most telling first

_HOPE, _WEIGHT = 0.6, 2.0  # share of guesses that is expected to hold before any was tried, worth so many tries
_KEPT = 0.85  # what remains of old experience with every try
_FORGOTTEN = 0.97  # and with every chance that was let pass: what did not pay is tried again some day
_NEWEST = 0.25  # weight of the newest measurement of a step's cost
_OUTLIER = 3.0  # a step that took longer than so many times the usual was disturbed
_STALE = 64  # steps after which the cost of a step without guesses is measured again
_OLD = 512  # and after which that of any other is no longer believed


@dataclass(slots=True)
class Acceptance:
    """How likely the next guess of one kind is to hold, from those before it."""

    _held: float = 0.0
    _tried: float = 0.0

    @property
    def rate(self) -> float:
        return (self._held + _HOPE * _WEIGHT) / (self._tried + _WEIGHT)

    def settled(self, proposed: int, accepted: int) -> None:
        """``accepted`` of the ``proposed`` held; what comes after the first that did not hold says nothing."""
        self._held = self._held * _KEPT + accepted
        self._tried = self._tried * _KEPT + accepted + (accepted < proposed)

    def passed(self) -> None:
        """There was a guess, and it was not thought to pay."""
        self._held *= _FORGOTTEN
        self._tried *= _FORGOTTEN

    def gain(self, count: int) -> float:
        """Tokens that ``count`` guesses in a row are expected to bring: the sum of the rate's powers from 1 on."""
        rate = self.rate
        return rate * (1.0 - rate**count) / (1.0 - rate)


class Lookup:
    """Where in a sequence the same few tokens stood before. Grows with the sequence; never looks at a token twice."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # some tokens -> where what followed them last time begins
        self._read = 0

    def find(self, tokens: Sequence[int]) -> tuple[int, int] | None:
        """How many of the last tokens were found, and where what followed them begins; None: nowhere."""
        for end in range(self._read, len(tokens)):
            for size in GRAMS:
                if end >= size:
                    self._follows[tuple(tokens[end - size : end])] = end
        self._read = max(self._read, len(tokens))
        for size in GRAMS:
            if len(tokens) >= size:
                found = self._follows.get(tuple(tokens[-size:]))
                if found is not None:
                    return size, found
        return None


def continued(tokens: Sequence[int], start: int, count: int) -> list[int]:
    """``count`` tokens as from ``start``; where the text ends they go on with themselves, as a repetition would."""
    guesses: list[int] = []
    for place in range(start, start + count):
        guesses.append(tokens[place] if place < len(tokens) else guesses[place - len(tokens)])
    return guesses


@dataclass(slots=True)
class Speculation:
    """What one sequence knows of guessing: its text, and how the guesses of each source have held."""

    lookup: Lookup = field(default_factory=Lookup)
    sources: dict[str, Acceptance] = field(default_factory=dict)

    def acceptance(self, source: str) -> Acceptance:
        return self.sources.setdefault(source, Acceptance())


class StepCost:
    """What a forward pass of so many decoding tokens takes, in seconds, as measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[float, int]] = {}  # tokens -> seconds, and the step of the latest measurement
        self._known: list[int] = []  # of which numbers of tokens, in order
        self._steps = 0

    def measured(self, tokens: int, seconds: float) -> None:
        self._steps += 1
        before = self._seconds.get(tokens)
        if before is not None:
            seconds = before[0] + _NEWEST * (min(seconds, _OUTLIER * before[0]) - before[0])
        self._seconds[tokens] = (seconds, self._steps)
        if before is None or self._steps % _OLD == 0:
            least = min(self._seconds)
            self._seconds = {n: one for n, one in self._seconds.items() if n == least or self._steps - one[1] < _OLD}
            self._known = sorted(self._seconds)

    def stale(self, tokens: int) -> bool:
        """A step of so many tokens was not measured lately."""
        known = self._seconds.get(tokens)
        return known is None or self._steps - known[1] >= _STALE

    def seconds(self, tokens: int) -> float:
        """Between two that were measured a straight line; beyond the largest its own cost: what is hoped is tried."""
        place = bisect.bisect_left(self._known, tokens)
        if not self._known:
            return 0.0
        if place == len(self._known) or place == 0 or self._known[place] == tokens:
            return self._seconds[self._known[min(place, len(self._known) - 1)]][0]
        below, above = self._known[place - 1], self._known[place]
        share = (tokens - below) / (above - below)
        return self._seconds[below][0] + share * (self._seconds[above][0] - self._seconds[below][0])


def best_count(
    cost: StepCost,
    tokens: int,
    gained: float,
    gain: Callable[[int], float],
    most: int,
    *,
    each: int = 1,
    further_s: float = 0.0,
) -> int:
    """How many guesses bring the most tokens a second; 0 where none do.

    The step has ``tokens`` without them and is expected to bring ``gained``. ``count`` guesses bring ``gain(count)``
    more, add ``each`` times as many tokens to the step, and ``further_s`` seconds each.
    """

    def speed(count: int) -> float:
        seconds = cost.seconds(tokens + each * count) + count * further_s
        return (gained + (gain(count) if count else 0.0)) / max(seconds, 1e-9)

    most = min(most, (MOST_TOKENS - tokens) // each)
    return max(range(max(most, 0) + 1), key=lambda count: (speed(count), -count))
