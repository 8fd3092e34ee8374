"""POST /v1/completions: from its JSON to a Request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.api.schema_json import log_unknown
from agent.api.schema_sampling import (
    MAX_TOKENS,
    MODEL,
    MOST_CHOICES,
    SHARED,
    Delivery,
    N,
    read_grammar,
    read_sampling,
)
from agent.engine.base import Infill, Prompt, Request
from agent.errors import RequestError

Text = str | tuple[int, ...]

_DEFAULT_MAX_TOKENS = 16  # OpenAI's
_MOST_TEXTS = 2048  # OpenAI's bound for embeddings

_TOKEN_ID = schema.integer(0, 2**31 - 1)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], (int, float))


def texts(least: int) -> Reader[tuple[Text, ...]]:
    """A string, strings, token ids, or lists of token ids; each string has at least ``least`` characters."""
    string, ids = schema.string(least), schema.array(_TOKEN_ID, 1)
    one: Reader[Text] = schema.either(
        "a string or a list of token ids", (schema.is_string, string), (schema.is_list, ids)
    )

    def alone(value: Text, _path: str) -> tuple[Text, ...]:
        return (value,)

    return schema.either(
        "a string, a list of strings, a list of token ids, or a list of those",
        (schema.is_string, schema.mapped(string, alone)),
        (_is_ids, schema.mapped(ids, alone)),
        (schema.is_list, schema.array(one, 1, _MOST_TEXTS)),
    )


PROMPT = Field("prompt", texts(0))
SUFFIX = optional("suffix", schema.string(), "the text after the gap that the answer fills")
ECHO = Field("echo", schema.boolean(), False, "give the prompt back before its answer")
BEST_OF = optional("best_of", schema.integer(0, 16), "make so many answers and give back the n likeliest")
LOGPROBS = optional("logprobs", schema.integer(0, 20), "alternatives beside each token; 0: none beside the chosen one")

FIELDS: tuple[Field[object], ...] = (PROMPT, *SHARED, SUFFIX, ECHO, BEST_OF, LOGPROBS)


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A completion request as the engine takes it, and how its answer is to be sent."""

    model: str
    request: Request
    delivery: Delivery
    keep: int  # of the request's n choices for each prompt, the client gets the ``keep`` likeliest
    logprobs: bool  # whether the client asked for them; best_of needs them in any case


def read_completion(body: Json, request_id: str) -> CompletionCall:
    """Raises RequestError that names the field at fault."""
    log_unknown(body, FIELDS)
    model, prompts, n, delivery = MODEL.of(body), PROMPT.of(body), N.of(body), Delivery.of(body)
    candidates = BEST_OF.of(body) or n  # the SDK's own tests send 0
    if candidates < n:
        raise RequestError("'best_of' must not be less than 'n'", param="best_of")
    if candidates > n and delivery.stream:
        raise RequestError("the best of several answers cannot be streamed", param="best_of")
    if len(prompts) * candidates > MOST_CHOICES:
        raise RequestError(f"one request makes at most {MOST_CHOICES} answers", param="prompt")
    longest, logprobs = MAX_TOKENS.of(body), LOGPROBS.of(body)
    sampling = read_sampling(body, _DEFAULT_MAX_TOKENS if longest is None else longest, logprobs)
    if candidates > n and logprobs is None:
        sampling = replace(sampling, logprobs=0)
    request = Request(
        id=request_id,
        prompts=_with_suffix(prompts, SUFFIX.of(body)),
        sampling=sampling,
        grammar=read_grammar(body),
        n=candidates,
        echo=ECHO.of(body),
    )
    return CompletionCall(model, request, delivery, n, logprobs is not None)


def _with_suffix(prompts: tuple[Text, ...], suffix: str | None) -> tuple[Prompt, ...]:
    if not suffix:
        return prompts
    filled: list[Prompt] = []
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise RequestError("'suffix' goes with a prompt of text, not of token ids", param="suffix")
        filled.append(Infill(prompt, suffix))
    return tuple(filled)
