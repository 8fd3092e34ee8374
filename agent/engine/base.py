"""What an engine is: requests in, text out; and what a runner is: token ids in, logits out. Values and Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "tool_calls"]
CacheType = Literal["f32", "f16", "u8"]  # how a key-value cache keeps its numbers
LoadStage = Literal["reading", "quantising", "compiling"]
Report = Callable[[LoadStage, float], None]  # how far a load is: what it does, and the share of that, 0 to 1
Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]
Logits = Floats  # [rows, vocab_size]
Json = Mapping[str, object]


# --- what is asked -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults are OpenAI's; ``None`` where the model or the context decides."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # 0: all
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None  # how many alternatives beside the chosen token; None: no logprobs at all


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the text of an answer must match. ``json_object`` ignores ``text``."""

    kind: Literal["json_object", "json_schema", "regex", "lark"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that the model's own template turns into a prompt. Messages and tools are in OpenAI's shapes."""

    messages: tuple[Json, ...]
    tools: tuple[Json, ...] = ()
    tool_choice: str = "auto"  # none, auto, required, or function:<name>
    parallel_tool_calls: bool = True
    template_options: Json = field(default_factory=dict)  # e.g. {"enable_thinking": False}


@dataclass(frozen=True, slots=True)
class Infill:
    """Text before and after a gap that the answer fills. A model that knows no gaps goes on from the prefix."""

    prefix: str
    suffix: str


Prompt = str | tuple[int, ...] | Chat | Infill


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a client. It gets ``len(prompts) * n`` choices; choice ``i`` answers ``prompts[i // n]``."""

    id: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = field(default_factory=Sampling)
    grammar: Grammar | None = None
    n: int = 1
    echo: bool = False  # the prompt is given back before its answer, with logprobs where those are asked for
    adapter: str = ""  # which of those that were loaded with the model changes it; empty: none


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts, or token ids, to turn into vectors; or, with a ``query``, documents to score against it."""

    id: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    truncate: bool = False  # False: an input longer than the model's context is an error
    prompt_name: str | None = None  # which of the model's prompts is put before each text
    input_type: str | None = None  # what the texts are; the model's prompt for such, if it has one, is put before them
    normalise: bool = True  # False: vectors as long as the model makes them
    query: str | None = None  # for a reranker, which gives one score from 0 to 1 in place of each vector


# --- what is answered --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer with its natural-log probability, and the likeliest alternatives, best first."""

    token: int
    text: str
    data: bytes  # the token's bytes: part of a character, perhaps
    logprob: float | None  # None: the first token of an echoed prompt, which nothing precedes
    top: tuple[tuple[int, str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. The first piece of each ``index`` carries ``id`` and ``name``."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens, over all choices of a request; ``cached`` of the prompt's were not computed again."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one choice. The last of each choice carries ``finish``; the last of all carries ``usage``, too."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors, [inputs, dimensions], or scores, [inputs, 1]; and how many tokens were read."""

    vectors: Floats
    tokens: int


class Answer(Protocol):
    """An answer as it grows. Not a generator: closing one that never started must cancel, too."""

    def poll(self, timeout: float) -> Delta | None:
        """The next piece, or None when none came in ``timeout`` seconds. Raises ThoxError when the answer broke.

        After the piece that carries ``usage`` there is no further one.
        """
        ...

    def __iter__(self) -> Iterator[Delta]:
        """All pieces, to the last."""
        ...

    def close(self) -> None:
        """Cancel what is left; harmless when nothing is. The slot is free within one step."""
        ...


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine is doing now."""

    model: str
    kind: Literal["text", "embedding", "reranker"]
    context_length: int
    slots: int = 0
    running: int = 0
    waiting: int = 0
    pages: int = 0
    pages_used: int = 0
    fingerprint: str = ""  # changes when weights, quantisation or engine change: OpenAI's system_fingerprint
    last_token_at: float | None = None  # time.monotonic() of the newest token


class Engine(Protocol):
    """One loaded model, ready to answer. Safe to call from many threads."""

    def generate(self, request: Request) -> Answer:
        """Join the waiting line. Raises RequestError for a prompt that cannot be served, OverloadedError when full."""
        ...

    def embed(self, request: EmbedRequest) -> Embeddings: ...

    def status(self) -> EngineStatus: ...

    def close(self) -> None:
        """End every answer with an error and free the memory of the model."""
        ...


# --- the forward pass --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to append to one slot: a prompt, a slice of one, or a single token.

    ``start`` is the position of the first of them, which is how many the slot holds already.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    logits: Literal["none", "last", "all"] = "last"  # after which of the tokens logits are wanted
    guessed: int = 0  # how many of the last tokens are guesses, which ``Runner.settle`` keeps or drops

    @property
    def rows(self) -> int:
        """How many rows of logits that makes: those after the last so many tokens."""
        return {"none": 0, "last": 1, "all": len(self.tokens)}[self.logits]


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How full a key-value cache is. A page holds ``page_tokens`` tokens of one slot."""

    pages: int
    used: int  # held by slots; pages kept only for reuse count as free
    page_tokens: int


class Runner(Protocol):
    """The forward pass of one model. Called by one thread; it owns its key-value cache."""

    @property
    def slots(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        """Open a free slot for a sequence that starts with ``tokens``.

        ``adapter``: the number, from 1, of the adapter that changes the model for this slot; 0: none. Returns how many
        leading tokens the cache holds already, computed with this adapter: at most ``len(tokens) - 1``, since the last
        one must be computed for its logits.
        """
        ...

    def reserve(self, slot: int, length: int) -> bool:
        """Make room for ``length`` tokens in the slot; False, and nothing changed, when the pages have run out."""
        ...

    def forward(self, chunks: Sequence[Chunk]) -> Logits:
        """Append the chunks, at most one to a slot, each within what was reserved.

        One row of logits for each token that asked for them, in the order of the chunks. The array is the runner's own
        and holds until the next call.
        """
        ...

    def settle(self, slot: int, length: int) -> None:
        """Keep the first ``length`` tokens of the slot: what follows of its guessed tokens is dropped.

        Guessed tokens are the slot's own until then, never reused for another sequence; nothing but guesses may follow
        them, and a release drops them. Only they can be dropped: ValueError for a ``length`` before the first of them.
        """
        ...

    def release(self, slot: int) -> None:
        """Close the slot. What it held stays for reuse until the room is needed."""
        ...

    def cache_use(self) -> CacheUse: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Where the tokens of one forward pass belong: the chunks, and for each the cache pages of its slot, in order."""

    chunks: tuple[Chunk, ...]
    pages: tuple[tuple[int, ...], ...]
    page_tokens: int
    copies: tuple[tuple[int, int, int], ...] = ()  # from page, to page, tokens: what a stage copies in its cache first
    adapters: tuple[int, ...] = ()  # the adapter of each chunk, 0 for none; empty: none has one


class Stage(Protocol):
    """A contiguous range of a decoder's layers on one device, with its own part of the key-value cache.

    The first stage takes token ids, [tokens]; the others take the hidden states, [tokens, hidden], that the stage
    before gave. The last stage gives logits, [wanted rows, vocab_size]; the others hidden states, [tokens, hidden].
    """

    def run(self, inputs: Tokens | Floats, batch: Batch) -> Floats: ...

    def close(self) -> None: ...


class Meter(Protocol):
    """Who wants to know how an engine fares. Called from the engine's thread; must be quick."""

    def step(self, model: str, seconds: float, forward_seconds: float, prompt_tokens: int, new_tokens: int) -> None: ...

    def first_token(self, model: str, seconds: float) -> None: ...

    def guessed(self, model: str, source: str, proposed: int, accepted: int) -> None:
        """Speculation: so many tokens of an answer were guessed, and so many of them were what the model said."""
        ...

    def finished(self, model: str, reason: str, usage: Usage) -> None: ...
