"""Which sequences of a step are given guesses, from where, and how many: as many as make the step quicker a token."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from agent.engine.draft import Draft
from agent.engine.sequence import TokenSequence
from agent.engine.speculation import LONGEST, MOST_TOKENS, StepCost, best_count, continued
from agent.errors import EngineError

log = logging.getLogger(__name__)


class Guesses:
    """Speculation for the sequences of one engine. Called by the engine's thread.

    ``draft``: a model to ask where the text itself has no answer. ``cost``: what steps take, where that is known.
    """

    def __init__(self, draft: Draft | None = None, cost: StepCost | None = None) -> None:
        self._draft = draft
        self._cost = cost or StepCost()
        self._sources: dict[TokenSequence, str] = {}  # of those that have guesses in this step
        self.draft_s = 0.0  # what the draft model took of the latest step

    def propose(self, decoding: Sequence[TokenSequence]) -> None:
        """Give ``guesses`` to those of a step that only decodes, where they pay."""
        self._sources = {}
        self.draft_s = 0.0
        tokens = len(decoding)
        if tokens >= MOST_TOKENS or self._cost.stale(tokens):
            return
        gained, asking = float(tokens), []
        for sequence in decoding:
            found = sequence.speculation.lookup.find(sequence.tokens)
            if found is None:
                asking.append(sequence)
                continue
            size, start = found
            acceptance = sequence.speculation.acceptance(f"lookup-{size}")
            count = best_count(self._cost, tokens, gained, acceptance.gain, _most(sequence))
            if not count:
                acceptance.passed()
                asking.append(sequence)
                continue
            self._give(sequence, continued(sequence.tokens, start, count), f"lookup-{size}")
            tokens += count
            gained += acceptance.gain(count)
        if self._draft is not None and (asking := [one for one in asking if _most(one)]):
            self._ask(self._draft, asking, tokens, gained)

    def computed(self, tokens: int, seconds: float) -> None:
        """A step that only decoded took so long for so many tokens, guesses among them."""
        self._cost.measured(tokens, seconds)

    def settled(self, sequence: TokenSequence, proposed: int, accepted: int) -> str:
        """So many of a sequence's guesses held; from where they came."""
        source = self._sources.pop(sequence)
        sequence.speculation.acceptance(source).settled(proposed, accepted)
        return source.partition("-")[0]

    def release(self, slot: int) -> None:
        """A slot of the engine is free."""
        if self._draft is not None:
            self._draft.release(slot)

    def close(self) -> None:
        if self._draft is not None:
            self._draft.close()

    def _ask(self, draft: Draft, asking: Sequence[TokenSequence], tokens: int, gained: float) -> None:
        """One count for all that ask, since their drafts are computed together."""
        known = [sequence.speculation.acceptance("draft") for sequence in asking]
        count = best_count(
            self._cost,
            tokens,
            gained,
            lambda count: sum(one.gain(count) for one in known),
            min(_most(sequence) for sequence in asking),
            each=len(asking),
            further_s=draft.step_s,
        )
        if not count:
            for one in known:
                one.passed()
            return
        began = time.monotonic()
        try:
            guessed = draft.guess(asking, count)
        except EngineError as error:
            log.warning("the draft model failed and is not asked again: %s", error.message)
            self._draft = None
            draft.close()
            return
        self.draft_s = time.monotonic() - began
        for sequence, guesses in zip(asking, guessed, strict=True):
            if guesses:
                self._give(sequence, guesses, "draft")

    def _give(self, sequence: TokenSequence, guesses: list[int], source: str) -> None:
        sequence.guesses = guesses
        self._sources[sequence] = source


def _most(sequence: TokenSequence) -> int:
    """The last token that may be chosen is no guess: nothing follows it."""
    return max(0, min(LONGEST, sequence.room - sequence.chosen - 1))
