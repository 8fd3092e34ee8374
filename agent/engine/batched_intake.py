"""A request becomes token sequences: in the client's own thread, so that the engine's has nothing to do but compute."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.engine.answer import StreamedAnswer
from agent.engine.base import Chat, Delta, Grammar, Infill, Prompt, Request, Usage
from agent.engine.defaults import OPENAI, SamplingDefaults
from agent.engine.output import OutputParser
from agent.engine.prompt_length import too_long
from agent.engine.sampler import Sampler
from agent.engine.sequence import Matcher, TextStream, TokenSequence, Vocabulary, Writer
from agent.errors import ModelError, RequestError


class Tokens(Vocabulary, Protocol):
    """A model's tokenizer, as far as it is needed here."""

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str, /, special: bool) -> list[int]: ...

    def outgrows(self, text: str, /, most: int) -> bool: ...

    def decode(self, ids: Sequence[int], /) -> str: ...

    def stream(self, prompt_tail: Sequence[int], /) -> TextStream: ...

    def infill(self, prefix: str, suffix: str, /) -> list[int] | None: ...


class Template(Protocol):
    """A model's chat template."""

    def encode(self, chat: Chat, /, most: int) -> list[int]: ...

    def parser(self, chat: Chat, /, prompt: Sequence[int], *, constrained: bool) -> OutputParser: ...

    def grammar(self, chat: Chat, /) -> Grammar | None: ...


