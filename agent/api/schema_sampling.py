"""The fields that chat and completions share: how tokens are chosen, what the text must match, how it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.engine.base import Grammar, Sampling
from agent.errors import RequestError

_LARGEST_ID = 2**31 - 1
MOST_CHOICES = 128  # of one request, over all of its prompts


def _bias(value: Json, path: str) -> dict[int, float]:
    bias: dict[int, float] = {}
    for key, entry in value.items():
        weight = schema.number(-100, 100).read(entry, f"{path}.{key[:40]}")
        if weight == 0:
            continue  # changes nothing, whatever its key is; the SDK's own tests send {"foo": 0}
        if not (key.isascii() and key.isdigit()) or len(key) > 10 or int(key) > _LARGEST_ID:
            raise RequestError(f"'{path}' must have token ids as its keys, not {key[:40]!r}", param=path)
        bias[int(key)] = weight
    return bias


def _stops(value: tuple[str, ...] | str, _path: str) -> tuple[str, ...]:
    return tuple(text for text in ((value,) if isinstance(value, str) else value) if text)


def _top_k(value: int, _path: str) -> int:
    return max(0, value)  # vLLM's clients say -1 for "all"


_SCHEMA_NAME = optional("name", schema.string(1, 128))
_SCHEMA_SCHEMA = optional("schema", schema.mapping(), "the JSON Schema of the answer")
_SCHEMA_STRICT = optional("strict", schema.boolean(), "taken; every answer is held to its schema, strict or not")
_JSON_SCHEMA = (_SCHEMA_NAME, _SCHEMA_SCHEMA, _SCHEMA_STRICT)
_FORMAT_TYPE = Field("type", schema.choice("text", "json_object", "json_schema"))
_FORMAT_SCHEMA = optional(
    "json_schema", schema.mapped(schema.mapping(), lambda value, _path: value, schema.object_schema(_JSON_SCHEMA))
)


def _format(value: Json, path: str) -> Grammar | None:
    kind, inner = _FORMAT_TYPE.of(value, f"{path}."), _FORMAT_SCHEMA.of(value, f"{path}.")
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar("json_object")
    if inner is None:
        raise RequestError(f"'{path}.json_schema' is required", param=f"{path}.json_schema")
    _SCHEMA_NAME.of(inner, f"{path}.json_schema.")
    _SCHEMA_STRICT.of(inner, f"{path}.json_schema.")
    document = _SCHEMA_SCHEMA.of(inner, f"{path}.json_schema.")
    return Grammar("json_object") if document is None else Grammar("json_schema", json.dumps(document))


_STOP: Reader[tuple[str, ...] | str] = schema.either(
    "a string or a list of strings",
    (schema.is_string, schema.string(0, 1000)),
    (schema.is_list, schema.array(schema.string(0, 1000), 0, 16)),
)
_BIAS_SCHEMA: Json = {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}}

MODEL = Field("model", schema.string(1, 300), about="a model of GET /v1/models, or another name for one")
STREAM = Field("stream", schema.boolean(), False, "send the answer piece by piece, as server-sent events")
STREAM_OPTIONS = optional("stream_options", schema.mapping(), 'e.g. {"include_usage": true}')
_INCLUDE_USAGE = Field("include_usage", schema.boolean(), False)
USER = optional("user", schema.string(), "taken and not used")
N = Field("n", schema.integer(1, 16), 1, "how many answers to each prompt")
MAX_TOKENS = optional("max_tokens", schema.integer(0, _LARGEST_ID), "the longest answer")

# Left out, these are as the makers of the model recommend, and where they do not, as OpenAI has them.
TEMPERATURE = optional("temperature", schema.number(0, 2), "0: always the likeliest token")
TOP_P = optional("top_p", schema.number(0, 1))
TOP_K = optional("top_k", schema.mapped(schema.integer(-1, _LARGEST_ID), _top_k), "an extension; 0: all tokens")
MIN_P = optional("min_p", schema.number(0, 1), "an extension: the least probability, as a share of the likeliest's")
SEED = optional("seed", schema.integer(-(2**63), 2**63 - 1), "the same seed and request give the same text")
PRESENCE = Field("presence_penalty", schema.number(-2, 2), 0.0)
FREQUENCY = Field("frequency_penalty", schema.number(-2, 2), 0.0)
REPETITION = optional("repetition_penalty", schema.number(0.1, 10), "an extension")
LOGIT_BIAS = optional("logit_bias", schema.mapped(schema.mapping(), _bias, _BIAS_SCHEMA), "from token id to bias")
STOP = Field("stop", schema.mapped(_STOP, _stops), (), "the answer ends before any of these texts")
IGNORE_EOS = Field("ignore_eos", schema.boolean(), False, "an extension, for measuring: go on to max_tokens")

RESPONSE_FORMAT = optional(
    "response_format",
    schema.mapped(schema.mapping(), _format, schema.object_schema((_FORMAT_TYPE, _FORMAT_SCHEMA))),
    "text, json_object or json_schema",
)
GUIDED_REGEX = optional(
    "guided_regex",
    schema.mapped(schema.string(1, 10_000), lambda text, _path: Grammar("regex", text)),
    "an extension: the answer matches this regular expression",
)
GRAMMAR = optional(
    "grammar",
    schema.mapped(schema.string(1, 100_000), lambda text, _path: Grammar("lark", text)),
    "an extension: the answer matches this grammar, written as for Lark",
)

SHARED: tuple[Field[object], ...] = (
    MODEL,
    STREAM,
    STREAM_OPTIONS,
    USER,
    N,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_P,
    TOP_K,
    MIN_P,
    SEED,
    PRESENCE,
    FREQUENCY,
    REPETITION,
    LOGIT_BIAS,
    STOP,
    IGNORE_EOS,
    RESPONSE_FORMAT,
    GUIDED_REGEX,
    GRAMMAR,
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the client wants its answer sent."""

    stream: bool
    include_usage: bool

    @classmethod
    def of(cls, body: Json) -> Delivery:
        options = STREAM_OPTIONS.of(body)
        usage = options is not None and _INCLUDE_USAGE.of(options, "stream_options.")
        return cls(STREAM.of(body), usage)


def read_sampling(body: Json, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """The sampling of a request; the two fields that chat and completions name differently are given."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=TEMPERATURE.of(body),
        top_p=TOP_P.of(body),
        top_k=TOP_K.of(body),
        min_p=MIN_P.of(body),
        seed=SEED.of(body),
        presence_penalty=PRESENCE.of(body),
        frequency_penalty=FREQUENCY.of(body),
        repetition_penalty=REPETITION.of(body),
        logit_bias=LOGIT_BIAS.of(body) or {},
        stop=STOP.of(body),
        ignore_eos=IGNORE_EOS.of(body),
        logprobs=logprobs,
    )


def read_grammar(body: Json) -> Grammar | None:
    """What the text must match, by whichever of the three fields says so; two of them contradict each other."""
    found = [grammar for field in (RESPONSE_FORMAT, GUIDED_REGEX, GRAMMAR) if (grammar := field.of(body)) is not None]
    if len(found) > 1:
        raise RequestError(
            "only one of response_format, guided_regex and grammar can shape an answer", param="response_format"
        )
    return found[0] if found else None
