"""One choice of a request while it grows: its tokens, how far the cache holds them, and the text they make. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.engine.base import Chunk, Delta, FinishReason, Floats, TokenLogprob, ToolCallDelta
from agent.engine.output import OutputParser
from agent.engine.sampler import Choice, Mask, Sampler, scored
from agent.engine.scheduler import Place
from agent.engine.speculation import Speculation
from agent.engine.stops import StopScanner

SCORED_ROWS = 64  # prompt tokens a step that are given log probabilities: each costs a pass over the vocabulary


class Vocabulary(Protocol):
    def token_text(self, token: int, /) -> str: ...

    def token_bytes(self, token: int, /) -> bytes: ...


class TextStream(Protocol):
    """Tokens to text, whole characters only."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class Matcher(Protocol):
    """What a grammar allows next."""

    def mask(self) -> Mask: ...

    def accept(self, token: int, /) -> None: ...

    @property
    def finished(self) -> bool: ...


class Writer:
    """Turns the tokens of a choice into pieces of its answer: characters, stop strings, parts of a message.

    A token's log probability goes out with its text, or with the text that its bytes are a part of; those of a stop
    string do not go out at all.
    """

    def __init__(self, index: int, stream: TextStream, stops: Sequence[str], parser: OutputParser | None) -> None:
        self._index = index
        self._stream = stream
        self._scanner = StopScanner(stops)
        self._parser = parser
        self._read = 0  # characters of text so far, the held back ones included
        self._passed = 0  # of these, how many are certain to belong to the answer
        self._spans: list[tuple[int, int, TokenLogprob]] = []  # from where to where a token's text goes; not yet out
        self.reasoning_tokens = 0

    @property
    def stopped(self) -> bool:
        """Nothing that follows belongs to the answer: after a stop string, or the one tool call that was allowed."""
        return self._scanner.stopped or (self._parser is not None and self._parser.done)

    def write(self, token: int, logprob: TokenLogprob | None) -> Delta | None:
        """The piece that this token completes; None when it completes none."""
        text = self._stream.push(token)
        begin, self._read = self._read, self._read + len(text)
        if logprob is not None:
            self._spans.append((begin, self._read, logprob))
        passed = self._scanner.feed(text) if text else ""
        thinking = self._parser is not None and self._parser.reasoning
        text, reasoning, calls = self._parsed(passed)
        if thinking or reasoning:
            self.reasoning_tokens += 1
        self._passed += len(passed)
        if not (text or reasoning or calls):
            return None
        return Delta(self._index, text, reasoning, calls, self._due())

    def end(self, reason: FinishReason) -> Delta:
        """The last piece, with all that was held back."""
        passed = ""
        if not self._scanner.stopped:
            passed = self._scanner.feed(self._stream.flush())
            if self._scanner.stopped:
                reason = "stop"
            passed += self._scanner.flush()
        self._passed += len(passed)
        text, reasoning, calls = self._parsed(passed, last=True)
        if reason == "stop" and self._parser is not None and self._parser.saw_tool_call:
            reason = "tool_calls"
        logprobs = tuple(lp for begin, _, lp in self._spans if begin < self._passed or not self._scanner.stopped)
        return Delta(self._index, text, reasoning, calls, logprobs, reason)

    def _parsed(self, passed: str, *, last: bool = False) -> tuple[str, str, tuple[ToolCallDelta, ...]]:
        if self._parser is None:
            return passed, "", ()
        pieces = [*(self._parser.feed(passed) if passed else ()), *(self._parser.end() if last else ())]
        calls = tuple(call for piece in pieces for call in piece.tool_calls)
        return "".join(p.text for p in pieces), "".join(p.reasoning for p in pieces), calls

    def _due(self) -> tuple[TokenLogprob, ...]:
        """The log probabilities of tokens whose text has gone out to its last character."""
        due = [span for span in self._spans if span[0] < self._passed and span[1] <= self._passed]
        self._spans = self._spans[len(due) :]
        return tuple(logprob for _, _, logprob in due)


