"""A completion's answer in OpenAI's shape, ``text_completion``, whole or chunk after chunk."""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from agent.api.render import Choice, Head, Object, finite, usage_object
from agent.engine.base import Delta, TokenLogprob, Usage


def completion_object(head: Head, choices: Sequence[Choice], usage: Usage, *, logprobs: bool) -> Object:
    """The whole answer."""
    rendered: list[Object] = [
        {
            "index": index,
            "text": choice.text,
            "logprobs": _logprobs(choice.logprobs, Offsets()) if logprobs else None,
            "finish_reason": choice.finish or "stop",
        }
        for index, choice in enumerate(choices)
    ]
    return {**head.object("text_completion", rendered), "usage": usage_object(usage)}


def likeliest(choices: Sequence[Choice], group: int, keep: int) -> list[Choice]:
    """Of every ``group`` choices (those of one prompt), the ``keep`` with the highest mean log probability a token."""
    if keep == group:
        return list(choices)
    kept: list[Choice] = []
    for start in range(0, len(choices), group):
        kept += sorted(choices[start : start + group], key=_mean_logprob, reverse=True)[:keep]
    return kept


def _mean_logprob(choice: Choice) -> float:
    known = [token.logprob for token in choice.logprobs if token.logprob is not None]
    return sum(known) / len(known) if known else float("-inf")


class CompletionChunks:
    """A completion's answer as it grows."""

    def __init__(self, head: Head, *, logprobs: bool, usage: bool) -> None:
        self._head, self._logprobs, self._usage = head, logprobs, usage
        self._offsets: defaultdict[int, Offsets] = defaultdict(Offsets)  # by choice

    def of(self, delta: Delta) -> Iterator[Object]:
        """At most one chunk, and the usage after the last."""
        if delta.text or delta.finish or (self._logprobs and delta.logprobs):
            choice: Object = {
                "index": delta.index,
                "text": delta.text,
                "logprobs": _logprobs(delta.logprobs, self._offsets[delta.index]) if self._logprobs else None,
                "finish_reason": delta.finish,
            }
            chunk = self._head.object("text_completion", (choice,))
            if self._usage:
                chunk["usage"] = None
            yield chunk
        if delta.usage is not None and self._usage:
            yield {**self._head.object("text_completion", ()), "usage": usage_object(delta.usage)}


class Offsets:
    """At which character of the text each token of a choice begins; tokens within a character begin where it does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def of(self, tokens: Iterable[TokenLogprob]) -> list[int]:
        """Of the tokens that come next."""
        offsets: list[int] = []
        for token in tokens:
            offsets.append(self._characters)
            self._characters += len(self._decoder.decode(token.data))
        return offsets


def _logprobs(tokens: Sequence[TokenLogprob], offsets: Offsets) -> Object:
    """Nothing precedes the first token of an echoed prompt. OpenAI's type has no null there, so it counts as given:

    0.0, and the sum over all tokens is the log probability of the text after its first token.
    """
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [finite(token.logprob or 0.0) for token in tokens],
        "top_logprobs": [_top(token) for token in tokens] if any(token.top for token in tokens) else None,
        "text_offset": offsets.of(tokens),
    }


def _top(token: TokenLogprob) -> dict[str, float]:
    return {text: finite(logprob) for _, text, _, logprob in token.top}