class Matchers(Protocol):
    """Compiles grammars against the vocabulary."""

    def matcher(self, grammar: Grammar, /, param: str | None) -> Matcher: ...


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way through the engine: its answer, and one sequence for each choice."""

    id: str
    answer: StreamedAnswer
    sequences: list[TokenSequence]
    n: int
    arrived: float = field(default_factory=time.monotonic)
    started: bool = False  # a sequence has had a slot
    spoke: bool = False  # a token has been chosen
    over: bool = False

    def usage(self) -> Usage:
        """A prompt counts once, however many choices answer it; so does what the cache held of it."""
        firsts = self.sequences[:: self.n]
        return Usage(
            prompt=sum(s.prompt for s in firsts),
            completion=sum(s.chosen for s in self.sequences),
            cached=sum(s.cached or 0 for s in firsts),
            reasoning=sum(s.writer.reasoning_tokens for s in self.sequences),
        )


@dataclass(frozen=True, slots=True)
class Intake:
    """What turns a Request into a Job. Safe to use from many threads."""

    tokenizer: Tokens
    template: Template | None
    grammars: Matchers | None
    vocab_size: int
    limit: int  # tokens of prompt and answer together
    buffer_bytes: int
    defaults: SamplingDefaults = OPENAI
    adapters: Mapping[str, int] = field(default_factory=dict)  # the runner's numbers of them, from 1

    def job(self, request: Request) -> Job:
        """Raises RequestError for what cannot be served."""
        if not request.prompts or request.n < 1:
            raise RequestError("there is nothing to answer", param="n" if request.prompts else "prompt")
        if request.adapter and request.adapter not in self.adapters:
            raise ModelError(
                f"{request.adapter} could not be loaded with its base",
                hint="the device's log says what is wrong with it",
            )
        for token in request.sampling.logit_bias:
            if not 0 <= token < self.vocab_size:
                raise RequestError(
                    f"token {token} is not in the vocabulary of {self.vocab_size} tokens", param="logit_bias"
                )
        request = replace(request, sampling=self.defaults.fill(request.sampling))
        seed = secrets.randbits(63) if request.sampling.seed is None else request.sampling.seed
        sequences: list[TokenSequence] = []
        for prompt in request.prompts:
            tokens = self._tokens(prompt)
            room = self._room(len(tokens), request.sampling.max_tokens)
            first: TokenSequence | None = None
            for _ in range(request.n):
                sequence = self._sequence(request, prompt, tokens, room, len(sequences), seed)
                sequence.after = first
                first = first or sequence
                sequences.append(sequence)
        return Job(request.id, StreamedAnswer(self.buffer_bytes), sequences, request.n)

    def _tokens(self, prompt: Prompt) -> list[int]:
        match prompt:
            case str():
                self._check_length(prompt)
                tokens = self.tokenizer.encode(prompt, special=True)
            case Chat():
                tokens = self._templated().encode(prompt, self.limit)
            case Infill():
                self._check_length(prompt.prefix + prompt.suffix)
                infilled = self.tokenizer.infill(prompt.prefix, prompt.suffix)
                # As other servers do: a model that knows no gaps goes on from the prefix, and the suffix is not heard.
                tokens = infilled or self.tokenizer.encode(prompt.prefix, special=True)
            case _:
                tokens = list(prompt)
                wrong = next((t for t in tokens if not 0 <= t < self.vocab_size), None)
                if wrong is not None:
                    raise RequestError(
                        f"token {wrong} is not in the vocabulary of {self.vocab_size} tokens", param="prompt"
                    )
        if tokens:
            return tokens
        # As OpenAI does it: nothing is the beginning of a document, which is where another one ended.
        if not self.tokenizer.eos_ids:
            raise RequestError("the prompt is empty", param="prompt", hint="give at least one token")
        return [min(self.tokenizer.eos_ids)]

    def _check_length(self, text: str) -> None:
        if self.tokenizer.outgrows(text, self.limit):
            raise too_long(self.limit)

    def _room(self, prompt: int, max_tokens: int | None) -> int:
        """How many tokens may be chosen."""
        if prompt + (max_tokens != 0) > self.limit:
            raise too_long(self.limit, prompt)
        return min(self.limit - prompt, self.limit if max_tokens is None else max_tokens)

    def _sequence(
        self, request: Request, prompt: Prompt, tokens: list[int], room: int, index: int, seed: int
    ) -> TokenSequence:
        sampling = request.sampling
        matcher, parser = None, None
        if isinstance(prompt, Chat):
            template = self._templated()
            forced = template.grammar(prompt)
            matcher = None if forced is None else self._matcher(forced, "tools")
            parser = template.parser(prompt, tokens, constrained=forced is None and request.grammar is not None)
        if matcher is None and request.grammar is not None:
            matcher = self._matcher(request.grammar, None)
        # A raw prompt's text goes on, the answer to a chat begins afresh: it decides about the first space.
        stream = self.tokenizer.stream(() if isinstance(prompt, Chat) else tokens[-1:])
        return TokenSequence(
            tokens=list(tokens),
            prompt=len(tokens),
            room=room,
            eos=frozenset() if sampling.ignore_eos else self.tokenizer.eos_ids,
            sampler=Sampler(sampling, vocab_size=self.vocab_size, seed=seed, choice=index, prompt=tokens),
            writer=Writer(index, stream, sampling.stop, parser),
            vocabulary=self.tokenizer,
            matcher=matcher,
            echo=Delta(index, self._prompt_text(prompt, tokens)) if request.echo else None,
            score=sampling.logprobs if request.echo else None,
            adapter=self.adapters[request.adapter] if request.adapter else 0,
        )

    def _prompt_text(self, prompt: Prompt, tokens: list[int]) -> str:
        match prompt:
            case str():
                return prompt
            case Infill():
                return prompt.prefix
            case _:
                return self.tokenizer.decode(tokens)

    def _templated(self) -> Template:
        if self.template is None:
            raise RequestError(
                "this model has no chat template", param="messages", hint="use /v1/completions with a plain prompt"
            )
        return self.template

    def _matcher(self, grammar: Grammar, param: str | None) -> Matcher:
        if self.grammars is None:
            raise RequestError(
                "this model's tokenizer cannot be held to a grammar",
                param=param or "response_format",
                hint="ask for plain text",
            )
        return self.grammars.matcher(grammar, param)
