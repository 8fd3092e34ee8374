"""What clients send to an encoder, as token ids: prompts, pairs, and what becomes of inputs that are too long. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.engine.base import EmbedRequest
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.tokenizer_frame import Frame
from agent.errors import RequestError

# What clients call the two sides of a search, and the names that models give their prompts for them, best first.
_SIDES = {
    "query": ("query", "search_query"),
    "document": ("document", "passage", "corpus", "search_document"),
}

_LONG_TOKEN = 64  # characters: the texts whose tokens are longer on average are read whole


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """``second``: where token type 1 begins, if it does. ``prompt``: leading tokens that the mean leaves out."""

    tokens: tuple[int, ...]
    second: int | None = None
    prompt: int = 0


class TextEncoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def frame(self) -> Frame: ...

    def encode(self, text: str, special: bool = True) -> Sequence[int]:
        """Token ids; without ``special``, of plain text: nothing is added, and nothing in it is a special token."""
        ...

    def outgrows(self, text: str, most: int) -> bool:
        """Whether a long text has surely more tokens, told without reading much more of it than that."""
        ...


class EncoderIntake:
    """Reads requests for one model. Special tokens are put around texts, never found in them."""

    def __init__(self, name: str, spec: EncoderSpec, tokenizer: TextEncoder) -> None:
        self._name, self._spec, self._tokenizer = name, spec, tokenizer
        self._frame = tokenizer.frame()

    def read(self, request: EmbedRequest) -> list[EncoderInput]:
        """Raises RequestError for an input that is empty, too long, or of the wrong kind for the model."""
        if not request.inputs:
            raise RequestError(
                "input is an empty list", param="input", hint="Give a text, a list of texts or token ids."
            )
        if self._spec.ranks:
            return self._pairs(request)
        if request.query is not None:
            raise RequestError(
                f"{self._name} is an embedding model: it does not rank",
                param="model",
                hint="POST /v1/embeddings turns texts into vectors with it.",
            )
        prompt = self._prompt(request)
        return [self._single(item, prompt, request.truncate) for item in request.inputs]

    # --- one text -------------------------------------------------------------------------------------------------

    def _single(self, item: str | tuple[int, ...], prompt: str, truncate: bool) -> EncoderInput:
        """Token ids that a client gives are taken as they are, special tokens included."""
        if not len(item):
            kind = "string" if isinstance(item, str) else "list of tokens"
            raise RequestError(f"input cannot be an empty {kind}", param="input", hint="Leave empty inputs out.")
        limit = self._spec.context_length
        if not isinstance(item, str):
            self._check_tokens(item)
            self._check_length(len(item), truncate)
            return EncoderInput(item[:limit])
        before, after = self._frame.single
        tokens = self._read(prompt + item, truncate)
        self._check_length(len(before) + len(tokens) + len(after), truncate)
        skipped = 0
        if prompt and not self._spec.prompt_pooled:
            skipped = len(before) + len(self._tokenizer.encode(prompt, special=False))
        return EncoderInput((*before, *tokens[: max(0, limit - len(before) - len(after))], *after), prompt=skipped)

    def _prompt(self, request: EmbedRequest) -> str:
        """As sentence-transformers chooses it: the one that is named, else the default one."""
        prompts, name = self._spec.prompts, request.prompt_name
        if name is not None and name not in prompts:
            raise RequestError(
                f"{self._name} has no prompt {name!r}",
                param="prompt_name",
                hint=f"Its prompts: {', '.join(prompts)}." if prompts else "It has none: leave prompt_name out.",
            )
        kind = request.input_type
        if name is None and kind is not None:
            names = next((names for names in _SIDES.values() if kind in names), (kind,))
            # A prompt for one side alone leaves the other side as it is.
            return next((prompts[name] for name in names if prompts.get(name)), "")
        name = name or self._spec.default_prompt
        return "" if name is None else prompts[name]

    def _check_tokens(self, tokens: tuple[int, ...]) -> None:
        strange = next((token for token in tokens if not 0 <= token < self._spec.vocab_size), None)
        if strange is not None:
            raise RequestError(
                f"{strange} is not a token of {self._name}",
                param="input",
                hint=f"Its tokens are 0 to {self._spec.vocab_size - 1}.",
            )

    def _read(self, text: str, truncate: bool) -> tuple[int, ...]:
        """The tokens of a text; of one that is far too long, its first ones or a refusal."""
        limit = self._spec.context_length
        if truncate:
            begin = text[: limit * _LONG_TOKEN]
            tokens = self._tokenizer.encode(begin, special=False)
            if len(begin) == len(text) or len(tokens) > 2 * limit:  # what is cut off changes nothing of what stays
                return tuple(tokens)
        elif self._tokenizer.outgrows(text, limit):
            self._check_length(None, truncate)
        return tuple(self._tokenizer.encode(text, special=False))

    def _check_length(self, length: int | None, truncate: bool) -> None:
        """``length``: None where it is far more than the model reads."""
        if (length is None or length > self._spec.context_length) and not truncate:
            kind, field = ("A pair", "documents") if self._spec.ranks else ("An input", "input")
            raise RequestError(
                f"{kind} has {'far too many' if length is None else length} tokens; "
                f"{self._name} reads at most {self._spec.context_length}",
                param=field,
                hint='Split the text, or send "truncate": true to take its beginning.',
            )

    # --- pairs ----------------------------------------------------------------------------------------------------

    def _pairs(self, request: EmbedRequest) -> list[EncoderInput]:
        if request.query is None:
            raise RequestError(
                f"{self._name} is a reranker: it makes no vectors",
                param="model",
                hint="POST /v1/rerank sorts documents by how well they answer a query with it.",
            )
        query = self._read(request.query, request.truncate)
        return [self._pair(query, item, request.truncate) for item in request.inputs]

    def _pair(self, query: tuple[int, ...], item: str | tuple[int, ...], truncate: bool) -> EncoderInput:
        if not isinstance(item, str):
            raise RequestError("documents are texts, not token ids", param="documents")
        document = self._read(item, truncate)
        frame = self._frame
        before, between, after = frame.pair
        around = len(before) + len(between) + len(after)
        self._check_length(around + len(query) + len(document), truncate)
        room = max(0, self._spec.context_length - around)
        ours, theirs = longest_first(len(query), len(document), room)
        tokens = (*before, *query[:ours], *between, *document[:theirs], *after)
        return EncoderInput(tokens, None if frame.typed is None else len(before) + ours + frame.typed)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of a pair stay: the longer is cut until both fit or are alike, as the tokenizers library does."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = room - shorter
    return (shorter, longer) if first <= second else (longer, shorter)