@dataclass(slots=True, eq=False)
class TokenSequence:
    """The tokens of one choice. It outlives its slot: preempted and admitted again, it goes on as if nothing was."""

    tokens: list[int]  # the prompt's, then the chosen ones
    prompt: int  # how many are the prompt's
    room: int  # how many may be chosen
    eos: frozenset[int]  # which ends it; none when the client wants the text to go on
    sampler: Sampler
    writer: Writer
    vocabulary: Vocabulary
    matcher: Matcher | None = None
    echo: Delta | None = None  # the prompt's text, given back before the first token
    score: int | None = None  # alternatives to each token of the prompt; None: no log probabilities of the prompt
    adapter: int = 0  # the runner's number of it; 0: none
    after: TokenSequence | None = None  # a sibling with the same prompt, whose prefix is worth waiting for
    place: Place = field(default_factory=lambda: Place(0.0, 0, 0))
    slot: int | None = None
    held: int = 0  # tokens the slot holds
    cached: int | None = None  # prompt tokens that the cache held when it was first admitted
    over: bool = False
    guesses: list[int] = field(default_factory=list)  # what may follow: computed with the next step, kept where right
    speculation: Speculation = field(default_factory=Speculation)
    _scores: list[TokenLogprob] = field(default_factory=list)

    @property
    def chosen(self) -> int:
        return len(self.tokens) - self.prompt

    @property
    def pending(self) -> int:
        """Tokens still to be computed: 1 while decoding, more in a prompt."""
        return len(self.tokens) - self.held

    @property
    def ready(self) -> bool:
        """Worth a slot now: the sibling that computes the same prompt has done so."""
        return self.after is None or self.after.over or self.after.chosen > 0

    @property
    def wants_nothing(self) -> bool:
        """There is nothing to compute: no token to choose, none to score."""
        return self.room <= 0 and not self._scoring

    @property
    def _scoring(self) -> bool:
        return self.score is not None and len(self._scores) < self.prompt

    def prefix(self) -> list[int]:
        """What a slot may begin with: a token to be scored needs the logits before it, not skipped by the cache."""
        if self._scoring and self.after is not None and not self.after._scoring:
            self._scores = list(self.after._scores)  # the sibling has scored the same prompt
        return self.tokens[: max(1, len(self._scores))] if self._scoring else self.tokens

    def want(self) -> int:
        """How many tokens of the prompt a step may take."""
        return min(self.pending, SCORED_ROWS) if self._scoring else self.pending

    def chunk(self, count: int) -> Chunk:
        """The next ``count`` tokens, and the guesses that follow them."""
        assert self.slot is not None
        end = self.held + count
        if self.guesses:
            tokens = [*self.tokens[self.held : end], *self.guesses]
            return Chunk(self.slot, self.held, tokens, "all", len(self.guesses))
        wanted: Literal["none", "last", "all"] = "last" if end == len(self.tokens) else "none"
        return Chunk(self.slot, self.held, self.tokens[self.held : end], "all" if self._scoring else wanted)

    def take(self, count: int, rows: Floats) -> list[Delta]:
        """The slot holds ``count`` tokens more, and here are the logits that were asked for: pieces of the answer.

        After guesses ``held`` is what the slot is to keep: up to the first that was wrong. Raises EngineError for
        logits that are no numbers, and whatever ThoxError the grammar raises.
        """
        if self.guesses:
            return self._take_guessed(count, rows)
        if self._scoring:
            self._score(rows)
        self.held += count
        if self.held < len(self.tokens):
            return []
        deltas = self._opening()
        if self.room > 0:
            deltas += self._step(rows[-1])
        else:
            deltas.append(self.finish("length"))
        return deltas

    def finish(self, reason: FinishReason) -> Delta:
        """The end of it."""
        self.over = True
        return self.writer.end(reason)

    def finish_at_once(self) -> list[Delta]:
        """All of an answer for which there is nothing to compute."""
        return [*self._opening(), self.finish("length")]

    def _take_guessed(self, count: int, rows: Floats) -> list[Delta]:
        """The row after each token chooses the next one. A guess that is not what was chosen makes the rest void."""
        guesses, self.guesses = self.guesses, []
        self.held += count - len(guesses)
        deltas: list[Delta] = []
        for place, row in enumerate(rows):
            deltas += self._step(row)
            right = place < len(guesses) and self.tokens[-1] == guesses[place]
            self.held += right
            if self.over or not right:
                break
        return deltas

    def _step(self, row: Floats) -> list[Delta]:
        choice = self.sampler.choose(row, None if self.matcher is None else self.matcher.mask())
        self.tokens.append(choice.token)
        if choice.token in self.eos:
            return [self.finish("stop")]
        if self.matcher is not None:
            self.matcher.accept(choice.token)
        delta = self.writer.write(choice.token, None if choice.logprob is None else self._described(choice))
        deltas = [delta] if delta is not None else []
        if self.writer.stopped or (self.matcher is not None and self.matcher.finished):
            deltas.append(self.finish("stop"))
        elif self.chosen >= self.room:
            deltas.append(self.finish("length"))
        return deltas

    def _score(self, rows: Floats) -> None:
        """The row after each token scores the next one of the prompt."""
        if not self._scores:
            first = self.tokens[0]
            text, data = self.vocabulary.token_text(first), self.vocabulary.token_bytes(first)
            self._scores.append(TokenLogprob(first, text, data, None))
        for offset, row in enumerate(rows):
            after = self.held + offset + 1
            if after == len(self._scores) and after < self.prompt and self.score is not None:
                self._scores.append(self._described(scored(row, self.tokens[after], self.score)))

    def _opening(self) -> list[Delta]:
        echo, self.echo = self.echo, None
        if echo is None:
            return []
        return [Delta(echo.index, echo.text, logprobs=tuple(self._scores))]

    def _described(self, choice: Choice) -> TokenLogprob:
        text, data = self.vocabulary.token_text, self.vocabulary.token_bytes
        top = tuple((token, text(token), data(token), value) for token, value in choice.top)
        return TokenLogprob(choice.token, text(choice.token), data(choice.token), choice.logprob, top)
