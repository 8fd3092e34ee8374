"""A tokenizer, a template, grammars and a meter for tests of the engine. A token is a byte, or what a test says."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.engine.base import Chat, Grammar, Usage
from agent.engine.output import OutputParser
from agent.engine.reasoning import FORMATS
from agent.engine.sampler import Mask
from agent.engine.tool_formats import HERMES


class FakeStream:
    def __init__(self, tokenizer: FakeTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, /) -> str:
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class FakeTokenizer:
    """Token ``i`` is the character ``chr(i + 32)``, unless ``words`` says otherwise."""

    def __init__(self, words: Mapping[int, bytes] | None = None, eos: frozenset[int] = frozenset({0})) -> None:
        self.words = dict(words or {})
        self.eos_ids = eos

    def token_bytes(self, token: int, /) -> bytes:
        return self.words.get(token, chr(token + 32).encode())

    def token_text(self, token: int, /) -> str:
        return self.token_bytes(token).decode("utf-8", "replace")

    def encode(self, text: str, /, special: bool) -> list[int]:
        return [ord(char) - 32 for char in text]

    def outgrows(self, text: str, /, most: int) -> bool:
        return len(text) > 8 * most

    def decode(self, ids: Sequence[int], /) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream(self, prompt_tail: Sequence[int], /) -> FakeStream:
        return FakeStream(self)

    def infill(self, prefix: str, suffix: str, /) -> list[int] | None:
        return None


class FakeTemplate:
    """Messages one after another, reasoning and tools as Qwen writes them; the name of a forced tool is the answer."""

    def encode(self, chat: Chat, /, most: int) -> list[int]:
        return [ord(char) - 32 for message in chat.messages for char in str(message["content"])]

    def parser(self, chat: Chat, /, prompt: Sequence[int], *, constrained: bool) -> OutputParser:
        if constrained:
            return OutputParser()
        tools = HERMES if chat.tools else None
        return OutputParser(tools, ("F", "G"), parallel=chat.parallel_tool_calls, reasoning=FORMATS[0])

    def grammar(self, chat: Chat, /) -> Grammar | None:
        return Grammar("regex", str(chat.tool_choice)) if chat.tool_choice not in ("auto", "none") else None


class FakeMatcher:
    """Allows exactly the tokens of one text, in order."""

    def __init__(self, tokens: Sequence[int], vocab_size: int) -> None:
        self._tokens = list(tokens)
        self._vocab_size = vocab_size

    @property
    def finished(self) -> bool:
        return not self._tokens

    def mask(self) -> Mask:
        mask = np.zeros(self._vocab_size, dtype=np.bool_)
        mask[self._tokens[0]] = True
        return mask

    def accept(self, token: int, /) -> None:
        assert token == self._tokens.pop(0)


@dataclass
class FakeGrammars:
    vocab_size: int

    def matcher(self, grammar: Grammar, /, param: str | None) -> FakeMatcher:
        return FakeMatcher([ord(char) - 32 for char in grammar.text], self.vocab_size)


@dataclass
class FakeMeter:
    steps: list[tuple[int, int]] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    ends: list[tuple[str, Usage]] = field(default_factory=list)
    guesses: list[tuple[str, int, int]] = field(default_factory=list)

    def step(self, model: str, seconds: float, forward_seconds: float, prompt_tokens: int, new_tokens: int) -> None:
        assert 0 <= forward_seconds <= seconds
        self.steps.append((prompt_tokens, new_tokens))

    def first_token(self, model: str, seconds: float) -> None:
        self.firsts.append(seconds)

    def guessed(self, model: str, source: str, proposed: int, accepted: int) -> None:
        assert 0 <= accepted <= proposed
        self.guesses.append((source, proposed, accepted))

    def finished(self, model: str, reason: str, usage: Usage) -> None:
        self.ends.append((reason, usage))
